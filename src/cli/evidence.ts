/**
 * Checkpoints as files: those that were kept elsewhere, and the evidence of a fork to hand on.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeFolderDurably, writeFileDurably } from '../base/durable.ts';
import { sha256Hex } from '../base/encoding.ts';
import { messageOf, SwarmError } from '../base/errors.ts';
import type { Anchor } from '../verify/anchors.ts';
import type { Fork } from '../verify/sealed-file.ts';

/** Returns the checkpoint in the file at `path`, which must be of the log; throws `CHECKPOINT_FILE`. */
export async function readAnchor(path: string): Promise<Anchor> {
  try {
    return { text: await readFile(path, 'utf8'), source: path, required: true };
  } catch (cause) {
    throw new SwarmError('CHECKPOINT_FILE', `cannot read the checkpoint ${path}: ${messageOf(cause)}`, {
      cause,
    });
  }
}

/**
 * Writes the checkpoints of `forks` into `folder`, each once, under a name that its content gives it, and returns the
 * paths. Throws `CHECKPOINT_FILE`.
 */
export async function writeEvidence(forks: readonly Fork[], folder: string): Promise<string[]> {
  const texts = new Set(
    forks.flatMap(({ ours, theirs }) => (ours === undefined ? [theirs] : [ours, theirs])),
  );
  const files = Array.from(texts, (text) => ({ path: join(folder, fileNameOf(text)), text }));
  try {
    await makeFolderDurably(folder);
    for (const { path, text } of files) await writeFileDurably(path, text);
  } catch (cause) {
    const what = `cannot write the evidence of a fork to ${folder}: ${messageOf(cause)}`;
    throw new SwarmError('CHECKPOINT_FILE', what, { cause });
  }
  return files.map(({ path }) => path);
}

function fileNameOf(text: string): string {
  return `checkpoint-${sha256Hex(text).slice(0, 16)}`;
}
