/**
 * The tree of one file of a log, as it grows: lines in, leaves and tiles out (docs/format.md, section 8).
 *
 * A line counts once its LF is there, for then it never changes. Leaves that a writer has at hand, of lines that it
 * wrote itself, are taken from it; all others are read. So growing costs what is new, whoever wrote it.
 */
import { type FileHandle, open } from 'node:fs/promises';
import type { Sha256Hex } from '../base/encoding.ts';
import { type StoredTile, TileTree } from '../merkle/tile-tree.ts';
import { leafOfLine } from '../record/entry.ts';
import { lineBefore } from './segment.ts';

const LF = 0x0a;
const chunkBytes = 1 << 20;

/** Whole lines that a writer added to a file, and their leaves. */
export interface OwnLines {
  /** Bytes from the start of the file. */
  readonly start: number;
  readonly end: number;
  readonly leaves: readonly Sha256Hex[];
}

/** Who follows a tree as it grows. */
export interface Growth {
  /** Called once at the size that the tree has, then after each leaf. */
  readonly onLeaf: (tree: { readonly size: number; readonly root: Buffer }) => void;
  /** Given the tiles that are new since the last time, now and then and at the end. */
  readonly onTiles: (tiles: StoredTile[]) => Promise<void>;
}

export class FileTree implements AsyncDisposable {
  readonly inode: bigint;
  readonly #handle: FileHandle;
  #tree = new TileTree();
  #offset = 0;
  #firstLeaf: Sha256Hex | undefined;
  #lastLeaf: Sha256Hex | undefined;

  private constructor(handle: FileHandle, inode: bigint) {
    this.#handle = handle;
    this.inode = inode;
  }

  /** Opens the tree of `file`, of no lines yet. Throws the system's own errors. */
  static async open(file: string): Promise<FileTree> {
    const handle = await open(file, 'r');
    try {
      const facts = await handle.stat({ bigint: true });
      if (!facts.isFile()) throw new Error(`${file} is not a file`); // a device may be read without end
      return new FileTree(handle, facts.ino);
    } catch (cause) {
      await handle.close();
      throw cause;
    }
  }

  get size(): number {
    return this.#tree.size;
  }

  get root(): Buffer {
    return this.#tree.root();
  }

  /** How many bytes of the file the tree covers: whole lines. */
  get offset(): number {
    return this.#offset;
  }

  /** Returns the leaf of the file's first line; `undefined` where no line is whole yet. */
  async firstLeaf(): Promise<Sha256Hex | undefined> {
    if (this.#firstLeaf !== undefined) return this.#firstLeaf;
    for await (const { line } of linesFrom(this.#handle, 0)) {
      if (line.length === 0) continue;
      this.#firstLeaf = leafOfLine(line);
      return this.#firstLeaf;
    }
    return undefined;
  }

  /**
   * Goes on from `tree`, of the lines in the file's first `offset` bytes, if the last of these is its last leaf;
   * reports whether it is.
   */
  continueFrom(tree: TileTree, offset: number, lastLeaf: Buffer): boolean {
    const line = lineBefore(this.#handle.fd, offset);
    if (line === undefined || leafOfLine(line.bytes) !== lastLeaf.toString('hex')) return false;
    this.#tree = tree;
    this.#offset = offset;
    this.#lastLeaf = leafOfLine(line.bytes);
    return true;
  }

  /** Reports whether the last line that was taken in still ends where it did. */
  isStillThere(): boolean {
    const line = lineBefore(this.#handle.fd, this.#offset);
    return line !== undefined && leafOfLine(line.bytes) === this.#lastLeaf;
  }

  /** Takes in all whole lines that the file has now, `own` of them without reading: those used are taken out. */
  async grow(own: OwnLines[], { onLeaf, onTiles }: Growth): Promise<void> {
    onLeaf(this);
    await this.#takeIn(own, onLeaf, onTiles);
    await onTiles(this.#tree.takeTiles());
  }

  async #takeIn(own: OwnLines[], onLeaf: Growth['onLeaf'], onTiles: Growth['onTiles']): Promise<void> {
    for (;;) {
      while (own[0] !== undefined && own[0].start < this.#offset) own.shift(); // already read
      const [next] = own;
      if (next?.start === this.#offset) {
        for (const leaf of next.leaves) this.#append(leaf, onLeaf);
        this.#offset = next.end;
        own.shift();
        continue;
      }
      const before = this.#offset;
      let taken = 0;
      for await (const { line, end } of linesFrom(this.#handle, this.#offset, next?.start)) {
        this.#offset = end;
        if (line.length === 0) continue; // blank, and no leaf
        this.#append(leafOfLine(line), onLeaf);
        taken += 1;
        if (taken % 4096 === 0) await onTiles(this.#tree.takeTiles());
      }
      if (this.#offset === before) return;
    }
  }

  /** Resolves once all that the file holds is on disk. */
  async sync(): Promise<void> {
    await this.#handle.datasync();
  }

  /** Never throws: what was only read loses nothing by it. */
  async close(): Promise<void> {
    await this.#handle.close().catch(() => undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #append(leaf: Sha256Hex, onLeaf: Growth['onLeaf']): void {
    this.#tree.append(Buffer.from(leaf, 'hex'));
    this.#lastLeaf = leaf;
    onLeaf(this);
  }
}

/** What lines are read from: a `FileHandle`, or as much of one. */
export interface Readable {
  read(into: Buffer, at: number, length: number, position: number): Promise<{ readonly bytesRead: number }>;
}

/** Yields the lines that are whole between `start` and `until`, blank ones too, and where each ends. */
export async function* linesFrom(
  handle: Readable,
  start: number,
  until: number = Number.POSITIVE_INFINITY,
): AsyncGenerator<{ readonly line: Buffer; readonly end: number }> {
  let offset = start;
  let size = chunkBytes;
  while (offset < until) {
    const chunk = Buffer.allocUnsafe(Math.min(size, until - offset));
    const { bytesRead } = await handle.read(chunk, 0, chunk.length, offset);
    const end = bytesRead === 0 ? 0 : chunk.lastIndexOf(LF, bytesRead - 1) + 1;
    if (end === 0 && (bytesRead < chunk.length || offset + bytesRead >= until)) return;
    if (end === 0) {
      size *= 2; // a longer line
      continue;
    }
    size = chunkBytes;
    for (let at = 0; at < end; ) {
      const lf = chunk.indexOf(LF, at);
      yield { line: chunk.subarray(at, lf), end: offset + lf + 1 };
      at = lf + 1;
    }
    offset += end;
  }
}
