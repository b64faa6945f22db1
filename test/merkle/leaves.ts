/** Leaves to build trees of. */
import { sha256 } from '../../src/base/encoding.ts';

/** Returns the leaf of an entry: RFC 6962, section 2.1. */
export function leafOf(entry: Uint8Array): Buffer {
  return sha256(Buffer.concat([Buffer.of(0), entry]));
}

const made: Buffer[] = [];

/** Returns `count` leaves, always the same. */
export function leavesOf(count: number): readonly Buffer[] {
  while (made.length < count) made.push(leafOf(Buffer.from(`entry ${made.length}`)));
  return made.slice(0, count);
}
