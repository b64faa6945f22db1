/** Several processes on one log that rotates, and one that reads along. */
import { once } from 'node:events';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { closedSegments } from '../../src/log/files.ts';
import { readLog } from '../../src/log/reader.ts';
import { verifyLog } from '../../src/verify/verify.ts';
import { temporaryFolder } from '../support/log.ts';
import { startProgram } from '../support/program.ts';

test('three processes that write one log and rotate it lose nothing, and a live tail sees each line once', async () => {
  const path = join(temporaryFolder(), 'swarm.jsonl');
  const stop = new AbortController();
  const seen: string[] = [];
  const tail = (async () => {
    for await (const { bytes } of readLog(path, { follow: true, signal: stop.signal }))
      seen.push(String(bytes));
  })();
  const writers = [1, 2, 3].map((writer) => {
    const promises = join(path, `../promises-${writer}`);
    return startProgram('test/fixtures/writer.ts', [path, promises, '800', '100', '3', 'os', '30000'], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
  });
  const codes = await Promise.all(writers.map(async (child) => (await once(child, 'close'))[0]));
  expect(codes).toEqual([0, 0, 0]);
  expect(await verifyLog(path)).toMatchObject({ verified: 2_400, bad: 0 });
  expect(closedSegments(path).length).toBeGreaterThan(10);
  await expect.poll(() => seen.length).toBe(2_400);
  stop.abort();
  await tail;
  expect(new Set(seen).size).toBe(2_400);
});

test('reading stops where its signal is aborted, with and without waiting for more', async () => {
  const path = join(temporaryFolder(), 'swarm.jsonl');
  const { openLog } = await import('../../src/log/writer.ts');
  const { SigningKey } = await import('../../src/identity/key.ts');
  const { said } = await import('../support/log.ts');
  await using log = await openLog(path, { key: SigningKey.generate(), durability: 'os' });
  await Promise.all(Array.from({ length: 500 }, (_, index) => log.append(said(`${index}`))));
  for (const follow of [true, false]) {
    const stop = new AbortController();
    let read = 0;
    for await (const _ of readLog(path, { follow, signal: stop.signal })) {
      read += 1;
      if (read === 3) stop.abort();
    }
    expect(read).toBe(3);
  }
});
