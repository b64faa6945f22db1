import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseEntries, printEntries } from '../../src/merkle/bundle.ts';

test('a bundle gives back its entries, and no bytes but its own do', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 20 }), (entries) => {
      const bundle = printEntries(entries);
      const expected = entries.map((entry) => Buffer.from(entry));
      expect(parseEntries(bundle, entries.length)).toEqual(expected);
      expect(parseEntries(bundle, entries.length + 1)).toBeUndefined();
      if (entries.length > 0) {
        expect(parseEntries(bundle, entries.length - 1)).toBeUndefined();
        expect(parseEntries(bundle.subarray(0, -1), entries.length)).toBeUndefined();
      }
      expect(parseEntries(Buffer.concat([bundle, Buffer.of(0)]), entries.length)).toBeUndefined();
    }),
  );
});

test('an entry may have 65,535 bytes and no more', () => {
  const longest = Buffer.alloc(65_535, 7);
  expect(printEntries([longest]).subarray(0, 3)).toEqual(Buffer.of(0xff, 0xff, 7));
  expect(parseEntries(printEntries([longest]), 1)).toEqual([longest]);
  expect(() => printEntries([Buffer.alloc(65_536)])).toThrow(RangeError);
});
