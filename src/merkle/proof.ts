/**
 * Proofs for an auditor: one entry's place in a log, and the checkpoint that it leads to, as in C2SP tlog-proof.
 *
 * Such a file is believed only as far as it is checked: its checkpoint must open, and its path must lead from the
 * entry's leaf to that checkpoint's root. `extra` is vouched for by nothing here.
 */
import { decodeBase64, encodeBase64 } from '../base/encoding.ts';
import { SwarmError } from '../base/errors.ts';
import { parseCheckpointNote } from './checkpoint.ts';
import { textOf } from './note.ts';
import { hashBytes } from './tree.ts';

export interface TlogProof {
  /** What the checker needs besides; absent where there is nothing. */
  readonly extra?: Buffer;
  /** Which leaf of the log. */
  readonly index: number;
  /** The leaf's inclusion path, its sibling first. */
  readonly path: readonly Buffer[];
  /** The checkpoint's note, signatures included. */
  readonly checkpoint: string;
}

/** What became of reading a proof. `detail` is a sentence: what is wrong with it. */
export type ParsedProof =
  | { readonly ok: true; readonly proof: TlogProof }
  | { readonly ok: false; readonly detail: string };

const firstLine = 'c2sp.org/tlog-proof@v1';
const indexGrammar = /^index (0|[1-9][0-9]{0,15})$/;
const pathNodes = 63; // more than a tree of 2^53 leaves is high

/** Returns the proof as text; throws `USAGE` if it cannot be one. */
export function printProof({ extra, index, path, checkpoint }: TlogProof): string {
  const lines = [firstLine];
  if (extra !== undefined) lines.push(`extra ${encodeBase64(extra)}`);
  lines.push(`index ${index}`, ...path.map(encodeBase64));
  const text = `${lines.join('\n')}\n\n${checkpoint}`;
  const parsed = parseProof(text);
  if (!parsed.ok) throw new SwarmError('USAGE', `not a proof: ${parsed.detail}`);
  return text;
}

/** Reads a proof and the shape of its checkpoint, and checks neither. */
export function parseProof(input: string | Uint8Array): ParsedProof {
  const text = textOf(input);
  if (text === undefined) return malformed('the proof is not valid Unicode');
  const blank = text.indexOf('\n\n');
  if (blank === -1) return malformed('there is no blank line before the checkpoint');
  const [first, ...lines] = text.slice(0, blank).split('\n');
  if (first !== firstLine) return malformed(`the first line is not ${firstLine}`);

  let extra: Buffer | undefined;
  if (lines[0]?.startsWith('extra ')) {
    extra = decodeBase64(lines.shift()?.slice('extra '.length) ?? '');
    if (extra === undefined || extra.length === 0) return malformed('what is extra is not base64');
  }
  const index = Number(indexGrammar.exec(lines.shift() ?? '')?.[1]);
  if (!Number.isSafeInteger(index)) return malformed('there is no index, a decimal below 2^53');

  if (lines.length > pathNodes) return malformed('the path is longer than any');
  const path = lines.map((line) => decodeBase64(line) ?? Buffer.alloc(0));
  if (path.some(({ length }) => length !== hashBytes)) return malformed('the path is not SHA-256 in base64');

  const checkpoint = text.slice(blank + 2);
  const parsed = parseCheckpointNote(checkpoint);
  if (!parsed.ok) return malformed(`of the checkpoint: ${parsed.detail}`);
  const proof = { index, path, checkpoint };
  return { ok: true, proof: extra === undefined ? proof : { extra, ...proof } };
}

function malformed(detail: string): { readonly ok: false; readonly detail: string } {
  return { ok: false, detail };
}
