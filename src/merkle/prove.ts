/**
 * Proofs that a leaf is in a tree, and that one tree extends another: RFC 6962, sections 2.1.1 and 2.1.2.
 *
 * The tree may be anywhere. `treeRoot` and the two `prove` functions ask a function for the hashes they need, once
 * and all together; the two `check` functions need no tree at all. A proof is made of what was read, whatever that
 * was: who does not trust the place it was read from checks it against a tree head that is trusted.
 */
import { hashBytes, hashNode, rootFromPath, rootOf } from './tree.ts';

/** A node: the root of the complete subtree over leaves index·2^level … (index+1)·2^level − 1. */
export interface TreeNode {
  readonly level: number;
  readonly index: number;
}

/** Returns the hashes of `nodes`, in their order. */
export type ReadHashes = (nodes: readonly TreeNode[]) => Promise<readonly Buffer[]>;

/** What there is to know about a tree: how many leaves, and the root over them. */
export interface TreeHead {
  readonly size: number;
  readonly root: Buffer;
}

/** Leaves `start` … `end` − 1. */
interface Span {
  readonly start: number;
  readonly end: number;
}

/** A step from the root down: the side that was not taken. */
interface Step extends Span {
  readonly isLeft: boolean;
}

/** A way down the tree: where it ends, and what was left aside on it, the lowest first. */
interface Way {
  readonly span: Span;
  readonly aside: readonly Step[];
}

/** Returns the way from the root of `size` leaves towards leaf `index`, as far as the first span that `ends` it. */
function wayDown(size: number, index: number, ends: (span: Span) => boolean): Way {
  const aside: Step[] = [];
  let span: Span = { start: 0, end: size };
  while (!ends(span)) {
    let half = 1; // the largest power of two that is smaller than the span
    while (half * 2 < span.end - span.start) half *= 2;
    const left = { start: span.start, end: span.start + half };
    const right = { start: left.end, end: span.end };
    const goesLeft = index < left.end;
    aside.push(goesLeft ? { ...right, isLeft: false } : { ...left, isLeft: true });
    span = goesLeft ? left : right;
  }
  return { span, aside: aside.reverse() };
}

/** Returns the way to leaf `index` itself. */
function wayToLeaf(index: number, size: number): Way {
  return wayDown(size, index, ({ start, end }) => end - start === 1);
}

/** Returns the way to the lowest subtree on the right edge of the first `from` leaves that both trees have. */
function wayToEdge(from: number, to: number): Way {
  return wayDown(to, from - 1, ({ end }) => end === from);
}

/** Returns the complete subtrees that make up `span`, from left to right, each the largest that fits. */
function nodesOf({ start, end }: Span): TreeNode[] {
  const nodes: TreeNode[] = [];
  for (let at = start; at < end; ) {
    let level = 0;
    let width = 1;
    for (; width * 2 <= end - at; width *= 2) level += 1;
    nodes.push({ level, index: at / width });
    at += width;
  }
  return nodes;
}

/** Returns the hash over each of `spans`, none of them empty. */
async function hashesOf(spans: readonly Span[], read: ReadHashes): Promise<Buffer[]> {
  const nodes = spans.map(nodesOf);
  const wanted = nodes.flat();
  const hashes = wanted.length === 0 ? [] : await read(wanted);
  if (hashes.length !== wanted.length) {
    throw new RangeError(`${wanted.length} hashes were asked for, and ${hashes.length} read`);
  }
  let taken = 0;
  return nodes.map(({ length }) => {
    const subtrees = hashes.slice(taken, taken + length);
    taken += length;
    return subtrees.reduceRight((right, left) => hashNode(left, right));
  });
}

/** Reports whether `value` can be how many leaves a tree has, or the index of one. */
export function isSize(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}

function isHash(value: Uint8Array): boolean {
  return value.length === hashBytes;
}

/** Returns the root over the first `size` leaves; rejects with a `RangeError` where that is not a size. */
export async function treeRoot(size: number, read: ReadHashes): Promise<Buffer> {
  if (!isSize(size)) throw new RangeError(`${size} is not the size of a tree`);
  const [root] = await hashesOf(size === 0 ? [] : [{ start: 0, end: size }], read);
  return root ?? rootOf([]);
}

/**
 * Returns the proof that leaf `index` is in the tree over the first `size` leaves, the leaf's sibling first; rejects
 * with a `RangeError` where there is no such leaf.
 */
export async function proveInclusion(index: number, size: number, read: ReadHashes): Promise<Buffer[]> {
  if (!isSize(index) || !isSize(size) || index >= size) {
    throw new RangeError(`no leaf ${index} in a tree of ${size}`);
  }
  return hashesOf(wayToLeaf(index, size).aside, read);
}

/** Reports whether `proof` shows that leaf `index` of the tree `head` is `leaf`. */
export function checkInclusion(
  proof: readonly Uint8Array[],
  leaf: Uint8Array,
  index: number,
  head: TreeHead,
): boolean {
  return rootFromPath(leaf, index, head.size, proof)?.equals(head.root) ?? false;
}

/**
 * Returns the proof that the tree over the first `to` leaves extends that over the first `from`; rejects with a
 * `RangeError` where it does not, or where `from` is 0: every tree extends the empty one, and nothing proves it.
 */
export async function proveConsistency(from: number, to: number, read: ReadHashes): Promise<Buffer[]> {
  if (!isSize(from) || !isSize(to) || from === 0 || from > to) {
    throw new RangeError(`a tree of ${to} has no proof that it extends one of ${from}`);
  }
  const { span, aside } = wayToEdge(from, to);
  return hashesOf(span.start === 0 ? aside : [span, ...aside], read);
}

/**
 * Reports whether `proof` shows that the tree `to` extends the tree `from`: the same leaves, then perhaps more.
 * Nothing shows it of an empty tree, which has no leaf to be held to.
 */
export function checkConsistency(proof: readonly Uint8Array[], from: TreeHead, to: TreeHead): boolean {
  if (!isSize(from.size) || !isSize(to.size) || from.size === 0 || from.size > to.size) return false;
  if (from.size === to.size) return proof.length === 0 && from.root.equals(to.root);
  if (![...proof, from.root, to.root].every(isHash)) return false;
  const { span, aside } = wayToEdge(from.size, to.size);
  // A way that ends at the left edge ends at the whole old tree, whose root the proof need not repeat.
  const [start, ...siblings] = span.start === 0 ? [from.root, ...proof] : proof;
  if (start === undefined || siblings.length !== aside.length) return false;
  let before = start;
  let after = start;
  for (const [step, sibling] of siblings.entries()) {
    if (aside[step]?.isLeft) {
      before = hashNode(sibling, before);
      after = hashNode(sibling, after);
    } else after = hashNode(after, sibling); // the old tree has nothing there
  }
  return from.root.equals(before) && to.root.equals(after);
}
