import { appendFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { expect, test } from 'vitest';
import { SigningKey } from '../../src/identity/key.ts';
import { closedSegments } from '../../src/log/files.ts';
import { readLog } from '../../src/log/reader.ts';
import { openLog } from '../../src/log/writer.ts';
import { linesOf, logOf, said, temporaryFolder } from '../support/log.ts';

const key = SigningKey.generate();

async function read(path: string, last?: number): Promise<string[]> {
  const lines: string[] = [];
  const options = last === undefined ? {} : { last };
  for await (const { at, bytes } of readLog(path, options))
    lines.push(`${basename(at.file)}:${at.line} ${bytes}`);
  return lines;
}

test('the last lines are those that reading everything ends with, whatever their number and wherever segments end', async () => {
  const path = join(temporaryFolder(), 'swarm.jsonl');
  await using log = await openLog(path, { key, rotateBytes: 3_000 });
  for (let n = 0; n < 20; n += 1) await log.append(said(String(n)));
  expect(closedSegments(path).length).toBeGreaterThan(2);
  const all = await read(path);
  for (let last = 0; last <= 25; last += 1) {
    expect(await read(path, last)).toEqual(last === 0 ? [] : all.slice(-last));
  }
});

test('blank lines do not count, a torn one does, and lines longer than what is read at once are whole', async () => {
  const path = await logOf(3);
  appendFileSync(path, `\n\n"${'x'.repeat(200_000)}"\n\n{"torn":`);
  const all = await read(path);
  expect(all).toHaveLength(5);
  for (let last = 1; last <= 6; last += 1) expect(await read(path, last)).toEqual(all.slice(-last));
});

test('after the last lines come those that are written later, also across a rotation', async () => {
  const path = await logOf(3);
  const [, , third] = linesOf(path);
  await using log = await openLog(path, { key, rotateBytes: 3_000 });
  const stop = new AbortController();
  const seen: string[] = [];
  const following = (async () => {
    for await (const { bytes } of readLog(path, { last: 1, follow: true, signal: stop.signal })) {
      seen.push(bytes.toString());
      if (seen.length === 11) stop.abort();
    }
  })();
  const written: string[] = [];
  for (let n = 0; n < 10; n += 1) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    written.push((await log.append(said(String(n)))).leaf);
  }
  await following;
  expect(closedSegments(path).length).toBeGreaterThan(0);
  expect(seen[0]).toBe(third);
  expect(seen.slice(1).map((line) => /"text":"(\d)"/.exec(line)?.[1])).toEqual([...'0123456789']);
});
