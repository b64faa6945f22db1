/**
 * Signed notes: text that one or more keys signed, as in C2SP signed-note.
 *
 * A note is its text, a blank line, and for each signature a line `— name base64(key id ‖ signature)`. It comes from
 * anywhere, so reading it is an answer, never an exception, and its text means nothing before `checkNote` has found
 * the signature of a key that is trusted. Keys are Ed25519; signatures of other kinds are those of unknown keys.
 */
import { isUtf8 } from 'node:buffer';
import { decodeBase64, encodeBase64, sha256 } from '../base/encoding.ts';
import { SwarmError } from '../base/errors.ts';
import { type PublicKey, parsePublicKey, type SigningKey, verifySignature } from '../identity/key.ts';

/** A key that signs notes, under its name. */
export interface NoteKey {
  readonly name: string;
  readonly publicKey: PublicKey;
  /** The first 32 bits of a hash over name and key: enough to find the key, not to trust it. */
  readonly keyId: number;
}

export interface NoteSignature {
  readonly name: string;
  readonly keyId: number;
  /** 64 bytes where it is of Ed25519; at least one. */
  readonly signature: Buffer;
}

export interface Note {
  /** What is signed; ends with LF. */
  readonly text: string;
  readonly signatures: readonly NoteSignature[];
}

/** What became of reading a note. `detail` is a sentence: what is wrong with it. */
export type ParsedNote =
  | { readonly ok: true; readonly note: Note }
  | { readonly ok: false; readonly detail: string };

/** What became of checking a note: the keys that signed it, or why it must not be used. */
export type CheckedNote =
  | { readonly ok: true; readonly signers: readonly NoteKey[] }
  | { readonly ok: false; readonly problem: 'bad-signature' | 'unknown-key'; readonly detail: string };

const noteBytes = 1 << 20;
const noteSignatures = 100;
const keyIdBytes = 4;
const ed25519 = 0x01;
const publicKeyBytes = 32;

const nameGrammar = /^[^\p{White_Space}\p{Surrogate}+]+$/u;
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
const controlCharacter = /[\0-\x09\x0b-\x1f]/;
const signatureGrammar = /^— ([^ ]+) ([A-Za-z0-9+/=]+)$/;

/** Reports whether `name` can be a key's: not empty, without white space, plus and control characters. */
export function isKeyName(name: string): boolean {
  return nameGrammar.test(name) && !controlCharacter.test(name);
}

/** Returns the text of `input`, or `undefined` if it is not valid Unicode. */
export function textOf(input: string | Uint8Array): string | undefined {
  if (typeof input === 'string') return /\p{Surrogate}/u.test(input) ? undefined : input;
  if (!isUtf8(input)) return undefined;
  return Buffer.from(input.buffer, input.byteOffset, input.byteLength).toString('utf8');
}

/** Reads a note, of at most 1 MiB and 100 signatures, and checks none of them. */
export function parseNote(input: string | Uint8Array): ParsedNote {
  if (Buffer.byteLength(input) > noteBytes) return malformed('the note is over 1 MiB');
  const whole = textOf(input);
  if (whole === undefined) return malformed('the note is not valid Unicode');
  if (controlCharacter.test(whole)) return malformed('the note has a control character');
  const blank = whole.lastIndexOf('\n\n');
  if (blank === -1) return malformed('the note has no blank line before its signatures');
  if (!whole.endsWith('\n')) return malformed('the note does not end with a line feed');
  const lines = whole.slice(blank + 2, -1).split('\n');
  if (lines.length > noteSignatures) return malformed(`the note has over ${noteSignatures} signatures`);
  const signatures: NoteSignature[] = [];
  for (const [at, line] of lines.entries()) {
    const signature = parseSignature(line);
    if (signature === undefined) return malformed(`line ${at + 1} after the note's text is not a signature`);
    signatures.push(signature);
  }
  return { ok: true, note: { text: whole.slice(0, blank + 1), signatures } };
}

function malformed(detail: string): { readonly ok: false; readonly detail: string } {
  return { ok: false, detail };
}

function parseSignature(line: string): NoteSignature | undefined {
  const [, name = '', base64 = ''] = signatureGrammar.exec(line) ?? [];
  const bytes = decodeBase64(base64);
  if (!isKeyName(name) || bytes === undefined || bytes.length <= keyIdBytes) return undefined;
  return { name, keyId: bytes.readUInt32BE(), signature: bytes.subarray(keyIdBytes) };
}

/** Returns the note as text. */
export function printNote({ text, signatures }: Note): string {
  const lines = signatures.map(({ name, keyId, signature }) => {
    return `— ${name} ${encodeBase64(Buffer.concat([keyIdOf(keyId), signature]))}\n`;
  });
  return `${text}\n${lines.join('')}`;
}

/**
 * Returns `text`, or a note with the signatures that it has, signed by `key` under `name`; an earlier signature of
 * the same key is replaced. Throws `USAGE` if the text cannot be a note's or the name a key's.
 */
export function signNote(text: string | Note, name: string, key: SigningKey): string {
  const note = typeof text === 'string' ? { text, signatures: [] } : text;
  const { keyId } = noteKey(name, key.publicKey);
  const others = note.signatures.filter((other) => other.name !== name || other.keyId !== keyId);
  const signature = { name, keyId, signature: key.sign(Buffer.from(note.text)) };
  const signed = printNote({ text: note.text, signatures: [...others, signature] });
  const parsed = parseNote(signed);
  if (!parsed.ok) throw new SwarmError('USAGE', `this cannot be signed: ${parsed.detail}`);
  if (parsed.note.text === note.text) return signed;
  throw new SwarmError('USAGE', 'this cannot be signed: its text does not end with a line feed');
}

/**
 * Returns which of `keys` signed the note, each once, in the order of `keys`. Every signature that says it is a known
 * key's must hold, or the note is refused. Those of other keys are ignored.
 */
export function checkNote(note: Note, keys: readonly NoteKey[]): CheckedNote {
  const text = Buffer.from(note.text);
  const signers = new Set<NoteKey>();
  for (const { name, keyId, signature } of note.signatures) {
    // Two keys may share a name and an id by accident; then either may have signed.
    const known = keys.filter((key) => key.name === name && key.keyId === keyId);
    const holding = known.filter(({ publicKey }) => verifySignature(publicKey, text, signature));
    if (known.length > 0 && holding.length === 0) {
      const detail = `the signature is not that of ${name}+${hexOf(keyId)}`;
      return { ok: false, problem: 'bad-signature', detail };
    }
    for (const key of holding) signers.add(key);
  }
  if (signers.size > 0) return { ok: true, signers: keys.filter((key) => signers.has(key)) };
  const names = new Set(note.signatures.map(({ name, keyId }) => `${name}+${hexOf(keyId)}`));
  return {
    ok: false,
    problem: 'unknown-key',
    detail: `signed by ${[...names].join(', ')}, none of them known`,
  };
}

/** Returns the key for notes that `publicKey` is under `name`; throws `USAGE` if that cannot be a key's name. */
export function noteKey(name: string, publicKey: PublicKey): NoteKey {
  if (!isKeyName(name)) {
    throw new SwarmError('USAGE', `not the name of a key: ${JSON.stringify(name)} (no white space, no +)`);
  }
  const hash = sha256(Buffer.concat([Buffer.from(`${name}\n`), encodedKey(publicKey)]));
  return { name, publicKey, keyId: hash.readUInt32BE() };
}

/** Returns the key as text, `name+id+base64(0x01 ‖ key)`: a verifier key, as other tools read it. */
export function printNoteKey({ name, publicKey, keyId }: NoteKey): string {
  return `${name}+${hexOf(keyId)}+${encodeBase64(encodedKey(publicKey))}`;
}

/** Returns the key that `text` is; throws `KEY_MALFORMED` if it is none, or not of Ed25519. */
export function parseNoteKey(text: string): NoteKey {
  const [, name = '', id = '', base64 = ''] = /^([^+]+)\+([0-9a-f]{8})\+(.+)$/.exec(text) ?? [];
  const bytes = decodeBase64(base64);
  if (!isKeyName(name) || bytes === undefined) {
    throw notKey(text, 'it is not name, eight hex digits and base64, joined by +');
  }
  if (bytes[0] !== ed25519 || bytes.length !== 1 + publicKeyBytes) throw notKey(text, 'it is not of Ed25519');
  const key = noteKey(name, parsePublicKey(encodeBase64(bytes.subarray(1))));
  if (hexOf(key.keyId) !== id) throw notKey(text, `its hash is ${hexOf(key.keyId)}, not ${id}`);
  return key;
}

function notKey(text: string, reason: string): SwarmError {
  return new SwarmError(
    'KEY_MALFORMED',
    `not a note's key: ${JSON.stringify(text.slice(0, 128))}; ${reason}`,
  );
}

function encodedKey(publicKey: PublicKey): Buffer {
  return Buffer.concat([Buffer.of(ed25519), Buffer.from(publicKey, 'base64')]);
}

function keyIdOf(keyId: number): Buffer {
  const bytes = Buffer.alloc(keyIdBytes);
  bytes.writeUInt32BE(keyId);
  return bytes;
}

function hexOf(keyId: number): string {
  return keyIdOf(keyId).toString('hex');
}
