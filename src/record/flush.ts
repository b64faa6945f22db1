/**
 * One signature for a flush of records, and each record's way to it: docs/format.md, section 4.
 *
 * The leaves of 1 to 256 records make a tree; its size and root are signed. A record carries the signature and
 * the inclusion path of its leaf, `i/n/` and base64, or no path where it was alone, and so verifies alone.
 */
import { decodeBase64, encodeBase64, type Sha256Hex } from '../base/encoding.ts';
import { SwarmError } from '../base/errors.ts';
import { type PublicKey, type SigningKey, verifySignature } from '../identity/key.ts';
import { inclusionPaths, rootFromPath } from '../merkle/tree.ts';

/** The most records that one signature serves. */
export const flushRecords = 256;

const hashBytes = 32;
const prefix = 'can-swarm/record/v2\n';
const message = Buffer.alloc(prefix.length + 2 + hashBytes);
message.write(prefix, 'latin1');

/** Returns what is signed. The buffer is the same each time: nothing yields between filling and using it. */
function messageOf(size: number, root: Buffer): Buffer {
  message.writeUInt16BE(size, prefix.length);
  root.copy(message, prefix.length + 2);
  return message;
}

export interface FlushSignature {
  /** 64 bytes in base64: `sig_b64` of every record. */
  readonly signature: string;
  /** For each leaf its `sig_path`; `undefined` where it is alone. */
  readonly paths: readonly (string | undefined)[];
}

/** Signs `leaves`, of 1 to 256 records of one session, in order; throws `RECORD_INVALID` for another number. */
export function signFlush(leaves: readonly Sha256Hex[], key: SigningKey): FlushSignature {
  const size = leaves.length;
  if (size < 1 || size > flushRecords) {
    throw new SwarmError('RECORD_INVALID', `a flush is 1 to ${flushRecords} records, not ${size}`);
  }
  const { root, paths } = inclusionPaths(leaves.map((leaf) => Buffer.from(leaf, 'hex')));
  return {
    signature: encodeBase64(key.sign(messageOf(size, root))),
    paths: size === 1 ? [undefined] : paths.map((path, index) => printPath(index, size, path)),
  };
}

/** Where a record stands in its flush. */
export interface FlushPath {
  readonly index: number;
  readonly size: number;
  /** The inclusion path's nodes, the leaf's sibling first. */
  readonly nodes: readonly Buffer[];
}

const pathGrammar = /^(0|[1-9][0-9]{0,2})\/([1-9][0-9]{0,2})\/(.+)$/;
const pathNodes = Buffer.alloc(8 * hashBytes); // a tree of 256 is 8 levels high

function printPath(index: number, size: number, nodes: readonly Buffer[]): string {
  let end = 0;
  for (const node of nodes) end += node.copy(pathNodes, end);
  return `${index}/${size}/${pathNodes.toString('base64', 0, end)}`;
}

/**
 * Returns what a `sig_path` says, or `undefined` if it does not decode or cannot be one. A record that was alone
 * has none: `parsePath(undefined)` is leaf 0 of 1.
 */
export function parsePath(path: string | undefined): FlushPath | undefined {
  if (path === undefined) return { index: 0, size: 1, nodes: [] };
  const match = pathGrammar.exec(path);
  const index = Number(match?.[1]);
  const size = Number(match?.[2]);
  const bytes = decodeBase64(match?.[3] ?? '');
  // Written so that NaN is refused too.
  if (!(size >= 2 && size <= flushRecords && index < size)) return undefined;
  if (bytes === undefined || bytes.length % hashBytes !== 0) return undefined;
  const nodes: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += hashBytes) nodes.push(bytes.subarray(at, at + hashBytes));
  return { index, size, nodes };
}

const signaturesKept = 1024;
/** Signatures that hold, by key, size, root and signature: a flush costs one Ed25519 check, not one a record. */
const holding = new Set<string>();

/** Reports whether `signature`, by `signer`, is that of a flush in which `path` leads from `leaf` to the root. */
export function checkFlush(
  leaf: Sha256Hex,
  signer: PublicKey,
  signature: string,
  path: string | undefined,
): boolean {
  const place = parsePath(path);
  if (place === undefined) return false;
  const root = rootFromPath(Buffer.from(leaf, 'hex'), place.index, place.size, place.nodes);
  if (root === undefined) return false;
  const flush = `${signer} ${place.size} ${root.toString('latin1')} ${signature}`;
  if (holding.has(flush)) return true;
  const bytes = decodeBase64(signature);
  if (bytes === undefined || !verifySignature(signer, messageOf(place.size, root), bytes)) return false;
  if (holding.size >= signaturesKept) holding.clear(); // the flush at hand, if any, costs one check more
  holding.add(flush);
  return true;
}
