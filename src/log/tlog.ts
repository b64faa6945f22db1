/**
 * The tree beside a file of a log, `swarm.tlog/` beside `swarm.jsonl`: tiles and the checkpoint over them.
 *
 * It is laid out as C2SP tlog-tiles, so that any client of such logs reads it from the folder as it is. What is
 * written is on disk when the promise resolves, and a tile before any checkpoint that needs it (docs/format.md,
 * section 8). Failures are the system's own errors; a tile that is not there is one too, ENOENT.
 */
import { readFile, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { makeFolderDurably, writeFileDurably, writeFilesDurably } from '../base/durable.ts';
import type { Sha256Hex } from '../base/encoding.ts';
import type { Checkpoint } from '../merkle/checkpoint.ts';
import { printTilePath, type Tile, tileWidth } from '../merkle/tile.ts';
import type { StoredTile } from '../merkle/tile-tree.ts';
import { hashBytes } from '../merkle/tree.ts';
import { logName } from './files.ts';

const mode = 0o666;

/** Returns the name of the tree of the file of the log at `path` whose first line has `firstLeaf`. */
export function originOf(path: string, firstLeaf: Sha256Hex): string {
  return `${logName(path)}/${treeId(firstLeaf)}`;
}

/** Returns what of an origin names the tree, whatever the log is called: 32 hex digits of its first leaf. */
export function treeId(firstLeaf: Sha256Hex): string {
  return firstLeaf.slice(0, 32);
}

/** Returns the tree that `origin` names. */
export function treeIdOf(origin: string): string {
  return origin.slice(origin.lastIndexOf('/') + 1);
}

/** Returns the name of the log whose tree `origin` names. */
export function logNameOf(origin: string): string {
  return origin.slice(0, Math.max(0, origin.lastIndexOf('/')));
}

/** Reports whether `checkpoint` is of the tree whose first leaf is `firstLeaf`. */
export function isOfTree({ origin }: Checkpoint, firstLeaf: Sha256Hex): boolean {
  return treeIdOf(origin) === treeId(firstLeaf);
}

export class Tlog {
  readonly folder: string;

  /** The tree in `folder`, which need not be there yet. */
  constructor(folder: string) {
    this.folder = folder;
  }

  get checkpointPath(): string {
    return join(this.folder, 'checkpoint');
  }

  /** Returns the checkpoint as it stands there, or `undefined` if none does. */
  async readCheckpoint(): Promise<string | undefined> {
    return await readIfThere(this.checkpointPath, 'utf8');
  }

  /** Returns the bytes of `tile`, where it is partial perhaps out of the full one that took its place. */
  async readTile(tile: Tile): Promise<Buffer> {
    try {
      return await readFile(join(this.folder, printTilePath(tile)));
    } catch (cause) {
      if (tile.width === tileWidth) throw cause;
      const full = await readIfThere(join(this.folder, printTilePath({ ...tile, width: tileWidth })));
      if (full?.length !== tileWidth * hashBytes) throw cause;
      return full.subarray(0, tile.width * hashBytes);
    }
  }

  /** Writes `files`, by their paths in the folder. */
  async write(files: readonly { readonly path: string; readonly content: Uint8Array }[]): Promise<void> {
    const whole = files.map(({ path, content }) => ({ path: join(this.folder, path), content }));
    for (const folder of new Set(whole.map(({ path }) => dirname(path)))) await makeFolderDurably(folder);
    await writeFilesDurably(whole, { mode });
  }

  /** Writes `tiles`; the partial ones that a full one replaces are removed. */
  async writeTiles(tiles: readonly StoredTile[]): Promise<void> {
    await this.write(tiles.map(({ tile, bytes }) => ({ path: printTilePath(tile), content: bytes })));
    for (const { tile } of tiles) {
      if (tile.width < tileWidth) continue;
      await this.removePartial(printTilePath(tile));
    }
  }

  /** Removes the partial ones that the full tile or bundle at `path` in the folder replaces. */
  async removePartial(path: string): Promise<void> {
    await rm(join(this.folder, `${path}.p`), { recursive: true, force: true });
  }

  async writeCheckpoint(text: string): Promise<void> {
    await makeFolderDurably(this.folder);
    await writeFileDurably(this.checkpointPath, text, { mode });
  }
}

async function readIfThere(path: string): Promise<Buffer | undefined>;
async function readIfThere(path: string, encoding: 'utf8'): Promise<string | undefined>;
async function readIfThere(path: string, encoding?: 'utf8'): Promise<Buffer | string | undefined> {
  try {
    return await readFile(path, encoding);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw cause;
  }
}
