/**
 * The tree beside a file of a log, read while a writer may be closing that file: both move then, the tree first and the
 * file after it, under the log's lock.
 *
 * So what seems to be missing is looked for again once no writer holds the lock, wherever the file stands by then.
 */
import { join } from 'node:path';
import { printTilePath, type Tile } from '../merkle/tile.ts';
import { fileOfInode, treeFolderOf } from './files.ts';
import { whileUnlocked } from './lock.ts';
import { Tlog } from './tlog.ts';

export class TreeBeside {
  readonly #path: string;
  readonly #locate: () => string;

  /** The tree of a file of the log at `path`, in the folder that `locate` returns, by where the file stands now. */
  constructor(path: string, locate: () => string) {
    this.#path = path;
    this.#locate = locate;
  }

  /** Where it stands now. */
  get folder(): string {
    return this.#locate();
  }

  /** Returns the checkpoint as it stands there, or `undefined` if none does. */
  async readCheckpoint(): Promise<string | undefined> {
    return await this.#read((tlog) => tlog.readCheckpoint());
  }

  /** Returns what `Tlog.readTile` does, or `undefined` if it is not there. */
  async readTile(tile: Tile): Promise<Buffer | undefined> {
    return await this.#read((tlog) =>
      tlog.readTile(tile).catch((cause: NodeJS.ErrnoException) => {
        if (cause.code === 'ENOENT') return undefined;
        throw cause;
      }),
    );
  }

  /** Returns what `Tlog.readTile` does; throws where it is not there. */
  async demandTile(tile: Tile): Promise<Buffer> {
    const bytes = await this.readTile(tile);
    if (bytes !== undefined) return bytes;
    throw new Error(`${join(this.folder, printTilePath(tile))} is not there`);
  }

  async #read<Result>(read: (tlog: Tlog) => Promise<Result | undefined>): Promise<Result | undefined> {
    for (;;) {
      const { folder } = this;
      const found = await read(new Tlog(folder));
      if (this.folder !== folder) continue; // it may be of the segment that came after
      if (found !== undefined) return found;
      if ((await whileUnlocked(this.#path, () => this.folder)) === folder) return undefined;
    }
  }
}

/** Returns the tree of the file with that inode, or of `file` where the log at `path` has none with it any more. */
export function treeOfInode(path: string, inode: bigint, file: string): TreeBeside {
  return new TreeBeside(path, () => treeFolderOf(fileOfInode(path, inode, file) ?? file));
}
