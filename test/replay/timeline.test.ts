import { appendFileSync, copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SigningKey } from '../../src/identity/key.ts';
import { Keyring } from '../../src/identity/keyring.ts';
import { closedSegments } from '../../src/log/files.ts';
import { openLog } from '../../src/log/writer.ts';
import { leafOfLine } from '../../src/record/entry.ts';
import { parseLine, printLine } from '../../src/record/line.ts';
import { openTimeline, timeline } from '../../src/replay/timeline.ts';
import { histories, kahn, writeLogs } from '../support/histories.ts';
import { linesOf, logOf, said, temporaryFolder } from '../support/log.ts';
import { version1Line } from '../support/version1.ts';

/** Runs spill to disk at once: 20 records are more than fits. */
const memoryBytes = 4_000;

async function leavesOf(logs: readonly string[], options = {}): Promise<string[]> {
  const leaves: string[] = [];
  for await (const { leaf } of timeline(logs, options)) leaves.push(leaf);
  return leaves;
}

async function inFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'can-swarm-test-'));
  try {
    await use(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

describe('the order', () => {
  test('is that of Kahn over causes, refs and sessions, by whichever files the records are in, in whichever order', async () => {
    const layouts = fc.record({
      /** Which log each session is in. */
      logOf: fc.array(fc.nat(4), { minLength: 5, maxLength: 5 }),
      /** In which order records of several sessions came into one log: shuffled, but for a session's own order. */
      shuffle: fc.array(fc.nat(4), { maxLength: 40 }),
      reversed: fc.boolean(),
      copied: fc.boolean(),
    });
    let waited = 0;
    await fc.assert(
      fc.asyncProperty(histories(), layouts, async ({ records, sessions }, layout) => {
        const wanted = kahn(records).map(({ leaf }) => leaf);
        const byTime = records.toSorted((a, b) => (a.header.tsNs < b.header.tsNs ? -1 : 1));
        if (byTime.some(({ leaf }, index) => leaf !== wanted[index])) waited += 1;
        await inFolder(async (folder) => {
          const logs = Array.from({ length: 5 }, (_, log) => {
            const left = sessions
              .filter((_, session) => layout.logOf[session] === log)
              .map((own) => [...own]);
            const lines = layout.shuffle.flatMap(
              (n) => left[n % Math.max(1, left.length)]?.splice(0, 1) ?? [],
            );
            return [...lines, ...left.flat()];
          });
          const paths = writeLogs(folder, logs);
          if (layout.reversed) paths.reverse();
          if (layout.copied && paths[0] !== undefined) {
            copyFileSync(paths[0], join(folder, 'copy.jsonl'));
            paths.push(join(folder, 'copy.jsonl'), paths[0]);
          }
          expect(await leavesOf(paths, { memoryBytes })).toEqual(wanted);
        });
      }),
      { numRuns: 100 },
    );
    expect(waited).toBeGreaterThan(10); // else the clocks never disagreed with the causes
  });

  test('asks for some memory', async () => {
    for (const none of [0, -1, 0.5, Number.NaN]) {
      await expect(openTimeline([], { memoryBytes: none })).rejects.toMatchObject({ code: 'USAGE' });
    }
  });

  test('names cause and refs by their places', async () => {
    await fc.assert(
      fc.asyncProperty(histories(20), async ({ records }) => {
        await inFolder(async (folder) => {
          const order = kahn(records);
          const placeOf = (leaf: string): number => order.findIndex((record) => record.leaf === leaf);
          const [path] = writeLogs(folder, [records]);
          if (path === undefined) return;
          using opened = await openTimeline([path], { memoryBytes });
          expect(opened.size).toBe(records.length);
          const places = Array.from(opened.places(), ({ index, cause, refs }) => ({ index, cause, refs }));
          expect(places).toEqual(
            order.map(({ header: { cause, refs = [] } }, index) => ({
              index,
              cause: cause === undefined ? undefined : placeOf(cause),
              refs: expect.toSatisfy((found: number[]) => found.join() === refs.map(placeOf).join()),
            })),
          );
        });
      }),
      { numRuns: 40 },
    );
  });
});

describe('a log', () => {
  const key = SigningKey.generate();

  test.each([
    [
      'changed',
      'INVALID',
      2,
      (lines: string[]) => lines.with(1, (lines[1] ?? '').replace('number', 'Number')),
    ],
    ['with a line taken out', 'INVALID', 3, (lines: string[]) => lines.toSpliced(2, 1)],
  ])('%s is refused before anything of it is told', async (_, verdict, line, edit) => {
    const path = await logOf(6, key);
    writeFileSync(
      path,
      edit(linesOf(path))
        .map((text) => `${text}\n`)
        .join(''),
    );
    const good = await logOf(3, key);
    const told: string[] = [];
    const replay = async (): Promise<void> => {
      for await (const { leaf } of timeline([good, path])) told.push(leaf);
    };
    await expect(replay()).rejects.toMatchObject({
      code: 'LOG_REFUSED',
      message: expect.stringMatching(
        new RegExp(
          `^${path} is ${verdict}, and nothing is made of it: ${path}:${line}: [a-z-]+: .*\`swarm verify ${path}\``,
        ),
      ),
    });
    expect(told).toEqual([]);
  });

  test('whose end was cut off, by a checkpoint kept elsewhere, is refused; so is one of strangers', async () => {
    const folder = temporaryFolder();
    const path = join(folder, 'swarm.jsonl');
    const checkpoint = key.derive('can-swarm/checkpoint/v1');
    const sealed: string[] = [];
    await using log = await openLog(path, {
      key,
      seal: { key: checkpoint, state: join(folder, 'state'), onSealed: ({ text }) => sealed.push(text) },
    });
    for (const text of ['one', 'two', 'three']) await log.append(said(text));
    await log.close();
    const lines = linesOf(path);
    const cut = join(folder, 'cut.jsonl');
    writeFileSync(cut, `${lines[0]}\n${lines[1]}\n`);
    const anchors = [{ text: sealed.at(-1) ?? '', source: 'monday', required: true }];
    expect(await leavesOf([path], { anchors })).toHaveLength(3);
    await expect(leavesOf([cut], { anchors })).rejects.toMatchObject({
      code: 'LOG_REFUSED',
      message: expect.stringContaining(`${cut} is TRUNCATED`),
    });
    const keyring = Keyring.from({ version: 1, agents: [] }, 'test');
    await expect(leavesOf([path], { keyring })).rejects.toThrow(/:1: unknown-key: /);
  });

  test('that begins with records of version 1 is told with them, under the leaves of their lines', async () => {
    const old = ['1', '2', '"three"'].map((payload) => version1Line(payload));
    const path = join(temporaryFolder(), 'swarm.jsonl');
    writeFileSync(path, `${old.join('\n')}\n`);
    await using log = await openLog(path, { key });
    const { leaf } = await log.append(said('new'));
    const told: { leaf: string; version: number }[] = [];
    for await (const { leaf, version } of timeline([path])) told.push({ leaf, version });
    expect(told.at(-1)).toEqual({ leaf, version: 2 });
    const wanted = old.map((line) => ({ leaf: leafOfLine(Buffer.from(line)), version: 1 }));
    expect(told.slice(0, -1)).toHaveLength(wanted.length);
    expect(told).toEqual(expect.arrayContaining(wanted));
  });

  test('of several segments is one; a torn line that a later record names is passed over', async () => {
    const path = join(temporaryFolder(), 'swarm.jsonl');
    const log = await openLog(path, { key, rotateBytes: 1_800 });
    const leaves: string[] = [];
    while (closedSegments(path).length < 3) leaves.push((await log.append(said('x'))).leaf);
    await log.close();
    appendFileSync(path, '{"torn":');
    await using next = await openLog(path, { key });
    const { leaf } = await next.append(said('after'));
    const told = await leavesOf([path]);
    expect(told).toHaveLength(leaves.length + 2); // and the recovery
    expect(told.slice(0, leaves.length)).toEqual(leaves);
    expect(told.at(-1)).toBe(leaf);
  });

  test('that grows, and whose growing segment is closed, meanwhile is told as far as it was verified', async () => {
    const path = join(temporaryFolder(), 'swarm.jsonl');
    await using log = await openLog(path, { key, rotateBytes: 4_000 });
    for (let n = 0; n < 3; n += 1) await log.append(said(`${n}`));
    const reading = timeline([path]);
    const first = await reading.next();
    while (closedSegments(path).length < 2) await log.append(said('later'));
    const told = [first.value];
    for await (const record of reading) told.push(record);
    expect(told).toHaveLength(3);
  });

  test('that is changed after it was verified is not told any further', async () => {
    const path = await logOf(3, key);
    using opened = await openTimeline([path]);
    const places = [...opened.places()];
    expect(places).toHaveLength(3);
    writeFileSync(path, readFileSync(path, 'utf8').replace('number 1', 'number 7'));
    const read = async (): Promise<void> => {
      for await (const record of opened.read(places)) expect(record.version).toBe(2);
    };
    await expect(read()).rejects.toMatchObject({
      code: 'LOG_OPEN',
      message: expect.stringContaining(':2 is not what it was'),
    });
  });

  test('that withholds what a copy of it says is told with what was said, whichever comes first', async () => {
    const path = await logOf(3, key);
    const copy = join(temporaryFolder(), 'copy.jsonl');
    const lines = linesOf(path).map((line) => {
      const parsed = parseLine(line);
      if (!parsed.ok) throw new Error(parsed.detail);
      return `${printLine({ ...parsed.record, payload: undefined, payloadIsJson: false })}\n`;
    });
    writeFileSync(copy, lines.join(''));
    for (const logs of [
      [path, copy],
      [copy, path],
    ]) {
      const payloads: (string | undefined)[] = [];
      for await (const { record } of timeline(logs)) payloads.push(record.payload?.toString());
      expect(payloads).toEqual([0, 1, 2].map((n) => JSON.stringify({ text: `number ${n}` })));
    }
    for await (const { record } of timeline([copy])) expect(record.payload).toBeUndefined();
  });
});
