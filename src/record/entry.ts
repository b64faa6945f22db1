/**
 * A line as a leaf of its file's tree: docs/format.md, section 8.
 *
 * The entry is H where the line begins with a header, so that a payload can be withheld without changing the
 * tree; of any other line it is the SHA-256, so that no line is outside the tree.
 */
import { type Sha256Hex, sha256, sha256Hex } from '../base/encoding.ts';
import { isHeaderText } from './header.ts';

const afterHeader = Buffer.from(',"sig_b64":"');

/** Returns the entry of `line`, a line of at least one byte without its LF. */
export function entryOfLine(line: Uint8Array): Buffer {
  const bytes = Buffer.from(line.buffer, line.byteOffset, line.byteLength);
  const end = bytes.indexOf(afterHeader);
  const text = end === -1 ? '' : `${bytes.toString('latin1', 0, end)}}`;
  return isHeaderText(text) ? Buffer.from(text, 'latin1') : sha256(bytes);
}

/** Returns the leaf of `line`: SHA-256(0x00 ‖ entry). */
export function leafOfLine(line: Uint8Array): Sha256Hex {
  return sha256Hex(Buffer.concat([Buffer.of(0), entryOfLine(line)]));
}
