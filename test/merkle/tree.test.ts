import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { sha256 } from '../../src/base/encoding.ts';
import {
  CompactTree,
  hashNode,
  inclusionPath,
  inclusionPaths,
  rootFromPath,
  rootOf,
} from '../../src/merkle/tree.ts';

const leaves = Array.from({ length: 130 }, (_, i) => sha256(Buffer.from(`\0leaf ${i}`)));

/** The definitions of RFC 6962, 2.1 and 2.1.1, word for word. */
function split(n: number): number {
  let k = 1;
  while (k * 2 < n) k *= 2;
  return k;
}

function naiveRoot(d: readonly Buffer[]): Buffer {
  const [only] = d;
  if (only === undefined) return sha256(Buffer.alloc(0));
  if (d.length === 1) return only;
  const k = split(d.length);
  return sha256(Buffer.concat([Buffer.of(1), naiveRoot(d.slice(0, k)), naiveRoot(d.slice(k))]));
}

function naivePath(m: number, d: readonly Buffer[]): Buffer[] {
  if (d.length === 1) return [];
  const k = split(d.length);
  return m < k
    ? [...naivePath(m, d.slice(0, k)), naiveRoot(d.slice(k))]
    : [...naivePath(m - k, d.slice(k)), naiveRoot(d.slice(0, k))];
}

const flipped = (bytes: Buffer): Buffer => {
  const copy = Buffer.from(bytes);
  copy[7] = (copy[7] ?? 0) ^ 1;
  return copy;
};

test('roots are those of the recursive definition, for every size up to 130', () => {
  const tree = new CompactTree();
  expect(tree.root()).toEqual(naiveRoot([]));
  expect(rootOf([])).toEqual(naiveRoot([]));
  for (const [i, leaf] of leaves.entries()) {
    tree.append(leaf);
    const expected = naiveRoot(leaves.slice(0, i + 1));
    expect(rootOf(leaves.slice(0, i + 1))).toEqual(expected);
    expect(tree.root()).toEqual(expected);
    expect(tree.size).toBe(i + 1);
  }
});

test('paths are those of the recursive definition and lead to the root, for every leaf of every size up to 130', () => {
  for (let size = 1; size <= leaves.length; size++) {
    const some = leaves.slice(0, size);
    const { root, paths } = inclusionPaths(some);
    expect(root).toEqual(naiveRoot(some));
    for (const [index, leaf] of some.entries()) {
      const path = paths[index] ?? [];
      if (size <= 40 || index % 7 === 0 || index >= size - 2) {
        expect(path).toEqual(naivePath(index, some));
        expect(inclusionPath(some, index)).toEqual(path);
      }
      if (!rootFromPath(leaf, index, size, path)?.equals(root)) expect.fail(`leaf ${index} of ${size}`);
    }
  }
});

test('a path that is too short, too long, or has a changed node does not lead to the root', () => {
  for (let size = 1; size <= 40; size++) {
    const some = leaves.slice(0, size);
    const { root, paths } = inclusionPaths(some);
    for (const [index, leaf] of some.entries()) {
      const path = paths[index] ?? [];
      expect(rootFromPath(leaf, index, size, [...path, root])).toBeUndefined();
      if (path.length > 0) expect(rootFromPath(leaf, index, size, path.slice(1))).toBeUndefined();
      for (const [at, node] of path.entries()) {
        expect(rootFromPath(leaf, index, size, path.with(at, flipped(node)))).not.toEqual(root);
        expect(rootFromPath(leaf, index, size, path.with(at, node.subarray(1)))).toBeUndefined();
      }
      expect(rootFromPath(flipped(leaf), index, size, path)).not.toEqual(root);
      for (let other = 0; other < size; other++) {
        if (other !== index) expect(rootFromPath(leaf, other, size, path)).not.toEqual(root);
      }
    }
  }
});

test('no path leads anywhere from a place that is not in the tree', () => {
  const leaf = naiveRoot([]);
  for (const [index, size] of [
    [0, 0],
    [1, 1],
    [-1, 1],
    [0.5, 2],
    [Number.NaN, 1],
    [2 ** 53, 2 ** 54],
  ] as const) {
    expect(rootFromPath(leaf, index, size, [])).toBeUndefined();
  }
  expect(rootFromPath(leaf.subarray(1), 0, 1, [])).toBeUndefined();
  expect(() => inclusionPath(leaves, leaves.length)).toThrow(RangeError);
});

test('places past 2^32 are reckoned without losing bits', () => {
  // Leaf 2^40 of a tree of 2^40 + 1: alone on the right, so its path is the root of all before it.
  const [left, right] = [leaves[0] ?? Buffer.alloc(0), leaves[1] ?? Buffer.alloc(0)];
  expect(rootFromPath(right, 2 ** 40, 2 ** 40 + 1, [left])).toEqual(hashNode(left, right));
  const toTheLeft = Array.from({ length: 41 }, () => left);
  expect(rootFromPath(right, 0, 2 ** 40 + 1, toTheLeft)).toBeDefined();
  expect(rootFromPath(right, 0, 2 ** 40 + 1, toTheLeft.slice(1))).toBeUndefined();
});

interface Inclusion {
  readonly leafIdx: number;
  readonly treeSize: number;
  readonly root: string;
  readonly leafHash: string;
  readonly proof: readonly string[] | null;
  readonly wantErr: boolean;
}

const vectors = new URL('../../../shared/vectors/public/transparency-dev-merkle/inclusion/', import.meta.url);

test.skipIf(!existsSync(vectors))(
  'inclusion proofs hold and fail as the vectors of transparency-dev/merkle say',
  () => {
    const files = readdirSync(vectors, { recursive: true, encoding: 'utf8' }).filter((name) =>
      name.endsWith('.json'),
    );
    expect(files.length).toBeGreaterThan(90);
    for (const name of files) {
      const { leafIdx, treeSize, root, leafHash, proof, wantErr }: Inclusion = JSON.parse(
        readFileSync(new URL(name, vectors), 'utf8'),
      );
      const bytes = (text: string): Buffer => Buffer.from(text, 'base64');
      const found = rootFromPath(bytes(leafHash), leafIdx, treeSize, (proof ?? []).map(bytes));
      expect(found?.equals(bytes(root)) ?? false, name).toBe(!wantErr);
    }
  },
);
