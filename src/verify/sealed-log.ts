/**
 * What was sealed of a log, file by file: what became of the checkpoints of each, and what they show together.
 */
import { type Sha256Hex, zeroHash } from '../base/encoding.ts';
import { logName } from '../log/files.ts';
import { treeIdOf } from '../log/tlog.ts';
import { parseCheckpointNote } from '../merkle/checkpoint.ts';
import type { TileTree } from '../merkle/tile-tree.ts';
import { Anchors, Openers, wholeOf } from './anchors.ts';
import { Coverage } from './coverage.ts';
import type { Finding } from './finding.ts';
import type { FileTree, LogReport, VerifyOptions } from './report.ts';
import { type FileSealed, type Fork, SealedFile, type SealReport } from './sealed-file.ts';
import type { Trust } from './trust.ts';

export class SealedLog {
  readonly #path: string;
  readonly #openers: Openers;
  readonly #anchors: Anchors;
  readonly #trust: Trust | undefined;
  readonly coverage: Coverage = new Coverage();
  /** Of the files that have lines. */
  readonly trees: FileTree[] = [];
  readonly forks: Fork[] = [];
  readonly findings: Finding[] = [];
  /** How many checkpoints kept elsewhere agree with the lines. */
  matched = 0;

  constructor(path: string, { keyring, anchors = [] }: VerifyOptions, trust: Trust | undefined) {
    this.#path = path;
    this.#openers = new Openers(keyring);
    this.#anchors = new Anchors(anchors, this.#openers);
    this.#trust = trust;
    this.findings.push(...this.#anchors.findings);
  }

  /** Returns the next file, whose lines are to be appended; `tree` is that of those that will not be. */
  openFile(file: FileSealed, tree?: TileTree): SealedFile {
    return new SealedFile(file, this.#openers, this.#anchors, tree);
  }

  /** Takes what became of the checkpoints of `file`, all of whose lines were appended; returns its tree. */
  closeFile(file: string, sealed: SealedFile): FileTree {
    const { covered, sealed: size } = this.#take(sealed);
    const tree = {
      file,
      size: sealed.tree.size,
      root: sealed.tree.root().toString('hex') as Sha256Hex,
      sealed: size,
    };
    this.coverage.addFile(tree.size, covered);
    this.trees.push(tree);
    return tree;
  }

  /** Holds checkpoints against a file without lines, or one that is gone, whose tree still stands there. */
  closeWithoutLines(gone: Omit<FileSealed, 'firstLeaf'>): void {
    if (gone.checkpoint === undefined) return;
    const parsed = parseCheckpointNote(gone.checkpoint);
    const id = parsed.ok ? treeIdOf(parsed.checkpoint.origin) : '';
    const firstLeaf = (id + zeroHash.slice(id.length)) as Sha256Hex; // what names the tree is its beginning
    this.#take(this.openFile({ ...gone, firstLeaf }));
  }

  /** Says what became of the checkpoints kept elsewhere, those of no file here included, after the last file. */
  end(): LogReport['anchors'] {
    let otherLogs = 0;
    for (const { required, checkpoint, source } of this.#anchors.left()) {
      if (required) {
        const detail = `it is of log ${checkpoint.origin}, of which no file is here`;
        this.findings.push({ code: 'log-missing', at: wholeOf(source), detail });
      } else otherLogs += 1;
    }
    const absent = this.#anchors.absentUnder(logName(this.#path));
    return { matched: this.matched, ignored: this.#anchors.ignored, otherLogs, absent };
  }

  #take(sealed: SealedFile): SealReport {
    const report = sealed.report(this.#trust);
    this.findings.push(...report.findings);
    this.forks.push(...report.forks);
    this.matched += report.matched;
    this.#anchors.ignored += report.ignored;
    return report;
  }
}
