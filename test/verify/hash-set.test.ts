import fc from 'fast-check';
import { expect, test } from 'vitest';
import { sha256 } from '../../src/base/encoding.ts';
import { HashSet } from '../../src/verify/hash-set.ts';

const hashes = fc.array(fc.nat(400).map((n) => sha256(Buffer.from(String(n))).toString('hex')));

test('a set of hashes holds what was added to it, and nothing else', () => {
  fc.assert(
    fc.property(hashes, hashes, (added, asked) => {
      const [set, model] = [new HashSet(), new Set(added)];
      for (const hash of added) set.add(Buffer.from(hash, 'hex'));
      expect(set.size).toBe(model.size);
      for (const hash of [...added, ...asked])
        expect(set.has(Buffer.from(hash, 'hex'))).toBe(model.has(hash));
    }),
  );
});

test('a set that was written and read again is the same, and goes on growing', () => {
  fc.assert(
    fc.property(hashes, hashes, (added, later) => {
      const first = new HashSet();
      for (const hash of added) first.add(Buffer.from(hash, 'hex'));
      const set = HashSet.fromBytes(first.toBytes(), first.secret);
      expect(set.size).toBe(first.size);
      for (const hash of later) set.add(Buffer.from(hash, 'hex'));
      expect(set.size).toBe(new Set([...added, ...later]).size);
      for (const hash of [...added, ...later]) expect(set.has(Buffer.from(hash, 'hex'))).toBe(true);
    }),
  );
});

test('a set grown large has every hash, none of as many others, and 6 bytes for each when written', () => {
  const set = new HashSet();
  const all = Buffer.concat(Array.from({ length: 200_000 }, (_, n) => sha256(Buffer.from(String(n)))));
  for (let at = 0; at < all.length; at += 64) set.add(all, at);
  expect(set.size).toBe(100_000);
  expect(set.toBytes()).toHaveLength(600_000);
  let [had, others] = [0, 0];
  for (let at = 0; at < all.length; at += 64) {
    if (set.has(all, at)) had += 1;
    if (set.has(all, at + 32)) others += 1;
  }
  expect([had, others]).toEqual([100_000, 0]);
});

test('a hash is found wherever it stands in a buffer, and what is 16 bytes long is told apart as well', () => {
  const set = new HashSet();
  const ids = Buffer.concat([sha256(Buffer.from('a')), sha256(Buffer.from('b'))]); // four of 16 bytes
  set.add(ids, 16);
  set.add(ids, 48);
  expect([0, 16, 32, 48].map((at) => set.has(ids, at))).toEqual([false, true, false, true]);
  expect(set.has(Buffer.concat([Buffer.alloc(3), ids.subarray(16, 32)]), 3)).toBe(true);
});

test('what is kept of a hash depends on a secret', () => {
  const [one, other] = [new HashSet(), new HashSet()];
  for (const set of [one, other]) set.add(sha256(Buffer.from('a')));
  expect(one.toBytes()).not.toEqual(other.toBytes());
  expect(HashSet.fromBytes(one.toBytes(), other.secret).has(sha256(Buffer.from('a')))).toBe(false);
});
