/**
 * A payload in its line: as it is where it is one JSON text, else in base64 (docs/format.md, section 2).
 *
 * The text is checked byte by byte and nothing is built from it. `JSON.parse` would need some fifty bytes of
 * memory for each `{}` of a hostile payload, 3 GB for the largest, and a verifier that dies has not answered.
 */
import { isUtf8 } from 'node:buffer';
import { endOfScalar, endOfString } from './json.ts';

/** The largest payload of a record. */
export const payloadBytes: number = 64 << 20;

/** How deep arrays and objects may stand in each other. */
export const jsonNesting = 512;

const [comma, colon, quote] = [0x2c, 0x3a, 0x22];
const [openArray, openObject, closeObject] = [0x5b, 0x7b, 0x7d];

/** For each level that is open, the byte that closes it. Nothing yields between filling and reading it. */
const closers = new Uint8Array(jsonNesting);

/**
 * Reports whether `bytes` can stand in a line as they are: one JSON text (RFC 8259), valid UTF-8 without a byte
 * order mark, no raw LF or CR, nested at most 512 deep.
 */
export function isJsonText(bytes: Uint8Array): boolean {
  return isUtf8(bytes) && isJsonGrammar(bytes);
}

function isJsonGrammar(bytes: Uint8Array): boolean {
  let depth = 0;
  let at = skipSpace(bytes, 0);
  for (;;) {
    // A value stands at `at`.
    const first = bytes[at];
    let isComplete = true; // whether the value is, or is an array or object that only begins here
    if (first === openObject || first === openArray) {
      if (depth === jsonNesting) return false;
      const closer = first + 2; // [ and ], { and } are two apart
      at = skipSpace(bytes, at + 1);
      if (bytes[at] === closer) at += 1;
      else {
        closers[depth++] = closer;
        isComplete = false;
      }
    } else {
      at = endOfScalar(bytes, at);
      if (at < 0) return false;
    }
    while (isComplete) {
      at = skipSpace(bytes, at);
      if (depth === 0) return at === bytes.length;
      const next = bytes[at++];
      if (next === comma) isComplete = false;
      else if (next === closers[depth - 1]) depth -= 1;
      else return false;
    }
    at = skipSpace(bytes, at);
    if (closers[depth - 1] === closeObject) {
      if (bytes[at] !== quote) return false;
      at = endOfString(bytes, at + 1);
      if (at < 0) return false;
      at = skipSpace(bytes, at);
      if (bytes[at++] !== colon) return false;
      at = skipSpace(bytes, at);
    }
  }
}

/** JSON's white space, less the two that end a line. */
function skipSpace(bytes: Uint8Array, at: number): number {
  while (bytes[at] === 0x20 || bytes[at] === 0x09) at += 1;
  return at;
}
