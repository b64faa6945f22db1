/**
 * Checkpoints: a log's name, size and root, signed, as in C2SP tlog-checkpoint.
 *
 * A checkpoint is a note of three lines. A log signs with the origin as its key's name; others (witnesses) may sign
 * too. Only `openCheckpoint` tells whether to believe one.
 */
import { decodeBase64, encodeBase64 } from '../base/encoding.ts';
import { SwarmError } from '../base/errors.ts';
import type { PublicKey, SigningKey } from '../identity/key.ts';
import { checkNote, isKeyName, noteKey, parseNote, signNote } from './note.ts';
import type { TreeHead } from './prove.ts';
import { hashBytes } from './tree.ts';

export interface Checkpoint extends TreeHead {
  /** Which log it is of. */
  readonly origin: string;
  /** Lines after the three; absent where there are none, as in ours. */
  readonly extensions?: readonly string[];
}

/** What became of reading a checkpoint. `detail` is a sentence: what is wrong with it. */
export type ParsedCheckpoint =
  | { readonly ok: true; readonly checkpoint: Checkpoint }
  | { readonly ok: false; readonly detail: string };

/** What became of opening a checkpoint. */
export type OpenedCheckpoint =
  | { readonly ok: true; readonly checkpoint: Checkpoint; readonly signers: readonly PublicKey[] }
  | {
      readonly ok: false;
      readonly problem: 'malformed' | 'bad-signature' | 'unknown-key';
      /** A sentence: what is wrong with it. */
      readonly detail: string;
    };

const sizeGrammar = /^(0|[1-9][0-9]{0,15})$/;

/** Returns the text of the checkpoint's note; throws `USAGE` if it cannot be one. */
export function printCheckpoint({ origin, size, root, extensions = [] }: Checkpoint): string {
  const lines = [origin, String(size), encodeBase64(root), ...extensions];
  const text = `${lines.join('\n')}\n`;
  const parsed = parseCheckpoint(text);
  if (!parsed.ok) throw new SwarmError('USAGE', `not a checkpoint: ${parsed.detail}`);
  // A line feed within one of them would have made two.
  if (text.split('\n').length === lines.length + 1) return text;
  throw new SwarmError('USAGE', 'not a checkpoint: a line feed in its origin or an extension');
}

/** Reads the text of a checkpoint's note, which says nothing about its signatures. */
export function parseCheckpoint(text: string): ParsedCheckpoint {
  const lines = text.split('\n');
  if (lines.pop() !== '') return malformed('the text does not end with a line feed');
  const [origin, sizeText, rootText, ...extensions] = lines;
  if (rootText === undefined) return malformed('there are fewer than three lines');
  if (lines.includes('')) return malformed('one of the lines is empty');
  const size = Number(sizeText);
  if (!sizeGrammar.test(sizeText ?? '') || !Number.isSafeInteger(size)) {
    return malformed('the second line is not the size of a tree, a decimal below 2^53');
  }
  const root = decodeBase64(rootText);
  if (root?.length !== hashBytes) return malformed('the third line is not a SHA-256 in base64');
  const head = { origin: origin ?? '', size, root };
  return { ok: true, checkpoint: extensions.length === 0 ? head : { ...head, extensions } };
}

/** Reads the checkpoint in the note `input`, and checks none of its signatures. */
export function parseCheckpointNote(input: string | Uint8Array): ParsedCheckpoint {
  const note = parseNote(input);
  return note.ok ? parseCheckpoint(note.note.text) : note;
}

function malformed(detail: string): { readonly ok: false; readonly detail: string } {
  return { ok: false, detail };
}

/** Returns the checkpoint as a note, signed under its origin; throws `USAGE` if that cannot be the name of a key. */
export function signCheckpoint(checkpoint: Checkpoint, key: SigningKey): string {
  return signNote(printCheckpoint(checkpoint), checkpoint.origin, key);
}

/**
 * Returns the checkpoint in the note `input` and which of `publicKeys` signed it under its origin, or why it must not
 * be used. Signatures of other keys are ignored, as those of witnesses are.
 */
export function openCheckpoint(
  input: string | Uint8Array,
  publicKeys: readonly PublicKey[],
): OpenedCheckpoint {
  const note = parseNote(input);
  if (!note.ok) return { ...note, problem: 'malformed' };
  const parsed = parseCheckpoint(note.note.text);
  if (!parsed.ok) return { ...parsed, problem: 'malformed' };
  const { checkpoint } = parsed;
  // No key can have an origin's name that has a space in it; such a log signs under another.
  const keys = isKeyName(checkpoint.origin) ? publicKeys.map((key) => noteKey(checkpoint.origin, key)) : [];
  const checked = checkNote(note.note, keys);
  if (!checked.ok) return checked;
  return { ok: true, checkpoint, signers: checked.signers.map(({ publicKey }) => publicKey) };
}
