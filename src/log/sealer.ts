/**
 * Seals a log, all its files, as often as asked (docs/format.md, section 8).
 *
 * A seal holds the lock of the tree from beginning to end, so that of many sealers one is at work and no segment is
 * closed meanwhile; a writer waits for it only to close one. It costs what is new: the tree of the growing segment is kept from
 * seal to seal, and a closed one is looked at once.
 */
import { closeSync, openSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { makeFolderDurably } from '../base/durable.ts';
import { messageOf, SwarmError } from '../base/errors.ts';
import { leafOfLine } from '../record/entry.ts';
import { FileTree, type OwnLines } from './file-tree.ts';
import { closedSegments, isThere, logFiles, treeFolderOf } from './files.ts';
import { lastSealOf, type SealOptions } from './last-seal.ts';
import { LogLock } from './lock.ts';
import { returnTree } from './returned-tree.ts';
import { lastLeafOf, type Seal, sealFile } from './seal-file.ts';
import { lastLineOf } from './segment.ts';
import { Tlog } from './tlog.ts';

/** Seals all that the log at `path` holds. See `Sealer.seal` for what it returns and throws. */
export async function sealLog(path: string, options: SealOptions): Promise<Seal[]> {
  logFiles(path);
  const sealer = new Sealer(path, options);
  try {
    return await sealer.seal();
  } finally {
    await sealer.close();
  }
}

export class Sealer {
  readonly #path: string;
  readonly #options: SealOptions;
  #lock: LogLock | undefined;
  /** The tree of the segment that grows, or did when it was sealed last. */
  #kept: FileTree | undefined;
  /** Closed segments that are sealed whole: their names are not used again. */
  readonly #complete = new Set<string>();

  constructor(path: string, options: SealOptions) {
    this.#path = path;
    this.#options = options;
  }

  /**
   * Looks whether the growing segment can be sealed further, without reading its lines. Throws `SEAL_REFUSED` or
   * `SEAL_STATE` if not, `SEAL_FAILED` where it cannot look.
   */
  async check(): Promise<void> {
    await this.#holding(async () => {
      if (!isThere(this.#path)) return;
      await using tree = await FileTree.open(this.#path);
      const firstLeaf = await tree.firstLeaf();
      if (firstLeaf !== undefined) await lastSealOf(this.#path, firstLeaf, this.#options);
    });
  }

  /**
   * Seals all that the log holds, and returns the new checkpoints, oldest file first: none where nothing is new. `own`
   * holds lines whose leaves are known, by the inode of their file; what was used is taken out. Throws `SEAL_REFUSED`
   * where the log does not extend what was sealed, `SEAL_STATE`, and `SEAL_FAILED` where something cannot be read or
   * written.
   */
  async seal(own: Map<bigint, OwnLines[]> = new Map()): Promise<Seal[]> {
    return await this.#holding(async () => {
      const seals: Seal[] = [];
      const files = isThere(this.#path) ? logFiles(this.#path) : closedSegments(this.#path);
      for (const file of files) {
        if (this.#complete.has(file)) continue;
        const seal = await this.#sealFile(file, statSync(file, { bigint: true }).ino, own);
        if (seal !== undefined) seals.push(seal);
      }
      const growing = statSync(this.#path, { bigint: true, throwIfNoEntry: false })?.ino;
      for (const inode of own.keys()) if (inode !== growing) own.delete(inode);
      return seals;
    });
  }

  async close(): Promise<void> {
    await this.#forget();
    this.#lock?.close();
    this.#lock = undefined;
  }

  async #sealFile(file: string, inode: bigint, own: Map<bigint, OwnLines[]>): Promise<Seal | undefined> {
    const isGrowing = file === this.#path;
    if (this.#kept?.inode !== inode) {
      if (!isGrowing && (await this.#isSealedWhole(file))) {
        this.#complete.add(file);
        return undefined;
      }
      await this.#forget();
      this.#kept = await FileTree.open(file);
    }
    const seal = await sealFile(
      { path: this.#path, file, tree: this.#kept, own: own.get(inode) ?? [] },
      this.#options,
    );
    if (!isGrowing) this.#complete.add(file);
    return seal;
  }

  /** Reports whether a closed segment's checkpoint is of its last line, which stays its last, and we need not remember it. */
  async #isSealedWhole(file: string): Promise<boolean> {
    await using tree = await FileTree.open(file);
    const firstLeaf = await tree.firstLeaf();
    if (firstLeaf === undefined) return true;
    const { sealed, isUnremembered } = await lastSealOf(file, firstLeaf, this.#options);
    if (sealed === undefined || sealed.size === 0 || isUnremembered) return false;
    const leaf = await lastLeafOf(new Tlog(treeFolderOf(file)), sealed.size).catch(() => undefined);
    const fd = openSync(file, 'r');
    try {
      const line = lastLineOf(fd);
      return line !== undefined && leafOfLine(line) === leaf?.toString('hex');
    } finally {
      closeSync(fd);
    }
  }

  async #holding<Result>(act: () => Promise<Result>): Promise<Result> {
    try {
      if (this.#lock === undefined) {
        await makeFolderDurably(dirname(this.#path));
        this.#lock = LogLock.open(treeFolderOf(this.#path));
      }
      return await this.#lock.hold(async () => {
        await returnTree(this.#path);
        return await act();
      });
    } catch (cause) {
      await this.#forget(); // what is kept of a tree may be ahead of its tiles
      if (cause instanceof SwarmError && cause.code !== 'TILE_INVALID') throw cause;
      throw new SwarmError('SEAL_FAILED', `cannot seal the log ${this.#path}: ${messageOf(cause)}`, {
        cause,
      });
    }
  }

  async #forget(): Promise<void> {
    const kept = this.#kept;
    this.#kept = undefined;
    await kept?.close();
  }
}
