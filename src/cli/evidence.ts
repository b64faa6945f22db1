/**
 * Both checkpoints of each fork as files of their own: whoever has the keyring sees two histories, and who signed them.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeFolderDurably } from '../base/durable.ts';
import { messageOf, SwarmError } from '../base/errors.ts';
import { parseCheckpointNote } from '../merkle/checkpoint.ts';
import type { Fork } from '../verify/sealed-file.ts';
import { writeNamedFile } from './files.ts';

/** Where the evidence of a fork stands. */
export interface Evidence {
  readonly source: string;
  readonly theirs: string;
  /** `undefined` where nobody signed what is here. */
  readonly ours: string | undefined;
}

/** Writes the checkpoints of `forks` into `folder`, over no other evidence that is there. Throws `FILE_FAILED`. */
export async function writeEvidence(folder: string, forks: readonly Fork[]): Promise<Evidence[]> {
  try {
    await makeFolderDurably(folder);
  } catch (cause) {
    throw new SwarmError('FILE_FAILED', `cannot make the folder ${folder}: ${messageOf(cause)}`, { cause });
  }
  const evidence: Evidence[] = [];
  for (const fork of forks) evidence.push(await writeFork(folder, fork));
  return evidence;
}

async function writeFork(folder: string, { theirs, ours, source }: Fork): Promise<Evidence> {
  for (let attempt = 1; ; attempt += 1) {
    const stem = join(folder, attempt === 1 ? `${sizeOf(theirs)}` : `${sizeOf(theirs)}-${attempt}`);
    const files = { theirs: `${stem}-theirs.checkpoint`, ours: `${stem}-ours.checkpoint` };
    if (!(await isFree(files.theirs, theirs)) || !(await isFree(files.ours, ours))) continue;
    await writeNamedFile(files.theirs, theirs);
    if (ours !== undefined) await writeNamedFile(files.ours, ours);
    return { source, theirs: files.theirs, ours: ours === undefined ? undefined : files.ours };
  }
}

/** Reports whether nothing stands at `path`, or `text` itself. */
async function isFree(path: string, text: string | undefined): Promise<boolean> {
  try {
    return (await readFile(path, 'utf8')) === text;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return true;
    throw new SwarmError('FILE_FAILED', `cannot read ${path}: ${messageOf(cause)}`, { cause });
  }
}

function sizeOf(text: string): number {
  const parsed = parseCheckpointNote(text);
  return parsed.ok ? parsed.checkpoint.size : 0;
}
