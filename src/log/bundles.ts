/**
 * Entry bundles beside the tiles: what the leaves of a sealed tree were made of, for clients that read logs that way.
 *
 * Only on request: the entries are in the log already, and a client of a log's tiles rarely needs them. Layout:
 * C2SP tlog-tiles, `tile/entries/`. Written again, a bundle has the same bytes; partial ones go once the full one is there.
 */
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf, SwarmError } from '../base/errors.ts';
import { printEntries } from '../merkle/bundle.ts';
import { parseCheckpointNote } from '../merkle/checkpoint.ts';
import { type Bundle, printBundlePath, tileWidth } from '../merkle/tile.ts';
import { entryOfLine } from '../record/entry.ts';
import { linesFrom } from './file-tree.ts';
import { logFiles, treeFolderOf } from './files.ts';
import { LogLock } from './lock.ts';
import { Tlog } from './tlog.ts';

/**
 * Writes the bundles of every file of the log at `path`, each up to the size of the checkpoint beside it, and returns
 * how many it wrote. No segment is closed meanwhile. Throws `LOG_OPEN`, and `SEAL_FAILED` where one cannot be written.
 */
export async function writeAllBundles(path: string): Promise<number> {
  logFiles(path);
  try {
    const lock = LogLock.open(treeFolderOf(path));
    try {
      return await lock.hold(async () => {
        let written = 0;
        for (const file of logFiles(path)) written += await writeBundles(file, await sealedSizeOf(file));
        return written;
      });
    } finally {
      lock.close();
    }
  } catch (cause) {
    if (cause instanceof SwarmError) throw cause;
    throw new SwarmError('SEAL_FAILED', `cannot write the entry bundles of ${path}: ${messageOf(cause)}`, {
      cause,
    });
  }
}

async function sealedSizeOf(file: string): Promise<number> {
  const parsed = parseCheckpointNote((await new Tlog(treeFolderOf(file)).readCheckpoint()) ?? '');
  return parsed.ok ? parsed.checkpoint.size : 0;
}

/**
 * Writes the bundles of the first `size` lines of `file` where they are not there yet, and returns how many it wrote.
 * Throws the system's own errors.
 */
async function writeBundles(file: string, size: number): Promise<number> {
  if (size === 0) return 0;
  const tlog = new Tlog(treeFolderOf(file));
  const handle = await open(file, 'r');
  let written = 0;
  let index = 0;
  let entries: Buffer[] = [];
  try {
    for await (const { line } of linesFrom(handle, 0)) {
      if (line.length === 0) continue;
      entries.push(entryOfLine(line));
      const isLast = index * tileWidth + entries.length === size;
      if (entries.length < tileWidth && !isLast) continue;
      if (await writeOne(tlog, { index, width: entries.length }, entries)) written += 1;
      if (isLast) break;
      index += 1;
      entries = [];
    }
  } finally {
    await handle.close();
  }
  return written;
}

async function writeOne(tlog: Tlog, bundle: Bundle, entries: readonly Buffer[]): Promise<boolean> {
  const path = printBundlePath(bundle);
  const content = printEntries(entries);
  const there = await readFile(join(tlog.folder, path)).catch(() => undefined);
  const isNew = !there?.equals(content);
  if (isNew) await tlog.write([{ path, content }]);
  if (bundle.width === tileWidth) await tlog.removePartial(path);
  return isNew;
}
