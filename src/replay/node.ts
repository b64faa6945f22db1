/**
 * A record as the order knows it: a few facts in a byte string that sorts by time, then leaf.
 *
 * The same record in two files is two nodes that begin with the same bytes; the one that has its payload comes first.
 */
import type { Sha256Hex } from '../base/encoding.ts';

/** What leads to a record: its session's record before it, its cause, and what else it drew on. */
export const edge = { session: 0, cause: 1, ref: 2 } as const;

export interface NodeFacts {
  readonly tsNs: bigint;
  /** 32 bytes. */
  readonly leaf: Buffer;
  readonly isWithheld: boolean;
  readonly version: 1 | 2;
  /** Numbers of a file, a thread and a kind, for whoever gave them. */
  readonly source: number;
  readonly thread: number;
  readonly kind: number;
  /** Where the line stands, and how long it is. */
  readonly line: number;
  readonly offset: number;
  readonly length: number;
  readonly before: Sha256Hex | undefined;
  readonly cause: Sha256Hex | undefined;
  readonly refs: readonly Sha256Hex[];
}

export const leafBytes = 32;
/** How many bytes two nodes share that are the same record: those of its time and leaf. */
export const identityBytes: number = 8 + leafBytes;
const factsBytes = 70;
const edgeBytes = 1 + leafBytes;
/** More than a node takes: 16 refs is the format's limit. */
const longest = factsBytes + 18 * edgeBytes;

const space = Buffer.alloc(longest);

/** Returns the node, a view that holds until the next call. */
export function printNode(facts: NodeFacts): Buffer {
  space.writeBigUInt64BE(facts.tsNs, 0);
  facts.leaf.copy(space, 8);
  space[40] = facts.isWithheld ? 1 : 0;
  space.writeUInt32BE(facts.source, 41);
  space.writeUInt32BE(facts.thread, 45);
  space.writeUInt32BE(facts.kind, 49);
  space.writeUIntBE(facts.line, 53, 6);
  space.writeUIntBE(facts.offset, 59, 6);
  space.writeUInt32BE(facts.length, 65);
  space[69] = facts.version;
  let end = factsBytes;
  const addEdge = (type: number, leaf: Sha256Hex): void => {
    space[end] = type;
    end += 1 + space.write(leaf, end + 1, leafBytes, 'hex');
  };
  if (facts.before !== undefined) addEdge(edge.session, facts.before);
  if (facts.cause !== undefined) addEdge(edge.cause, facts.cause);
  for (const ref of facts.refs) addEdge(edge.ref, ref);
  return space.subarray(0, end);
}

/** Returns what a node says of itself; what leads to it is `edgesOf`. */
export function readNode(node: Buffer): Omit<NodeFacts, 'before' | 'cause' | 'refs'> {
  return {
    tsNs: node.readBigUInt64BE(0),
    leaf: node.subarray(8, 40),
    isWithheld: node[40] === 1,
    source: node.readUInt32BE(41),
    thread: node.readUInt32BE(45),
    kind: node.readUInt32BE(49),
    line: node.readUIntBE(53, 6),
    offset: node.readUIntBE(59, 6),
    length: node.readUInt32BE(65),
    version: node[69] === 1 ? 1 : 2,
  };
}

export function leafOf(node: Buffer): Buffer {
  return node.subarray(8, identityBytes);
}

/** Returns what leads to a node, as it was printed: the type of an edge, and where in `node` its leaf begins. */
export function edgesOf(node: Buffer): { readonly type: number; readonly leafAt: number }[] {
  return Array.from({ length: (node.length - factsBytes) / edgeBytes }, (_, number) => {
    const at = factsBytes + number * edgeBytes;
    return { type: node[at] as number, leafAt: at + 1 };
  });
}

/** Reports whether two nodes, or their beginnings, are of the same record. */
export function isSame(one: Buffer, other: Buffer): boolean {
  return one.compare(other, 0, identityBytes, 0, identityBytes) === 0;
}
