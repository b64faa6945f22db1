import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  checkConsistency,
  checkInclusion,
  proveConsistency,
  proveInclusion,
  type ReadHashes,
  type TreeHead,
  treeRoot,
} from '../../src/merkle/prove.ts';
import { hashNode, inclusionPaths, rootOf } from '../../src/merkle/tree.ts';
import { vectorPath, vectorsAreHere } from '../support/vectors.ts';
import { leavesOf } from './leaves.ts';

const leaves = leavesOf(257);

/** Reads from memory, and refuses what no tree of these leaves has. */
const read: ReadHashes = async (nodes) =>
  nodes.map(({ level, index }) => {
    const start = index * 2 ** level;
    const end = start + 2 ** level;
    if (end > leaves.length) throw new Error(`no node ${index} at level ${level}`);
    return rootOf(leaves.slice(start, end));
  });

const heads: readonly TreeHead[] = Array.from({ length: leaves.length + 1 }, (_, size) => ({
  size,
  root: rootOf(leaves.slice(0, size)),
}));

function head(size: number): TreeHead {
  const found = heads[size];
  if (found === undefined) throw new Error(`no tree of ${size}`);
  return found;
}

const flipped = (bytes: Buffer): Buffer => Buffer.from(bytes).fill((bytes[9] ?? 0) ^ 4, 9, 10);

/** RFC 6962, 2.1.2, word for word. */
function naiveProof(m: number, d: readonly Buffer[], whole = true): Buffer[] {
  if (m === d.length) return whole ? [] : [rootOf(d)];
  let k = 1;
  while (k * 2 < d.length) k *= 2;
  return m <= k
    ? [...naiveProof(m, d.slice(0, k), whole), rootOf(d.slice(k))]
    : [...naiveProof(m - k, d.slice(k), false), rootOf(d.slice(0, k))];
}

const allSizes = Array.from({ length: 101 }, (_, size) => size);
const edgeSizes = [127, 128, 129, 255, 256, 257];

test('the root of a tree is that over its leaves, for every size up to 100 and around 128 and 256', async () => {
  for (const size of [...allSizes, ...edgeSizes]) expect(await treeRoot(size, read)).toEqual(head(size).root);
});

test('a proof of inclusion is the path that the whole tree gives, and holds, for every leaf of those trees', async () => {
  for (const size of [...allSizes, ...edgeSizes]) {
    const { paths } = inclusionPaths(leaves.slice(0, size));
    for (const [index, leaf] of leaves.slice(0, size).entries()) {
      const proof = await proveInclusion(index, size, read);
      if (
        !proof.every((node, at) => paths[index]?.[at]?.equals(node)) ||
        proof.length !== paths[index]?.length
      )
        expect.fail(`leaf ${index} of ${size}`);
      if (!checkInclusion(proof, leaf, index, head(size))) expect.fail(`leaf ${index} of ${size}`);
      if (checkInclusion(proof, leaf, index, { size, root: flipped(head(size).root) }))
        expect.fail('another root');
    }
  }
});

test('a proof of consistency is that of RFC 6962, and holds, for every two of the sizes up to 100', async () => {
  for (const to of allSizes) {
    for (const from of allSizes.slice(1, to + 1)) {
      const proof = await proveConsistency(from, to, read);
      const expected = naiveProof(from, leaves.slice(0, to));
      if (!Buffer.concat(proof).equals(Buffer.concat(expected))) expect.fail(`${from} to ${to}`);
      if (!checkConsistency(proof, head(from), head(to))) expect.fail(`${from} to ${to}`);
    }
  }
});

test('a proof of consistency holds for every size up to 257 against the sizes around 128 and 256', async () => {
  for (const to of edgeSizes) {
    for (let from = 1; from <= to; from++) {
      const proof = await proveConsistency(from, to, read);
      if (!checkConsistency(proof, head(from), head(to))) expect.fail(`${from} to ${to}`);
    }
  }
});

test('a proof of consistency that is changed anywhere, or is for other trees, does not hold', async () => {
  for (const to of allSizes.slice(1, 41)) {
    for (const from of allSizes.slice(1, to + 1)) {
      const proof = await proveConsistency(from, to, read);
      const [old, now] = [head(from), head(to)];
      const holds = (nodes: readonly Uint8Array[], a = old, b = now): boolean =>
        checkConsistency(nodes, a, b);
      const attacks = [
        holds([...proof, old.root]),
        holds([now.root, ...proof]),
        holds(proof, { size: from, root: flipped(old.root) }),
        holds(proof, old, { size: to, root: flipped(now.root) }),
        from < to && holds(proof, now, old),
        from < to && holds(proof, now),
        proof.length > 0 && holds(proof.slice(1)),
        proof.length > 0 && holds(proof.slice(0, -1)),
        ...proof.flatMap((node, at) => [
          holds(proof.with(at, flipped(node))),
          holds(proof.with(at, node.subarray(1))),
          holds(proof.with(at, Buffer.concat([node, node]))),
        ]),
      ];
      expect(attacks, `${from} to ${to}`).not.toContain(true);
    }
  }
});

test('two trees that differ in a leaf that both have are not shown to be consistent by any proof from either', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 257 }).chain((to) =>
        fc.record({
          to: fc.constant(to),
          from: fc.integer({ min: 1, max: to }),
          changed: fc.nat(to - 1),
        }),
      ),
      async ({ to, from, changed }) => {
        fc.pre(changed < from);
        const other = leaves.slice(0, to).with(changed, flipped(head(1).root));
        const forked = { size: to, root: rootOf(other) };
        const readOther: ReadHashes = async (nodes) =>
          nodes.map(({ level, index }) => rootOf(other.slice(index * 2 ** level, (index + 1) * 2 ** level)));
        const mine = await proveConsistency(from, to, read);
        const theirs = await proveConsistency(from, to, readOther);
        return !checkConsistency(mine, head(from), forked) && !checkConsistency(theirs, head(from), forked);
      },
    ),
  );
});

test('what is no place and no size has no proof, and none holds for it', async () => {
  const notSizes = [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53];
  const [leaf = Buffer.alloc(0)] = leaves;
  for (const size of notSizes) {
    await expect(treeRoot(size, read)).rejects.toThrow(RangeError);
    await expect(proveInclusion(0, size, read)).rejects.toThrow(RangeError);
    await expect(proveInclusion(size, 2 ** 53 - 1, read)).rejects.toThrow(RangeError);
    await expect(proveConsistency(size, 2 ** 53 - 1, read)).rejects.toThrow(RangeError);
    await expect(proveConsistency(1, size, read)).rejects.toThrow(RangeError);
    expect(checkInclusion([], leaf, 0, { size, root: leaf })).toBe(false);
    expect(checkInclusion([], leaf, size, { size: 1, root: leaf })).toBe(false);
    expect(checkConsistency([], { size, root: leaf }, { size, root: leaf })).toBe(false);
    expect(checkConsistency([leaf], head(1), { size, root: leaf })).toBe(false);
  }
  await expect(proveInclusion(3, 3, read)).rejects.toThrow('no leaf 3 in a tree of 3');
  await expect(proveConsistency(0, 3, read)).rejects.toThrow(RangeError);
  await expect(proveConsistency(4, 3, read)).rejects.toThrow(RangeError);
  expect(checkConsistency([], head(0), head(0))).toBe(false);
  const short = Buffer.alloc(31);
  expect(checkConsistency([leaf], { size: 1, root: short }, head(2))).toBe(false);
  expect(checkConsistency([leaf], head(1), { size: 2, root: short })).toBe(false);
});

test('a tree of 2^53 − 1 leaves is reckoned without losing bits', async () => {
  const size = Number.MAX_SAFE_INTEGER;
  const leaf = head(1).root;
  const subtrees = [leaf]; // every leaf is the same, and so every node of a level
  for (let level = 1; level <= 52; level++) {
    const below = subtrees.at(-1) ?? leaf;
    subtrees.push(hashNode(below, below));
  }
  const same: ReadHashes = async (nodes) =>
    nodes.map(({ level, index }) => {
      const end = (BigInt(index) + 1n) << BigInt(level);
      const hash = subtrees[level];
      if (hash === undefined || end > BigInt(size)) throw new Error(`no node ${index} at level ${level}`);
      return hash;
    });
  const tree = { size, root: await treeRoot(size, same) };
  for (const index of [0, 1, 2 ** 52 - 1, 2 ** 52, size - 2, size - 1]) {
    expect(checkInclusion(await proveInclusion(index, size, same), leaf, index, tree)).toBe(true);
  }
  for (const from of [1, 2 ** 52 - 1, 2 ** 52, 2 ** 52 + 1, size - 1, size]) {
    const old = { size: from, root: await treeRoot(from, same) };
    expect(checkConsistency(await proveConsistency(from, size, same), old, tree)).toBe(true);
  }
});

test('the hashes for a proof are asked for once, and only those', async () => {
  const asked: number[] = [];
  const counting: ReadHashes = async (nodes) => {
    asked.push(nodes.length);
    return read(nodes);
  };
  await proveInclusion(5, 200, counting);
  await proveConsistency(99, 200, counting);
  await proveConsistency(200, 200, counting);
  expect(asked).toHaveLength(2);
  const tooFew: ReadHashes = async () => [];
  await expect(proveInclusion(5, 200, tooFew)).rejects.toThrow('hashes were asked for, and 0 read');
});

interface Vector {
  readonly proof: readonly string[] | null;
  readonly wantErr: boolean;
  readonly leafIdx: string;
  readonly treeSize: string;
  readonly root: string;
  readonly leafHash: string;
  readonly size1: string;
  readonly size2: string;
  readonly root1: string;
  readonly root2: string;
}

const bytesOf = (text: string): Buffer => Buffer.from(text, 'base64');

/** Returns a number of 64 bits as a number if it is one exactly, so that no vector is met by rounding. */
function exact(text: string): number {
  return BigInt(text) <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(text) : Number.NaN;
}

function readAll(folder: string): { name: string; vector: Vector }[] {
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' });
  return names
    .filter((name) => name.endsWith('.json'))
    .map((name) => {
      const text = readFileSync(join(folder, name), 'utf8');
      return { name, vector: JSON.parse(text.replace(/": *([0-9]+)(?=[,\s}])/g, '": "$1"')) as Vector };
    });
}

const folder = vectorPath('public/transparency-dev-merkle');

test.skipIf(!vectorsAreHere)('proofs hold and fail as the 196 vectors of transparency-dev/merkle say', () => {
  const inclusion = readAll(join(folder, 'inclusion'));
  const consistency = readAll(join(folder, 'consistency'));
  expect(inclusion.length + consistency.length).toBe(196);
  for (const { name, vector } of inclusion) {
    const proof = (vector.proof ?? []).map(bytesOf);
    const tree = { size: exact(vector.treeSize), root: bytesOf(vector.root) };
    const holds = checkInclusion(proof, bytesOf(vector.leafHash), exact(vector.leafIdx), tree);
    expect(holds, name).toBe(!vector.wantErr);
  }
  for (const { name, vector } of consistency) {
    const proof = (vector.proof ?? []).map(bytesOf);
    const from = { size: exact(vector.size1), root: bytesOf(vector.root1) };
    const to = { size: exact(vector.size2), root: bytesOf(vector.root2) };
    expect(checkConsistency(proof, from, to), name).toBe(!vector.wantErr);
  }
});
