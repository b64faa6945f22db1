/**
 * Goes on where an earlier verification ended: what it remembers, held against what is there now.
 *
 * That the old part is unchanged is seen in its tiles: the root that they lead to at the remembered size must be the one
 * that was computed from the lines then, and the last line must still be that root's last leaf. The bytes of the old
 * lines are not read. Where any of this cannot be seen, all is read, and the reason is told.
 */
import { statSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { parseSha256Hex, type Sha256Hex, zeroHash } from '../base/encoding.ts';
import { linesFrom } from '../log/file-tree.ts';
import { logFiles } from '../log/files.ts';
import { lineBefore } from '../log/segment.ts';
import { type TreeBeside, treeOfInode } from '../log/tree-beside.ts';
import { parseCheckpointNote } from '../merkle/checkpoint.ts';
import { checkInclusion, proveInclusion, type ReadHashes, treeRoot } from '../merkle/prove.ts';
import { hashesAtLevel, type Tile, tileWidth } from '../merkle/tile.ts';
import { type ReadTile, readFromTiles } from '../merkle/tile-hashes.ts';
import { TileTree } from '../merkle/tile-tree.ts';
import { hashBytes } from '../merkle/tree.ts';
import { leafOfLine } from '../record/entry.ts';
import { parseLine } from '../record/line.ts';
import type { VerifyState } from './state.ts';

/** A file whose first lines were verified before. */
export interface KnownFile {
  readonly firstLeaf: Sha256Hex;
  readonly lastLeaf: Sha256Hex;
  readonly bytes: number;
  readonly lines: number;
  readonly size: number;
  readonly root: Buffer;
  /** What its first line says that the segment before it ends with, if it says so. */
  readonly continues: Sha256Hex | undefined;
  readonly readTile: ReadTile;
  readonly read: ReadHashes;
}

/** Of what a verification reads again only the tiles: none of it, if there is a reason. */
export interface Resumption {
  readonly known: readonly KnownFile[];
  readonly reason?: string;
}

/** Returns what of the log at `path` was verified before, in the order of its files. */
export async function knownOf(path: string, state: VerifyState): Promise<Resumption> {
  for (;;) {
    const files = logFiles(path);
    const found = await lookAt(path, files, state).catch((cause: unknown) => ({ cause }));
    if ('known' in found && found.reason === undefined) return found;
    if (String(logFiles(path)) !== String(files)) continue; // a segment was closed meanwhile
    if ('cause' in found) throw found.cause;
    return found;
  }
}

async function lookAt(path: string, files: readonly string[], state: VerifyState): Promise<Resumption> {
  const known: KnownFile[] = [];
  for (const [index, remembered] of state.files.entries()) {
    const file = files[index];
    if (file === undefined) return { known: [], reason: 'a file that was verified before is gone' };
    const isLast = index === state.files.length - 1;
    const found = await look(path, file, remembered, isLast);
    if (typeof found === 'string') return { known: [], reason: `${file} ${found}` };
    known.push(found);
  }
  return { known };
}

async function look(
  path: string,
  file: string,
  remembered: VerifyState['files'][number],
  isLast: boolean,
): Promise<KnownFile | string> {
  const { bytes, lines, size } = remembered;
  const [firstLeaf, lastLeaf] = [parseSha256Hex(remembered.firstLeaf), parseSha256Hex(remembered.lastLeaf)];
  const now = statSync(file).size;
  if (now < bytes) return 'became shorter';
  if (!isLast && now > bytes) return 'was closed when it was verified before, and grew';
  const handle = await open(file, 'r');
  let inode: bigint;
  let first: Buffer | undefined;
  try {
    inode = (await handle.stat({ bigint: true })).ino;
    first = await firstLineOf(handle);
    if (first === undefined || firstLeaf === undefined || leafOfLine(first) !== firstLeaf)
      return 'has another first line';
    if (lastLeaf === undefined || leafBefore(handle.fd, bytes) !== lastLeaf) {
      return 'has another line where it ended when it was verified before';
    }
  } finally {
    await handle.close();
  }
  const stored = treeOfInode(path, inode, file);
  const parsed = parseCheckpointNote((await stored.readCheckpoint()) ?? '');
  const sealed = parsed.ok ? parsed.checkpoint.size : 0;
  if (sealed < size) return 'is not sealed as far as it was verified before';
  const root = Buffer.from(remembered.root, 'hex');
  const readTile = tilesWithin(stored, sealed);
  const read = readFromTiles(sealed, readTile);
  const isSame = await treeRoot(size, read).then(
    (there) => there.equals(root),
    () => false,
  );
  if (!isSame) return 'has tiles that are not over the lines that were verified before';
  const header = parseLine(first).record?.header;
  const continues = header?.seq === 0 && header.prev !== zeroHash ? header.prev : undefined;
  return { firstLeaf, lastLeaf, bytes, lines, size, root, continues, readTile, read };
}

/** Returns a reader of tiles of smaller trees out of those of a tree of `size`. */
function tilesWithin(stored: TreeBeside, size: number): ReadTile {
  return async (tile: Tile) => {
    const width = Math.min(tileWidth, hashesAtLevel(tile.level, size) - tile.index * tileWidth);
    const bytes = await stored.demandTile({ ...tile, width });
    return bytes.subarray(0, tile.width * hashBytes);
  };
}

/** Returns the tree that a known file's new lines go on from. */
export async function treeOf({ size, readTile }: KnownFile): Promise<TileTree> {
  return await TileTree.restore(size, readTile);
}

/**
 * Reports whether leaf `index` of a known file is `leaf`. A tile by itself shows nothing; a proof out of tiles, whatever
 * is in them, shows it against the root that was computed from the lines.
 */
async function isLeafOf({ size, root, read }: KnownFile, index: number, leaf: Buffer): Promise<boolean> {
  return checkInclusion(await proveInclusion(index, size, read), leaf, index, { size, root });
}

/** A line before, which a line that was read this time names. */
export interface Wanted {
  readonly leaf: Buffer;
  /** The file in which it must be. */
  readonly file: KnownFile;
}

/**
 * Goes through the leaves of known files once: gives each to `give`, if there is one, and returns those of `wanted` that
 * are not there.
 */
export async function missingFrom<W extends Wanted>(
  known: readonly KnownFile[],
  wanted: Iterable<W>,
  give: ((leaves: Buffer, at: number) => void) | undefined,
): Promise<Set<W>> {
  const missing = new Set(wanted);
  for (const file of known) {
    const here = [...missing].filter((one) => one.file === file);
    if (give === undefined && here.length === 0) continue;
    let first = 0;
    for await (const leaves of knownLeaves(file)) {
      if (give !== undefined) for (let at = 0; at < leaves.length; at += hashBytes) give(leaves, at);
      for (const one of here) {
        const at = leaves.indexOf(one.leaf);
        if (at === -1 || at % hashBytes !== 0) continue;
        if (await isLeafOf(file, first + at / hashBytes, one.leaf)) missing.delete(one);
      }
      first += leaves.length / hashBytes;
    }
  }
  return missing;
}

/** How many tiles are read at a time. */
const tilesAtOnce = 16;

/** Yields the leaves of a known file, as its tiles have them: up to 256 at a time. */
async function* knownLeaves({ size, readTile }: KnownFile): AsyncGenerator<Buffer> {
  const tiles = Math.ceil(size / tileWidth);
  for (let from = 0; from < tiles; from += tilesAtOnce) {
    const indices = Array.from({ length: Math.min(tilesAtOnce, tiles - from) }, (_, at) => from + at);
    yield* await Promise.all(
      indices.map((index) =>
        readTile({ level: 0, index, width: Math.min(tileWidth, size - index * tileWidth) }),
      ),
    );
  }
}

async function firstLineOf(handle: FileHandle): Promise<Buffer | undefined> {
  for await (const { line } of linesFrom(handle, 0)) if (line.length > 0) return line;
  return undefined;
}

function leafBefore(fd: number, end: number): Sha256Hex | undefined {
  const line = lineBefore(fd, end);
  return line && leafOfLine(line.bytes);
}
