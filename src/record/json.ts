/**
 * Where JSON's strings, numbers and words end (RFC 8259, sections 3, 6 and 7): a scanner over bytes.
 *
 * Functions return the place after what they read, or -1 where it is not what it should be. A place past the
 * end reads as 0, which nothing in JSON begins or continues with.
 */

const [quote, backslash, minus, plus, dot, zero, nine] = [0x22, 0x5c, 0x2d, 0x2b, 0x2e, 0x30, 0x39];
const shortEscapes = new Set(Buffer.from('"\\/bfnrt'));
const [u, e, E] = [0x75, 0x65, 0x45];
const words = ['true', 'false', 'null'].map((word) => Buffer.from(word));

/** Returns the end of the string whose opening quote stands before `at`. */
export function endOfString(bytes: Uint8Array, at: number): number {
  for (;;) {
    const byte = bytes[at++] ?? 0;
    if (byte === quote) return at;
    if (byte < 0x20) return -1;
    if (byte !== backslash) continue;
    const escaped = bytes[at++] ?? 0;
    if (escaped === u) {
      for (const end = at + 4; at < end; at++) if (!isHexDigit(bytes[at] ?? 0)) return -1;
    } else if (!shortEscapes.has(escaped)) return -1;
  }
}

/** Returns the end of the string, number, `true`, `false` or `null` that begins at `at`. */
export function endOfScalar(bytes: Uint8Array, at: number): number {
  const first = bytes[at] ?? 0;
  if (first === quote) return endOfString(bytes, at + 1);
  if (first === minus || isDigit(first)) return endOfNumber(bytes, at);
  for (const word of words) if (word[0] === first) return endOfWord(bytes, at, word);
  return -1;
}

function endOfWord(bytes: Uint8Array, at: number, word: Uint8Array): number {
  for (const letter of word) if (bytes[at++] !== letter) return -1;
  return at;
}

function endOfNumber(bytes: Uint8Array, at: number): number {
  if (bytes[at] === minus) at += 1;
  if (bytes[at] === zero) at += 1;
  else {
    at = endOfDigits(bytes, at);
    if (at < 0) return -1;
  }
  if (bytes[at] === dot) {
    at = endOfDigits(bytes, at + 1);
    if (at < 0) return -1;
  }
  if (bytes[at] === e || bytes[at] === E) {
    at += 1;
    if (bytes[at] === plus || bytes[at] === minus) at += 1;
    at = endOfDigits(bytes, at);
  }
  return at;
}

/** At least one. */
function endOfDigits(bytes: Uint8Array, at: number): number {
  const start = at;
  while (isDigit(bytes[at] ?? 0)) at += 1;
  return at === start ? -1 : at;
}

function isDigit(byte: number): boolean {
  return byte >= zero && byte <= nine;
}

function isHexDigit(byte: number): boolean {
  return isDigit(byte) || (byte >= 0x41 && byte <= 0x46) || (byte >= 0x61 && byte <= 0x66);
}
