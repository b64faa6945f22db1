/**
 * Puts the tree back beside the growing segment that a rotation took from it, and died before it took the segment.
 */
import { renameSync } from 'node:fs';
import { parseCheckpointNote } from '../merkle/checkpoint.ts';
import { FileTree } from './file-tree.ts';
import { takenTree, treeFolderOf } from './files.ts';
import { isOfTree, Tlog } from './tlog.ts';

/** Does so for the log at `path`. Called under the tree's lock; throws the system's own errors. */
export async function returnTree(path: string): Promise<void> {
  const folder = takenTree(path);
  if (folder !== undefined && (await isOfGrowing(path, folder))) renameSync(folder, treeFolderOf(path));
}

async function isOfGrowing(path: string, folder: string): Promise<boolean> {
  const text = await new Tlog(folder).readCheckpoint();
  if (text === undefined) return true; // tiles that nobody signed are overwritten, whose they may be
  const parsed = parseCheckpointNote(text);
  await using tree = await FileTree.open(path);
  const firstLeaf = await tree.firstLeaf();
  return parsed.ok && firstLeaf !== undefined && isOfTree(parsed.checkpoint, firstLeaf);
}
