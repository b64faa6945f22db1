/**
 * What a sealer remembers by itself, apart from the log: its last checkpoint of each tree, and where in the file it ends.
 *
 * Who can write to the log's folder can put an older log and an older checkpoint there. A sealer that remembers its own
 * does not sign on top of them (docs/format.md, section 8). The place in the file only saves reading: it is tried,
 * never believed.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeFolderDurably, writeFileDurably } from '../base/durable.ts';
import { decodeBase64, sha256Hex } from '../base/encoding.ts';
import { messageOf, SwarmError } from '../base/errors.ts';
import type { PublicKey } from '../identity/key.ts';

export interface SealState {
  /** The checkpoint's note, as it was signed. */
  readonly checkpoint: string;
  /** How many bytes of the file the tree covers. */
  readonly offset: number;
}

/** Returns where the sealer `key` remembers the tree of `id` in `folder`. */
export function sealStatePath(folder: string, id: string, key: PublicKey): string {
  return join(folder, `${id}.${sha256Hex(decodeBase64(key) ?? key).slice(0, 16)}.json`);
}

/**
 * Returns what stands at `path`, `undefined` if nothing does. Throws `SEAL_STATE` where that is something else, and an
 * `Error` that names it where it cannot be read: the next time it may be.
 */
export async function readSealState(path: string): Promise<SealState | undefined> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new Error(`cannot read the last checkpoint that we remember, ${path}: ${messageOf(cause)}`, {
      cause,
    });
  }
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch (cause) {
    throw invalid(path, messageOf(cause), cause);
  }
  const { checkpoint, offset } = (content ?? {}) as Partial<Record<keyof SealState, unknown>>;
  if (typeof checkpoint === 'string' && Number.isSafeInteger(offset)) {
    return { checkpoint, offset: offset as number };
  }
  throw invalid(path, 'it does not hold a checkpoint and an offset');
}

/** Writes `state` to `path`, with the folder if need be; throws the system's own errors. */
export async function writeSealState(folder: string, path: string, state: SealState): Promise<void> {
  await makeFolderDurably(folder);
  await writeFileDurably(path, `${JSON.stringify(state)}\n`, { mode: 0o600 });
}

function invalid(path: string, what: string, cause?: unknown): SwarmError {
  return new SwarmError(
    'SEAL_STATE',
    `the last checkpoint that we remember is not in ${path}: ${what}; put back the file, or remove it to believe the checkpoint beside the log`,
    { cause },
  );
}
