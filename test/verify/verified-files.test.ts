import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { SigningKey } from '../../src/identity/key.ts';
import { closedSegments } from '../../src/log/files.ts';
import { openLog } from '../../src/log/writer.ts';
import { VerifiedFiles } from '../../src/verify/verified-files.ts';
import { verifyLog } from '../../src/verify/verify.ts';
import { logOf, said, temporaryFolder } from '../support/log.ts';

const key = SigningKey.generate();

async function linesAfter(path: string, change: () => void | Promise<void>): Promise<string[]> {
  const { trees } = await verifyLog(path);
  await change();
  using files = new VerifiedFiles(path, trees);
  const lines: string[] = [];
  for await (const { bytes, file, line } of files.lines()) lines.push(`${file}:${line}: ${bytes}`);
  return lines;
}

test('what was verified is read again, blank lines counted, and nothing that came later', async () => {
  const path = await logOf(3, key);
  const before = readFileSync(path, 'utf8').trimEnd().split('\n');
  writeFileSync(path, `\n${before.join('\n\n')}\n`);
  const lines = await linesAfter(path, async () => {
    await using log = await openLog(path, { key });
    await log.append(said('later'));
  });
  expect(lines).toEqual(before.map((line, index) => `${path}:${2 * index + 2}: ${line}`));
});

test('segments are read in their order, also where the growing one was closed and another begun', async () => {
  const path = join(temporaryFolder(), 'swarm.jsonl');
  await using log = await openLog(path, { key, rotateBytes: 1_800 });
  while (closedSegments(path).length < 2) await log.append(said('x'));
  await log.append(said('last'));
  const texts = [...closedSegments(path), path].map((file) => readFileSync(file, 'utf8'));
  const before = texts.join('').trimEnd().split('\n');
  const lines = await linesAfter(path, async () => {
    while (closedSegments(path).length < 4) await log.append(said('later'));
  });
  expect(lines.map((line) => line.replace(/^.*?: /, ''))).toEqual(before);
});

test.each([
  [
    'changed',
    (path: string) =>
      writeFileSync(path, readFileSync(path, 'utf8').replace('"thread_id":"t"', '"thread_id":"u"')),
  ],
  [
    'cut off',
    (path: string) => writeFileSync(path, readFileSync(path, 'utf8').split('\n').slice(0, 2).join('\n')),
  ],
  [
    'put in another order',
    (path: string) =>
      writeFileSync(path, `${readFileSync(path, 'utf8').trimEnd().split('\n').toReversed().join('\n')}\n`),
  ],
  ['moved away', (path: string) => renameSync(path, `${path}.moved`)],
])('a log that was %s since is not taken for the one that was verified', async (_, change) => {
  const path = await logOf(3, key);
  await expect(linesAfter(path, () => change(path))).rejects.toMatchObject({ code: 'LOG_OPEN' });
});

test('a segment that is gone is named', async () => {
  const path = join(temporaryFolder(), 'swarm.jsonl');
  await using log = await openLog(path, { key, rotateBytes: 1_800 });
  while (closedSegments(path).length < 2) await log.append(said('x'));
  await log.append(said('last'));
  const gone = linesAfter(path, () => rmSync(closedSegments(path)[0] ?? ''));
  await expect(gone).rejects.toMatchObject({
    code: 'LOG_OPEN',
    message: expect.stringContaining('verify it again'),
  });
});
