/**
 * Seals one file: its tree up to its last whole line, in tiles, and a checkpoint over it (docs/format.md, section 8).
 *
 * On disk in this order: the lines, the tiles, the checkpoint, what we remember of it. Whatever dies in between, the
 * next seal goes on from the checkpoint that is there.
 */
import { SwarmError } from '../base/errors.ts';
import { type Checkpoint, signCheckpoint } from '../merkle/checkpoint.ts';
import { hashesAtLevel, type Tile, tileWidth } from '../merkle/tile.ts';
import { type StoredTile, TileTree } from '../merkle/tile-tree.ts';
import { hashBytes } from '../merkle/tree.ts';
import type { FileTree, OwnLines } from './file-tree.ts';
import { treeFolderOf } from './files.ts';
import { type LastSeal, lastSealOf, type SealOptions, sealRefused } from './last-seal.ts';
import { sealStatePath, writeSealState } from './seal-state.ts';
import { originOf, Tlog, treeId } from './tlog.ts';

/** What was sealed. */
export interface Seal {
  readonly file: string;
  readonly checkpoint: Checkpoint;
  /** The checkpoint's note: it stands in the tree's folder, and is worth keeping elsewhere. */
  readonly text: string;
}

/**
 * Brings `tree`, of `file` of the log at `path`, up to the file's last whole line, and signs it if that is further than
 * anybody did, or as far as we did and do not remember: nobody may have heard of that. Throws `SEAL_REFUSED` and `SEAL_STATE`, and the system's own errors. Called under the tree's lock.
 */
export async function sealFile(
  { path, file, tree, own }: { path: string; file: string; tree: FileTree; own: OwnLines[] },
  options: SealOptions,
): Promise<Seal | undefined> {
  const firstLeaf = await tree.firstLeaf();
  if (firstLeaf === undefined) return undefined;
  const last = await lastSealOf(file, firstLeaf, options);
  const { sealed, remembered } = last;
  const tlog = new Tlog(treeFolderOf(file));
  if (tree.size === 0) await continueFrom(last, tree, tlog);
  else if (!tree.isStillThere()) throw sealRefused(file, 'lines that we read are not in it any more');
  else if (tree.size > (sealed?.size ?? 0)) {
    // Whoever sealed it: what we hold of the tree was under a checkpoint, and its tiles may have gone with that.
    const now = sealed === undefined ? 'no checkpoint is' : `a checkpoint of ${sealed.size} is`;
    throw sealRefused(file, `${tree.size} lines of it were sealed when we last looked, and ${now} beside it`);
  }
  const tiles = new NewTiles(tlog, sealed?.size ?? 0);
  await tree.grow(own, {
    onLeaf(grown) {
      for (const head of [sealed, remembered]) {
        if (head?.size !== grown.size || head.root.equals(grown.root)) continue;
        throw sealRefused(file, `its first ${grown.size} lines are not those that were sealed`);
      }
    },
    onTiles: (full) => tiles.add(full),
  });
  const { size, root } = tree;
  if (sealed !== undefined && size < sealed.size) {
    throw sealRefused(file, `${sealed.size} lines of it were sealed, and only ${size} are here`);
  }
  const isNew = size > (sealed?.size ?? 0);
  if (!isNew && !last.isUnremembered) return undefined;
  if (isNew) {
    await tree.sync();
    await tiles.end(size);
  }
  const checkpoint = { origin: originOf(path, firstLeaf), size, root };
  const text = signCheckpoint(checkpoint, options.key);
  if (isNew) await tlog.writeCheckpoint(text);
  const statePath = sealStatePath(options.state, treeId(firstLeaf), options.key.publicKey);
  await writeSealState(options.state, statePath, { checkpoint: text, offset: tree.offset });
  return { file, checkpoint, text };
}

/** Returns the last leaf of the tree in `tlog` that has `size`, at least 1. */
export async function lastLeafOf(tlog: Tlog, size: number): Promise<Buffer> {
  const at = (size - 1) % tileWidth;
  const bytes = await tlog.readTile({ level: 0, index: Math.floor((size - 1) / tileWidth), width: at + 1 });
  return bytes.subarray(at * hashBytes, (at + 1) * hashBytes);
}

/** Lets `tree` go on from where we sealed last, if the tiles still say so; else it begins with the first line. */
async function continueFrom({ remembered }: LastSeal, tree: FileTree, tlog: Tlog): Promise<void> {
  if (remembered === undefined) return;
  const { size, root, offset } = remembered;
  try {
    const edge = await TileTree.restore(size, (tile) => tlog.readTile(tile));
    if (edge.root().equals(root)) tree.continueFrom(edge, offset, await lastLeafOf(tlog, size));
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const isDamaged = code === 'ENOENT' || (cause instanceof SwarmError && cause.code === 'TILE_INVALID');
    if (!isDamaged) throw cause; // tiles that are gone or damaged are made anew from the lines
  }
}

/** The tiles that a growing tree gives up, on their way to the disk. */
class NewTiles {
  readonly #tlog: Tlog;
  /** The size up to which the tiles should be there. */
  readonly #from: number;
  /** Tiles that were sealed and are missing or others: not to be touched before the lines are known to be the sealed ones. */
  readonly #damaged: StoredTile[] = [];
  /** The last tile of each level, as long as it is partial. */
  readonly #partial = new Map<number, StoredTile>();

  constructor(tlog: Tlog, from: number) {
    this.#tlog = tlog;
    this.#from = from;
  }

  async add(taken: readonly StoredTile[]): Promise<void> {
    for (const stored of taken) {
      if (stored.tile.width < tileWidth) this.#partial.set(stored.tile.level, stored);
    }
    await this.#write(taken.filter(({ tile }) => tile.width === tileWidth));
  }

  /** Writes what is left for a tree of `size`: what was sealed before was found to be of these lines. */
  async end(size: number): Promise<void> {
    if (this.#damaged.length > 0) await this.#tlog.writeTiles(this.#damaged);
    const isLast = ({ level, index, width }: Tile): boolean =>
      index * tileWidth + width === hashesAtLevel(level, size);
    await this.#write([...this.#partial.values()].filter(({ tile }) => isLast(tile)));
  }

  async #write(tiles: readonly StoredTile[]): Promise<void> {
    const missing: StoredTile[] = [];
    for (const stored of tiles) {
      if (!this.#isSealed(stored)) missing.push(stored);
      else if (!(await this.#isThere(stored))) this.#damaged.push(stored);
    }
    if (missing.length > 0) await this.#tlog.writeTiles(missing);
  }

  #isSealed({ tile: { level, index, width } }: StoredTile): boolean {
    return index * tileWidth + width <= hashesAtLevel(level, this.#from);
  }

  async #isThere({ tile, bytes }: StoredTile): Promise<boolean> {
    const there = await this.#tlog.readTile(tile).catch(() => undefined);
    return there?.equals(bytes) === true;
  }
}
