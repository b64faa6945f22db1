import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Sha256Hex, sha256Hex, zeroHash } from '../../src/base/encoding.ts';
import { SigningKey } from '../../src/identity/key.ts';
import { rootOf } from '../../src/merkle/tree.ts';
import { checkFlush, parsePath, signFlush } from '../../src/record/flush.ts';
import { leafOf, printHeader } from '../../src/record/header.ts';
import { key, otherKey } from './arbitrary.ts';
import { recordVectors } from './vectors.ts';

const leaves = Array.from({ length: 256 }, (_, i) => sha256Hex(`leaf ${i}`));
const at = <Item>(items: readonly Item[], index: number): Item => {
  const item = items[index];
  if (item === undefined) throw new Error(`nothing at ${index}`);
  return item;
};

test('every record of a flush of any size from 1 to 256 leads to its signature', () => {
  for (let size = 1; size <= 256; size++) {
    const some = leaves.slice(0, size);
    const { signature, paths } = signFlush(some, key);
    for (const [index, leaf] of some.entries()) {
      if (!checkFlush(leaf, key.publicKey, signature, paths[index])) expect.fail(`${index} of ${size}`);
      const place = parsePath(paths[index]);
      if (place?.index !== index || place.size !== size) expect.fail(`${index} of ${size} is misplaced`);
    }
    expect(paths[0] === undefined).toBe(size === 1);
  }
});

test('a record with a wrong index, size, node, leaf or key does not, whatever the size of its flush', () => {
  const sizes = fc.integer({ min: 2, max: 256 });
  fc.assert(
    fc.property(sizes, fc.nat(), fc.nat(), fc.nat(), (size, pickRecord, pickBit, pickOther) => {
      const some = leaves.slice(0, size);
      const { signature, paths } = signFlush(some, key);
      const index = pickRecord % size;
      const [leaf, path] = [at(some, index), paths[index] ?? ''];
      const nodes = path.slice(path.lastIndexOf('/') + 1);
      const bytes = Buffer.from(nodes, 'base64');
      const bit = pickBit % (bytes.length * 8);
      const changed = Buffer.from(bytes);
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      const otherIndex = (index + 1 + (pickOther % (size - 1))) % size;
      const otherSize = size === 256 ? 255 : size + 1;
      const holds = (leafHeld: Sha256Hex, pathHeld: string | undefined, signer = key.publicKey): boolean =>
        checkFlush(leafHeld, signer, signature, pathHeld);
      expect(holds(leaf, path)).toBe(true);
      expect(holds(leaf, `${otherIndex}/${size}/${nodes}`)).toBe(false);
      expect(holds(leaf, `${index}/${otherSize}/${nodes}`)).toBe(false);
      expect(holds(leaf, `${index}/${size}/${changed.toString('base64')}`)).toBe(false);
      expect(holds(leaf, `${index}/${size}/${bytes.subarray(32).toString('base64')}`)).toBe(false);
      expect(
        holds(leaf, `${index}/${size}/${Buffer.concat([bytes, bytes.subarray(0, 32)]).toString('base64')}`),
      ).toBe(false);
      expect(holds(leaf, undefined)).toBe(false);
      expect(holds(at(some, otherIndex), path)).toBe(false);
      expect(holds(leaf, path, otherKey.publicKey)).toBe(false);
    }),
    { numRuns: 150 },
  );
});

test('a root cannot be passed off as the leaf of a flush of one', () => {
  const { signature } = signFlush(leaves.slice(0, 4), key);
  const root = rootOf(leaves.slice(0, 4).map((leaf) => Buffer.from(leaf, 'hex')));
  expect(checkFlush(root.toString('hex') as Sha256Hex, key.publicKey, signature, undefined)).toBe(false);
});

describe('a path is not one', () => {
  const { signature, paths } = signFlush(leaves.slice(0, 3), key);
  const path = paths[0] ?? '';
  const nodes = path.slice('0/3/'.length);
  const refused: Record<string, string> = {
    'with a leading zero': `00/3/${nodes}`,
    'with a leading zero in its size': `0/03/${nodes}`,
    'of a flush of one': `0/1/${nodes}`,
    'of a flush of one, without nodes': '0/1/',
    'of a flush of none': `0/0/${nodes}`,
    'of a flush of 257': `0/257/${nodes}`,
    'past the flush': `3/3/${nodes}`,
    'without nodes': '0/3/',
    'with a node of 31 bytes': `0/3/${Buffer.from(nodes, 'base64').subarray(1).toString('base64')}`,
    'with stray bits in its base64': `0/3/${nodes.replace(/.==?$/, (end) => (end.startsWith('B') ? 'C' : 'B') + end.slice(1))}`,
    'without its padding': `0/3/${nodes.replace(/=+$/, '')}`,
    'in base64url': `0/3/${nodes.slice(0, -4)}-_==`,
    'with a sign': `+0/3/${nodes}`,
    'with a line feed': `0/3/${nodes}\n`,
    'that is empty': '',
  };

  test.each(Object.entries(refused))('%s', (_, text) => {
    expect(checkFlush(at(leaves, 0), key.publicKey, signature, path)).toBe(true);
    expect(checkFlush(at(leaves, 0), key.publicKey, signature, text)).toBe(false);
  });
});

test('a signature holds in its one spelling only', () => {
  const { signature } = signFlush(leaves.slice(0, 1), key);
  const check = (text: string): boolean => checkFlush(at(leaves, 0), key.publicKey, text, undefined);
  expect(check(signature)).toBe(true);
  const stray = signature.replace(/.==$/, (end) => `${String.fromCharCode(end.charCodeAt(0) + 1)}==`);
  for (const other of [stray, signature.slice(0, -2), ` ${signature}`, `${signature}\n`, '']) {
    expect(check(other)).toBe(false);
  }
});

test('what does not hold is not remembered as holding, and what holds still does after thousands of others', () => {
  const one = signFlush(leaves.slice(0, 2), key);
  const wrong = signFlush(leaves.slice(0, 2), otherKey);
  for (let again = 0; again < 3; again++) {
    expect(checkFlush(at(leaves, 0), key.publicKey, wrong.signature, one.paths[0])).toBe(false);
    expect(checkFlush(at(leaves, 0), key.publicKey, one.signature, one.paths[0])).toBe(true);
  }
  for (let i = 0; i < 2500; i++) {
    const leaf = sha256Hex(`another ${i}`);
    expect(checkFlush(leaf, key.publicKey, signFlush([leaf], key).signature, undefined)).toBe(true);
  }
  expect(checkFlush(at(leaves, 0), key.publicKey, one.signature, one.paths[0])).toBe(true);
  expect(checkFlush(at(leaves, 0), key.publicKey, wrong.signature, one.paths[0])).toBe(false);
});

test('a flush is not empty and not of more than 256 records', () => {
  expect(() => signFlush([], key)).toThrow(expect.objectContaining({ code: 'RECORD_INVALID' }));
  expect(() => signFlush([...leaves, zeroHash], key)).toThrow(
    expect.objectContaining({ code: 'RECORD_INVALID' }),
  );
});

describe.skipIf(recordVectors === undefined)('the trees of a second implementation', () => {
  const planner = SigningKey.fromSeed(
    Buffer.from(recordVectors?.keys.planner.seed_hex ?? '00'.repeat(32), 'hex'),
  );

  /** The records that the vectors' flushes are of: each a nanosecond later, with its number as payload. */
  function leavesOf(size: number): Sha256Hex[] {
    const made: Sha256Hex[] = [];
    for (let n = 0; n < size; n++) {
      const header = {
        tsNs: 1730216238594927800n + BigInt(n),
        threadId: 'demo-thread',
        subject: 'thread.demo-thread.planner',
        kind: 'BUS.PUBLISH',
        payloadHash: sha256Hex(`{"n":${n}}`),
        version: 2,
        session: '00112233445566778899aabbccddeeff',
        seq: n,
        prev: made.at(-1) ?? zeroHash,
        signer: planner.publicKey,
      };
      made.push(leafOf(printHeader(header)));
    }
    return made;
  }

  test.each(recordVectors?.trees ?? [])(
    'a flush of $size has the root and the paths that it has there',
    (tree) => {
      const made = leavesOf(tree.size);
      expect(rootOf(made.map((leaf) => Buffer.from(leaf, 'hex'))).toString('hex')).toBe(tree.root);
      expect(sha256Hex(signFlush(made, planner).paths.join('\n'))).toBe(tree.paths_sha256);
    },
  );
});
