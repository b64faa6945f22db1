/**
 * What a seal extends: the checkpoint beside a file, held against what we remember of our own.
 *
 * A checkpoint counts if we signed it or the keyring has its key, revoked or not: extending it takes nothing from it,
 * and the lines below it are checked against its root as they are read.
 */
import type { Sha256Hex } from '../base/encoding.ts';
import { SwarmError } from '../base/errors.ts';
import type { SigningKey } from '../identity/key.ts';
import type { Keyring } from '../identity/keyring.ts';
import { openCheckpoint } from '../merkle/checkpoint.ts';
import type { TreeHead } from '../merkle/prove.ts';
import { treeFolderOf } from './files.ts';
import { readSealState, sealStatePath } from './seal-state.ts';
import { isOfTree, Tlog, treeId } from './tlog.ts';

export interface SealOptions {
  /** Signs checkpoints: not the key that signs records, but the one derived from it for this. */
  readonly key: SigningKey;
  /** Whose checkpoints a seal may extend, besides our own. @default nobody's */
  readonly keyring?: Keyring | undefined;
  /** A folder, apart from the log's, in which we remember our last checkpoint of each tree. */
  readonly state: string;
}

export interface LastSeal {
  /** The checkpoint beside the file; `undefined` where none is. */
  readonly sealed: TreeHead | undefined;
  /** Our own last one, and how many bytes of the file it covers. Never larger than `sealed`. */
  readonly remembered: (TreeHead & { readonly offset: number }) | undefined;
  /** Whether `sealed` is ours and larger than what we remember: we died in between, or were made to forget. */
  readonly isUnremembered: boolean;
}

/**
 * Returns what is sealed of `file`, whose first line has `firstLeaf`. Throws `SEAL_REFUSED` where the checkpoint beside
 * it is missing, older than ours, of another log, or of nobody whom we know; `SEAL_STATE`.
 */
export async function lastSealOf(
  file: string,
  firstLeaf: Sha256Hex,
  { key, keyring, state: folder }: SealOptions,
): Promise<LastSeal> {
  const remembered = await ours(sealStatePath(folder, treeId(firstLeaf), key.publicKey), firstLeaf, key);
  const text = await new Tlog(treeFolderOf(file)).readCheckpoint();
  if (text === undefined) {
    if (remembered === undefined) return { sealed: undefined, remembered, isUnremembered: false };
    throw sealRefused(
      file,
      `we sealed ${remembered.size} lines of it, and no checkpoint is beside it any more`,
    );
  }
  const opened = openCheckpoint(text, [key.publicKey, ...(keyring?.checkpointKeys ?? [])]);
  if (!opened.ok)
    throw sealRefused(
      file,
      `the checkpoint beside it is of nobody whom we know: ${opened.detail}`,
      'Add those who sealed it to the keyring, or put the log and its tree away together, or name another log (SWARM_LOG)',
    );
  const sealed = opened.checkpoint;
  if (!isOfTree(sealed, firstLeaf)) {
    throw sealRefused(
      file,
      `the checkpoint beside it is of another log, ${sealed.origin}; a log and its tree move together`,
    );
  }
  if (remembered !== undefined && remembered.size > sealed.size) {
    throw sealRefused(
      file,
      `we sealed ${remembered.size} lines of it, and the checkpoint beside it is of ${sealed.size}`,
    );
  }
  if (remembered?.size === sealed.size && !remembered.root.equals(sealed.root)) {
    throw sealRefused(file, `we sealed other ${sealed.size} lines than the checkpoint beside it`);
  }
  const isUnremembered = opened.signers.includes(key.publicKey) && sealed.size > (remembered?.size ?? 0);
  return { sealed, remembered, isUnremembered };
}

/** Returns the refusal to seal `file`. */
export function sealRefused(
  file: string,
  what: string,
  wayOut = '`swarm verify` says more; put back what is missing, or begin a new log',
): SwarmError {
  return new SwarmError('SEAL_REFUSED', `${file} will not be sealed: ${what}. ${wayOut}`);
}

async function ours(path: string, firstLeaf: Sha256Hex, key: SigningKey): Promise<LastSeal['remembered']> {
  const state = await readSealState(path);
  if (state === undefined) return undefined;
  const opened = openCheckpoint(state.checkpoint, [key.publicKey]);
  if (opened.ok && isOfTree(opened.checkpoint, firstLeaf))
    return { ...opened.checkpoint, offset: state.offset };
  throw new SwarmError(
    'SEAL_STATE',
    `${path} does not hold a checkpoint of this log that we signed; remove it to believe the one beside the log`,
  );
}
