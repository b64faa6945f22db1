/** What dead writers leave, also where one died while it named what another had left. */
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { SigningKey } from '../../src/identity/key.ts';
import { openLog } from '../../src/log/writer.ts';
import { verifyLog } from '../../src/verify/verify.ts';
import { said, temporaryFolder } from '../support/log.ts';

const key = SigningKey.generate();

async function append(path: string, text: string): Promise<void> {
  await using log = await openLog(path, { key });
  await log.append(said(text));
}

test('a recovery that is cut at any of its bytes is made up for by the next writer', async () => {
  const path = join(temporaryFolder(), 'swarm.jsonl');
  await append(path, 'first');
  appendFileSync(path, '{"ts_ns":1730216238594927800,"thread_id":"t","subj');
  const torn = readFileSync(path);
  await append(path, 'second');
  const whole = readFileSync(path);
  for (let end = torn.length; end < whole.length; end += 1) {
    writeFileSync(path, whole.subarray(0, end));
    await append(path, 'third');
    const { bad, counted } = await verifyLog(path);
    expect([end, bad]).toEqual([end, 0]);
    expect(counted.recovered).toBeGreaterThan(0);
  }
});

test('a writer that was there before names what another left behind it and closed with a line feed', async () => {
  const path = join(temporaryFolder(), 'swarm.jsonl');
  await using log = await openLog(path, { key });
  await log.append(said('first'));
  appendFileSync(path, '{"ts_ns":17\n{"ts_ns":18\n');
  await log.append(said('second'));
  expect(await verifyLog(path)).toMatchObject({ bad: 0, verified: 4, counted: { recovered: 2 } });
});

test('a clock that no record can follow is refused, and nothing is written', async () => {
  const path = join(temporaryFolder(), 'swarm.jsonl');
  const log = await openLog(path, { key, clock: () => 2n ** 63n });
  await expect(log.append(said('too late'))).rejects.toMatchObject({ code: 'LOG_WRITE_FAILED' });
  await log.close();
  expect(readFileSync(path).length).toBe(0);
});

test.each([{ rotateBytes: 0 }, { rotateBytes: Number.NaN }, { durability: 'fast' as 'os' }])(
  'a log is not opened with %o',
  async (options) => {
    const path = join(temporaryFolder(), 'swarm.jsonl');
    await expect(openLog(path, { key, ...options })).rejects.toMatchObject({ code: 'USAGE' });
  },
);
