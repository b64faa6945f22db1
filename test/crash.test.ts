/** Writers that die, and a disk that fills: what was promised is on the log, whatever else is. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { closeSync, cpSync, existsSync, fstatSync, openSync, readFileSync, readSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { expect, onTestFinished, test } from 'vitest';
import { SigningKey } from '../src/identity/key.ts';
import { openLog } from '../src/log/writer.ts';
import { parseLine } from '../src/record/line.ts';
import { verifyLog } from '../src/verify/verify.ts';
import { linesOf, said, temporaryFolder } from './support/log.ts';
import { brokenPromises, flushes, sealingWriter, toldIn } from './support/promises.ts';
import { canMount, smallDisk } from './support/small-disk.ts';

const project = join(import.meta.dirname, '..');

interface Writer {
  readonly child: ChildProcessByStdio<null, null, Readable>;
  /** Returns the leaves of the records that were promised to be on disk. */
  readonly promised: () => string[];
  readonly ended: Promise<{ readonly code: number | null; readonly errors: string }>;
}

/** Starts test/fixtures/writer.ts. */
function startWriter(path: string, args: readonly (number | string)[]): Writer {
  const program = join(project, 'test/fixtures/writer.ts');
  const promises = join(temporaryFolder(), 'promises');
  const line = ['--import', 'tsx', program, path, promises, ...args.map(String)];
  const child = spawn(process.execPath, line, { cwd: project, stdio: ['ignore', 'ignore', 'pipe'] });
  onTestFinished(() => void child.kill('SIGKILL'));
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  const ended = new Promise<{ code: number | null; errors: string }>((resolve) => {
    child.on('close', (code) => resolve({ code, errors }));
  });
  return { child, promised: () => (existsSync(promises) ? linesOf(promises) : []), ended };
}

/** Returns the leaves of a log's whole lines. */
function leavesOf(path: string): Set<string> {
  return new Set(
    linesOf(path).flatMap((line) => {
      const parsed = parseLine(line);
      return parsed.ok ? [parsed.record.leaf] : [];
    }),
  );
}

test('four processes write one log while a fifth is killed in the middle of large flushes: nothing promised is lost', async () => {
  const path = join(temporaryFolder(), 'swarm.jsonl');
  const steady = [1, 2, 3, 4].map(() => startWriter(path, [5_000, 100, 32]));
  const killed: Writer[] = [];
  for (let round = 0; round < 10; round += 1) {
    const writer = startWriter(path, [100_000, 4_000_000, 2, 'os']); // without fsync it spends its time in `write`
    killed.push(writer);
    while (writer.promised().length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    waitForHalfALine(path);
    writer.child.kill('SIGKILL');
    await writer.ended;
  }
  expect(await Promise.all(steady.map(({ ended }) => ended))).toEqual(Array(4).fill({ code: 0, errors: '' }));
  await using last = await openLog(path, { key: SigningKey.generate() }); // names what the last one killed left
  await last.append(said('the end'));

  const promised = [...steady, ...killed].flatMap((writer) => writer.promised());
  expect(promised.length).toBeGreaterThan(20_000);
  const leaves = leavesOf(path);
  expect(promised.filter((leaf) => !leaves.has(leaf))).toEqual([]);
  const report = await verifyLog(path);
  expect(report.findings).toEqual([]);
  expect(report.counted.recovered).toBeGreaterThan(0); // else no writer was killed where it hurts
  expect(report.counted.recovered).toBe(
    linesOf(path).filter((line) => line.includes('"LOG.RECOVER"')).length,
  );
});

/** Returns as soon as the file does not end with a line feed: somebody is writing. After half a second, anyway. */
function waitForHalfALine(path: string): void {
  const fd = openSync(path, 'r');
  const last = Buffer.alloc(1);
  const until = performance.now() + 500;
  do readSync(fd, last, 0, 1, fstatSync(fd).size - 1);
  while (last[0] === 0x0a && performance.now() < until);
  closeSync(fd);
}

// Each file call of it in turn: test/long/faults.test.ts.
test.each(flushes.map((_, index) => index + 1))(
  'a writer that is killed while it seals its flush %i, or just after, lost nothing promised, and the next seal extends the last',
  async (count) => {
    const path = join(temporaryFolder(), 'log/swarm.jsonl');
    const child = spawn(process.execPath, sealingWriter(path), {
      stdio: ['ignore', 'pipe', 'inherit', 'pipe'],
    });
    onTestFinished(() => void child.kill('SIGKILL'));
    child.stdio[3]?.on('error', () => {}); // killed
    (child.stdio[3] as Writable).end('\n');
    let output = '';
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      if (output.split('{"acknowledged"').length > count) child.kill('SIGKILL');
    });
    await new Promise((resolve) => child.on('close', resolve));
    const told = toldIn(output);
    expect(told.filter(({ acknowledged }) => acknowledged !== undefined).length).toBeGreaterThanOrEqual(
      count,
    );
    expect(await brokenPromises(path, told)).toEqual([]);
  },
);

test.skipIf(!canMount)('a disk that fills loses nothing promised, and says that it is full', async () => {
  await using disk = await smallDisk(1);
  const path = join(disk.path, 'swarm.jsonl');
  const writer = startWriter(path, [100_000, 700, 16]);
  const { code, errors } = await writer.ended;
  const promised = writer.promised();
  expect(code).toBe(1);
  expect(errors).toMatch(
    /^SwarmError: cannot write the log \S+swarm\.jsonl: (only \d+ of \d+ bytes were written; is the disk full\?|ENOSPC: no space left on device, write); it accepts nothing more until it is opened again$/m,
  );
  expect(promised.length).toBeGreaterThan(300);
  const leaves = leavesOf(path);
  expect(promised.filter((leaf) => !leaves.has(leaf))).toEqual([]);
  const copy = join(temporaryFolder(), 'swarm.jsonl');
  cpSync(path, copy);
  const before = readFileSync(copy);
  await using again = await openLog(copy, { key: SigningKey.generate() });
  await again.append(said('there is room again'));
  expect(readFileSync(copy).subarray(0, before.length)).toEqual(before); // nobody truncates
  expect(await verifyLog(copy)).toMatchObject({ bad: 0 });
});
