import { expect, test } from 'vitest';
import { Chance } from '../../src/handler/chance.ts';
import { SigningKey } from '../../src/identity/key.ts';
import { openLog } from '../../src/log/writer.ts';
import type { SignedRecord } from '../../src/record/signed.ts';
import { said, temporaryFolder } from '../support/log.ts';

class OfDelivery extends Chance {}

async function recordsOf(count: number): Promise<SignedRecord[]> {
  const log = await openLog(`${temporaryFolder()}/swarm.jsonl`, { key: SigningKey.generate() });
  const records = await Promise.all(Array.from({ length: count }, (_, at) => log.append(said(`${at}`))));
  await log.close();
  return records;
}

test('each draw is another one, the same each time, and of its delivery alone', async () => {
  const [one, other] = await recordsOf(2);
  if (one === undefined || other === undefined) throw new Error('no records');
  const draws = (record: SignedRecord): unknown[] => {
    const chance = new OfDelivery(record);
    return Array.from({ length: 50 }, (_, at) => (at % 2 === 0 ? chance.random() : chance.uuid()));
  };
  expect(new Set([...draws(one), ...draws(other)]).size).toBe(100);
  expect(draws(one)).toEqual(draws(one));
});

test('numbers are spread from 0 to below 1, UUIDs are of version 8, the time is that of the delivery', async () => {
  const [record] = await recordsOf(1);
  if (record === undefined) throw new Error('no record');
  const chance = new OfDelivery(record);
  const numbers = Array.from({ length: 2_000 }, () => chance.random());
  expect(Math.min(...numbers)).toBeGreaterThanOrEqual(0);
  expect(Math.max(...numbers)).toBeLessThan(1);
  for (let tenth = 0; tenth < 10; tenth += 1) {
    const there = numbers.filter((number) => Math.floor(number * 10) === tenth).length;
    expect(there).toBeGreaterThan(100); // 200 are expected; so few come once in 10^14
  }
  expect(chance.uuid()).toMatch(/^[\da-f]{8}-[\da-f]{4}-8[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/);
  expect(chance.now()).toBe(Number(record.header.tsNs / 1_000_000n));
});
