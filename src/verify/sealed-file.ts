/**
 * A file's lines as a tree, held against everything that was sealed of it: its tiles, the checkpoint beside it, and those
 * kept elsewhere (docs/format.md, section 8).
 */
import { join } from 'node:path';
import type { Sha256Hex } from '../base/encoding.ts';
import { isOfTree, treeId } from '../log/tlog.ts';
import type { TreeBeside } from '../log/tree-beside.ts';
import { checkConsistency, proveConsistency, type ReadHashes, type TreeHead } from '../merkle/prove.ts';
import { hashesAtLevel, printTilePath, tileWidth } from '../merkle/tile.ts';
import { type StoredTile, TileTree } from '../merkle/tile-tree.ts';
import { hashBytes } from '../merkle/tree.ts';
import { type Anchors, type Head, type Openers, wholeOf } from './anchors.ts';
import type { Covered } from './coverage.ts';
import type { Finding } from './finding.ts';
import type { Trust } from './trust.ts';

/** Two checkpoints of one log that contradict each other, or one that contradicts the log. */
export interface Fork {
  readonly origin: string;
  /** The checkpoint that was kept elsewhere, or beside the log, and that the log contradicts. */
  readonly theirs: string;
  readonly source: string;
  /** A checkpoint that the log, or somebody else, agrees with; `undefined` where there is none. */
  readonly ours: string | undefined;
}

/** What became of a file's checkpoints. */
export interface SealReport {
  readonly findings: readonly Finding[];
  readonly forks: readonly Fork[];
  /** Checkpoints kept elsewhere that agree with the lines. */
  readonly matched: number;
  /** Checkpoints kept elsewhere whose key is revoked. */
  readonly ignored: number;
  /** The size that the checkpoint beside the file agrees with; 0 where it has none. */
  readonly sealed: number;
  readonly covered: Covered;
}

/** A file and what was sealed of it. */
export interface FileSealed {
  readonly stored: TreeBeside;
  /** Which file of the log, from 0. */
  readonly ordinal: number;
  readonly firstLeaf: Sha256Hex;
  /** The checkpoint in the folder of its tree. */
  readonly checkpoint: string | undefined;
}

export class SealedFile {
  readonly tree: TileTree;
  readonly #stored: TreeBeside;
  readonly #ordinal: number;
  readonly #id: string;
  readonly #findings: Finding[] = [];
  readonly #heads: Head[];
  readonly #own: Head | undefined;
  /** The heads in order of size: the next one to come. */
  #next = 0;
  readonly #holds = new Set<Head>();
  #toCompare: StoredTile[] = [];

  /** `tree` is that of the lines that will not be appended, if there are any. */
  constructor(file: FileSealed, openers: Openers, anchors: Anchors, tree: TileTree = new TileTree()) {
    this.tree = tree;
    this.#stored = file.stored;
    this.#ordinal = file.ordinal;
    this.#id = treeId(file.firstLeaf);
    this.#own = this.#openOwn(file, openers);
    this.#heads = anchors.take(this.#id);
    if (this.#own !== undefined) this.#heads.push(this.#own);
    this.#heads.sort((a, b) => a.checkpoint.size - b.checkpoint.size);
    this.#reach();
  }

  #openOwn({ checkpoint: text, firstLeaf }: FileSealed, openers: Openers): Head | undefined {
    if (text === undefined) return undefined;
    const source = join(this.#stored.folder, 'checkpoint');
    const opened = openers.open({ text, source }, false);
    if (opened.ok && isOfTree(opened.head.checkpoint, firstLeaf)) return opened.head;
    this.#findings.push({
      at: wholeOf(source),
      ...(opened.ok
        ? { code: 'checkpoint-invalid', detail: `it is of another log, ${opened.head.checkpoint.origin}` }
        : { code: opened.code, detail: opened.detail }),
    });
    return undefined;
  }

  /** Takes the leaf of the next line, 32 bytes from `at` of `bytes` on. */
  append(bytes: Buffer, at: number): void {
    this.tree.append(bytes.subarray(at, at + hashBytes));
    this.#reach();
  }

  /** Compares the tiles that are whole by now with those in the tree's folder. */
  async compareTiles(): Promise<void> {
    const size = this.#own?.checkpoint.size ?? 0;
    const taken = this.#toCompare;
    this.#toCompare = [];
    for (const stored of [
      ...taken,
      ...this.tree.takeTiles().filter(({ tile }) => tile.width === tileWidth),
    ]) {
      const { level, index, width } = stored.tile;
      if (index * tileWidth + width <= hashesAtLevel(level, size)) await this.#compare(stored);
    }
  }

  async #compare({ tile, bytes }: StoredTile): Promise<void> {
    const there = await this.#stored.readTile(tile);
    if (there?.equals(bytes)) return;
    const at = wholeOf(join(this.#stored.folder, printTilePath(tile)));
    this.#findings.push(
      there === undefined
        ? { code: 'tile-missing', at, detail: 'the checkpoint needs it, and it is not there' }
        : { code: 'tile-mismatch', at, detail: "it is not the tile over the log's lines" },
    );
  }

  /**
   * Checks that checkpoints of fewer lines than the tree began with are of the beginning of these lines. Their `head` is
   * trusted, the tiles that `read` reads are not: they only have to prove it.
   */
  async compareEarlier(head: TreeHead, read: ReadHashes): Promise<void> {
    for (const earlier of this.#heads) {
      const { size } = earlier.checkpoint;
      if (size === 0 || size >= head.size) continue;
      const proof = await proveConsistency(size, head.size, read);
      if (checkConsistency(proof, earlier.checkpoint, head)) this.#holds.add(earlier);
    }
  }

  /** Compares the root where a checkpoint is of so many lines as there are by now. */
  #reach(): void {
    for (let head = this.#heads[this.#next]; head !== undefined; head = this.#heads[this.#next]) {
      if (head.checkpoint.size > this.tree.size) return;
      if (head.checkpoint.size === this.tree.size && head.checkpoint.root.equals(this.tree.root())) {
        this.#holds.add(head);
      }
      // The partial tiles of the sealed tree are there now, and grow away with the next line.
      if (head === this.#own) this.#toCompare.push(...this.tree.takeTiles());
      this.#next += 1;
    }
  }

  /** Says what became of the checkpoints, once all lines were appended and the tiles compared. */
  report(trust: Trust | undefined): SealReport {
    const findings = this.#findings;
    const forks: Fork[] = [];
    const counts = { matched: 0, ignored: 0, sealed: 0 };
    const covered = { byAny: 0, byAnchor: 0 };
    const valid = this.#heads.filter((head) => {
      if (!this.#isRevoked(head, trust)) return true;
      if (head.isAnchor && !head.required) counts.ignored += 1;
      else
        findings.push({
          code: 'checkpoint-revoked-key',
          at: wholeOf(head.source),
          detail: 'its key was revoked before its last record',
        });
      return false;
    });
    const ours = valid.findLast((head) => this.#holds.has(head));
    const disputedFrom = valid.find((head) => !this.#holds.has(head))?.checkpoint.size ?? this.tree.size + 1;
    for (const [index, head] of valid.entries()) {
      const { size, origin, root } = head.checkpoint;
      const at = wholeOf(head.source);
      if (this.#holds.has(head)) {
        if (head.isAnchor) counts.matched += 1;
        else counts.sealed = size;
        if (size >= disputedFrom) continue;
        covered.byAny = size;
        if (head.isAnchor) covered.byAnchor = size;
        continue;
      }
      const twin = valid[index - 1]?.checkpoint;
      const contradictsTwin = twin?.size === size && !twin.root.equals(root);
      if (size > this.tree.size) {
        const detail = `it is of ${size} records, and only ${this.tree.size} are here`;
        findings.push({ code: 'truncated', at, detail });
        if (!contradictsTwin) continue;
      }
      const detail = contradictsTwin
        ? `another checkpoint of ${size} records has another root`
        : `the first ${size} records here are not those that it is of`;
      findings.push({ code: 'forked', at, detail });
      const other = contradictsTwin ? valid[index - 1] : ours;
      forks.push({ origin, theirs: head.text, source: head.source, ours: other?.text });
    }
    return { findings, forks, covered, ...counts };
  }

  #isRevoked({ signers, checkpoint: { size } }: Head, trust: Trust | undefined): boolean {
    const place = { file: this.#ordinal, id: this.#id, size };
    return signers.length > 0 && signers.every((signer) => trust?.isRevokedAt(signer, place) === true);
  }
}
