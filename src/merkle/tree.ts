/**
 * A Merkle tree over hashes of leaves, as in RFC 6962, section 2.1.
 *
 * Everything here is a function of its arguments: `rootOf` and the two functions that make inclusion paths
 * need every leaf, `rootFromPath` needs no tree at all, `CompactTree` keeps only the right border. Leaves are
 * given as their hashes, SHA-256(0x00 ‖ entry); every hash is 32 bytes. A flush of records is such a tree,
 * and so is a log file.
 */
import { hash } from 'node:crypto';
import { sha256 } from '../base/encoding.ts';

/** The length of every hash here. */
export const hashBytes = 32;

// One node's input, 0x01 ‖ left ‖ right. Nothing here yields between filling and reading it.
const input = Buffer.alloc(1 + 2 * hashBytes);
input[0] = 1;
const leftAt = 1;
const rightAt = 1 + hashBytes;

/** Returns the hash of `input`. */
function hashInput(): string {
  return hash('sha256', input, 'binary');
}

/** Returns the hash of the node above `left` and `right`. */
export function hashNode(left: Uint8Array, right: Uint8Array): Buffer {
  input.set(left, leftAt);
  input.set(right, rightAt);
  return Buffer.from(hashInput(), 'latin1');
}

/**
 * Returns every level of the tree over `leaves`, the leaves first and the root's level last. A node without
 * a right neighbour moves up as it is, which is the RFC's split at the largest power of two.
 */
function levelsOf(leaves: readonly Buffer[]): (readonly Buffer[])[] {
  const levels = [leaves];
  for (let level = leaves; level.length > 1; levels.push(level)) {
    const above: Buffer[] = [];
    let left: Buffer | undefined;
    for (const node of level) {
      if (left === undefined) left = node;
      else {
        above.push(hashNode(left, node));
        left = undefined;
      }
    }
    if (left !== undefined) above.push(left);
    level = above;
  }
  return levels;
}

/** Returns the root of the tree over `leaves`; that of no leaves is the SHA-256 of nothing. */
export function rootOf(leaves: readonly Buffer[]): Buffer {
  return levelsOf(leaves).at(-1)?.[0] ?? sha256(Buffer.alloc(0));
}

function pathWithin(levels: readonly (readonly Buffer[])[], index: number): Buffer[] {
  const path: Buffer[] = [];
  for (const level of levels) {
    const sibling = level[index % 2 === 0 ? index + 1 : index - 1];
    if (sibling !== undefined) path.push(sibling);
    index = Math.floor(index / 2);
  }
  return path;
}

/** Returns the inclusion path of leaf `index`, its sibling first; throws a `RangeError` where there is no such leaf. */
export function inclusionPath(leaves: readonly Buffer[], index: number): Buffer[] {
  if (leaves[index] === undefined) throw new RangeError(`no leaf ${index} in a tree of ${leaves.length}`);
  return pathWithin(levelsOf(leaves), index);
}

/** Returns the root and every leaf's inclusion path: the cost of one tree, not of one for each leaf. */
export function inclusionPaths(leaves: readonly Buffer[]): { root: Buffer; paths: Buffer[][] } {
  const levels = levelsOf(leaves);
  return {
    root: levels.at(-1)?.[0] ?? rootOf([]),
    paths: leaves.map((_, index) => pathWithin(levels, index)),
  };
}

/**
 * Returns the root of a tree of `size` leaves whose leaf `index` is `leaf`, if `path` has the shape of that
 * leaf's inclusion path; `undefined` if it has another. The leaf is proved once the caller trusts that root
 * *and* that size: paths in trees of different sizes can have one shape (RFC 9162, 2.1.3.2).
 */
export function rootFromPath(
  leaf: Uint8Array,
  index: number,
  size: number,
  path: readonly Uint8Array[],
): Buffer | undefined {
  if (!Number.isSafeInteger(index) || !Number.isSafeInteger(size) || index < 0 || index >= size)
    return undefined;
  if (leaf.length !== hashBytes) return undefined;
  let reached: string | undefined; // the node's hash, once there was a step
  let last = size - 1; // index of the level's last node
  for (const sibling of path) {
    if (sibling.length !== hashBytes) return undefined;
    // The last node of a level, where it is a left one, has no sibling: it moves up as it is.
    while (index === last && index % 2 === 0 && last > 0) {
      index /= 2;
      last /= 2;
    }
    if (last === 0) return undefined; // this is the root, and there is path left
    const [nodeAt, siblingAt] = index % 2 === 1 ? [rightAt, leftAt] : [leftAt, rightAt];
    if (reached === undefined) input.set(leaf, nodeAt);
    else input.write(reached, nodeAt, 'latin1');
    input.set(sibling, siblingAt);
    reached = hashInput();
    index = Math.floor(index / 2);
    last = Math.floor(last / 2);
  }
  if (last !== 0) return undefined; // there is tree left
  return reached === undefined ? Buffer.from(leaf) : Buffer.from(reached, 'latin1');
}

/**
 * Returns `row`, hashes one after the other, and the rows of hashes above it: at place `l`, the roots of the
 * complete subtrees of 2^l hashes. A node without a right neighbour has nothing above it.
 */
export function rowsFrom(row: Buffer): Buffer[] {
  const rows = [row];
  for (let below = row; below.length >= 2 * hashBytes; ) {
    const above = Buffer.allocUnsafe(Math.floor(below.length / (2 * hashBytes)) * hashBytes);
    for (let at = 0; at < above.length; at += hashBytes) {
      below.copy(input, leftAt, 2 * at, 2 * (at + hashBytes));
      above.write(hashInput(), at, 'latin1');
    }
    rows.push(above);
    below = above;
  }
  return rows;
}

/** The right border of a tree that grows: enough for its root, at 32 bytes for each level. */
export class CompactTree {
  #size = 0;
  /** At place `l`, the root of a complete subtree of 2^l leaves, where bit `l` of the size is set. */
  readonly #border: (Buffer | undefined)[] = [];

  /** How many leaves were appended. */
  get size(): number {
    return this.#size;
  }

  /** Appends a leaf's hash, which is kept and must not be written to afterwards. */
  append(leaf: Buffer): void {
    let node = leaf;
    let level = 0;
    for (let left = this.#border[0]; left !== undefined; left = this.#border[level]) {
      node = hashNode(left, node);
      this.#border[level] = undefined;
      level += 1;
    }
    this.#border[level] = node;
    this.#size += 1;
  }

  /** Returns the root over all leaves so far. */
  root(): Buffer {
    let root: Buffer | undefined;
    for (const subtree of this.#border) {
      if (subtree === undefined) continue;
      root = root === undefined ? subtree : hashNode(subtree, root);
    }
    return root ?? rootOf([]);
  }
}
