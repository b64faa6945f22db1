/**
 * JSON as Python prints it with sorted keys, no spaces and ASCII only: what version 1 signed (docs/format.md,
 * section 6).
 *
 * Numbers stay as they are spelled, which a parser that makes numbers of them cannot promise. So no value is
 * built: the text is walked, and what is canonical already, mostly all of it, is cut out as it stands. Refused is
 * what Python would not print or not have read: a repeated name, a `\u` escape in uppercase, white space other
 * than spaces, nesting deeper than a version 2 payload's.
 */
import { isUtf8 } from 'node:buffer';
import { endOfScalar, endOfString } from './json.ts';
import { jsonNesting } from './payload.ts';

/** The members of an object: by name, each value in canonical form. */
export type CanonicalMembers = ReadonlyMap<string, string>;

const [comma, colon, quote, space] = [0x2c, 0x3a, 0x22, 0x20];
const [openArray, closeArray, openObject, closeObject] = [0x5b, 0x5d, 0x7b, 0x7d];
const plainString = /^"[ !#-[\]-~]*"$/;

/** Returns the members of the JSON object that `bytes` are, or a sentence: why they are not one. */
export function canonicalMembers(bytes: Buffer): CanonicalMembers | string {
  if (!isUtf8(bytes)) return 'the line is not UTF-8';
  const walk = new Walk(bytes);
  try {
    return walk.wholeObject();
  } catch (thrown) {
    if (thrown instanceof NotCanonical) return thrown.message;
    throw thrown;
  }
}

/** Returns the object of `members` in canonical form: sorted by code point, as Python sorts. */
export function printCanonical(members: CanonicalMembers): string {
  let text = '';
  for (const [name, value] of [...members].sort(([a], [b]) => compareCodePoints(a, b))) {
    text += `${text === '' ? '' : ','}${printString(name)}:${value}`;
  }
  return `{${text}}`;
}

/** Returns `text` as a JSON string in ASCII, with Python's escapes. */
function printString(text: string): string {
  // JSON.stringify has the same short escapes, and \u in lowercase for the rest of what is below 0x20.
  return JSON.stringify(text).replace(
    /[\x7f-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** JavaScript's own order is that of UTF-16 units, in which U+1F41D comes before U+FF5E. */
function compareCodePoints(a: string, b: string): number {
  for (let at = 0; ; ) {
    const left = a.codePointAt(at) ?? -1;
    const right = b.codePointAt(at) ?? -1;
    if (left !== right || left === -1) return left - right;
    at += left > 0xffff ? 2 : 1;
  }
}

class NotCanonical extends Error {}

/**
 * A walk over one text. Each method reads what its name says from `#at` on, and returns it in canonical form, or
 * `undefined` where it stands in the text just so.
 */
class Walk {
  readonly #bytes: Buffer;
  /** The bytes one to one; what is cut out of it is ASCII. */
  readonly #text: string;
  #at = 0;
  #depth = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
    this.#text = bytes.toString('latin1');
  }

  wholeObject(): CanonicalMembers {
    this.#skipSpaces();
    if (this.#bytes[this.#at] !== openObject) throw new NotCanonical('the line is not a JSON object');
    const { members } = this.#members();
    this.#skipSpaces();
    if (this.#at !== this.#bytes.length) throw this.#unexpected();
    return members;
  }

  #value(): string | undefined {
    const first = this.#bytes[this.#at];
    if (first === openArray) return this.#array();
    if (first === openObject) {
      const { members, isCanonical } = this.#members();
      return isCanonical ? undefined : printCanonical(members);
    }
    if (first === quote) return this.#string().printed;
    const end = endOfScalar(this.#bytes, this.#at);
    if (end < 0) throw this.#unexpected();
    this.#at = end;
    return undefined;
  }

  #array(): string | undefined {
    const start = this.#enter();
    let printed: string | undefined; // up to #at, once that differs from the text
    if (this.#skipSpaces()) printed = '[';
    for (let isFirst = true; this.#bytes[this.#at] !== closeArray || !isFirst; isFirst = false) {
      const from = this.#at;
      const value = this.#value();
      if (value !== undefined) printed ??= this.#text.slice(start, from);
      if (printed !== undefined) printed += value ?? this.#text.slice(from, this.#at);
      const end = this.#at;
      if (this.#skipSpaces()) printed ??= this.#text.slice(start, end);
      if (this.#bytes[this.#at] === closeArray) break;
      this.#take(comma);
      const next = this.#at;
      if (printed !== undefined) printed += ',';
      if (this.#skipSpaces()) printed ??= this.#text.slice(start, next);
    }
    this.#leave();
    return printed === undefined ? undefined : `${printed}]`;
  }

  #members(): { readonly members: CanonicalMembers; readonly isCanonical: boolean } {
    this.#enter();
    const members = new Map<string, string>();
    let isCanonical = !this.#skipSpaces();
    let before = '';
    while (this.#bytes[this.#at] !== closeObject || members.size > 0) {
      if (this.#bytes[this.#at] !== quote) throw this.#unexpected();
      const { value: name, printed } = this.#string();
      if (members.has(name)) throw new NotCanonical(`the name ${JSON.stringify(name)} is repeated`);
      const spaced = this.#skipSpaces();
      this.#take(colon);
      const spacedAgain = this.#skipSpaces();
      const from = this.#at;
      const value = this.#value();
      members.set(name, value ?? this.#text.slice(from, this.#at));
      if (printed !== undefined || spaced || spacedAgain || value !== undefined) isCanonical = false;
      if (compareCodePoints(before, name) > 0) isCanonical = false;
      before = name;
      if (this.#skipSpaces()) isCanonical = false;
      if (this.#bytes[this.#at] === closeObject) break;
      this.#take(comma);
      if (this.#skipSpaces()) isCanonical = false;
    }
    this.#leave();
    return { members, isCanonical };
  }

  #string(): { readonly value: string; readonly printed: string | undefined } {
    const from = this.#at;
    const end = endOfString(this.#bytes, from + 1);
    if (end < 0) throw this.#unexpected();
    this.#at = end;
    const text = this.#text.slice(from, end);
    if (plainString.test(text)) return { value: text.slice(1, -1), printed: undefined };
    for (const [escaped] of text.matchAll(/\\(?:u....|.)/g)) {
      if (/[A-F]/.test(escaped))
        throw new NotCanonical(`the escape ${escaped} is not one that Python prints`);
    }
    const value: string = JSON.parse(this.#bytes.toString('utf8', from, end));
    const printed = printString(value);
    return { value, printed: printed === text ? undefined : printed };
  }

  /** Begins an array or object and returns where it begins. */
  #enter(): number {
    this.#depth += 1;
    if (this.#depth > jsonNesting + 1)
      throw new NotCanonical(`the payload is nested over ${jsonNesting} deep`);
    this.#at += 1;
    return this.#at - 1;
  }

  #leave(): void {
    this.#depth -= 1;
    this.#at += 1;
  }

  #take(byte: number): void {
    if (this.#bytes[this.#at] !== byte) throw this.#unexpected();
    this.#at += 1;
  }

  /** Reports whether there were any. */
  #skipSpaces(): boolean {
    const from = this.#at;
    while (this.#bytes[this.#at] === space) this.#at += 1;
    return this.#at > from;
  }

  #unexpected(): NotCanonical {
    return new NotCanonical(`the line is not JSON as Python prints it, at byte ${this.#at}`);
  }
}
