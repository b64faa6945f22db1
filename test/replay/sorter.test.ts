import { readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Sorter } from '../../src/replay/sorter.ts';

/** Items that often share their first 8 bytes, or are the beginning of one another. */
const items = fc
  .tuple(fc.constantFrom('aaaaaaaa', 'aaaaaaab', 'zzzzzzzz'), fc.string({ unit: 'binary', maxLength: 20 }))
  .map((parts) => Buffer.from(parts.join('')));

test('what was added comes out in order, as often as it is asked for, whether or not it fits into memory', () => {
  fc.assert(
    fc.property(fc.array(items, { maxLength: 60 }), fc.integer({ min: 1, max: 4_000 }), (all, memory) => {
      using sorter = new Sorter(memory);
      for (const item of all) sorter.add(item);
      const wanted = all.toSorted(Buffer.compare).map(String);
      expect(Array.from(sorter.sorted(), String)).toEqual(wanted);
      expect(Array.from(sorter.sorted(), String)).toEqual(wanted);
    }),
  );
});

test('a hundred thousand numbers in runs of a thousand are merged, and no file is left or seen meanwhile', () => {
  using sorter = new Sorter(10_000);
  const item = Buffer.alloc(8);
  for (let n = 0; n < 100_000; n += 1) {
    item.writeBigUInt64BE(BigInt((n * 7_919) % 100_000));
    sorter.add(item);
  }
  let next = 0n;
  for (const sorted of sorter.sorted()) {
    if (sorted.readBigUInt64BE() !== next) break;
    next += 1n;
  }
  expect(next).toBe(100_000n);
  expect(readdirSync(tmpdir()).filter((name) => name.startsWith('can-swarm-replay-'))).toEqual([]);
});
