/**
 * One verification of a log, from its first file to the report.
 *
 * Files are read in their order, and each as far as it goes when its end is reached. What a file's lines say by themselves
 * comes from the examiners, what they say of each other goes into the history, what was sealed of them is held against
 * their tree.
 */
import { closeSync, fstatSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { type Sha256Hex, sha256Hex, zeroHash } from '../base/encoding.ts';
import { messageOf, SwarmError } from '../base/errors.ts';
import { printKeyring } from '../identity/keyring.ts';
import { isThere, logFiles, treeFolderOf } from '../log/files.ts';
import { whileUnlocked } from '../log/lock.ts';
import { TreeBeside, treeOfInode } from '../log/tree-beside.ts';
import type { TileTree } from '../merkle/tile-tree.ts';
import { Examiners } from './examiners.ts';
import type { Finding } from './finding.ts';
import { HashSet } from './hash-set.ts';
import { type FileAtHand, History, type ToFind } from './history.ts';
import { type OpenFile, openNext } from './open-next.ts';
import { type Beginning, beginningFrom, stateOf } from './remember.ts';
import type { FileTree, LogReport, Resumed, VerifyOptions } from './report.ts';
import { type KnownFile, knownOf, missingFrom, type Resumption, treeOf } from './resume.ts';
import { SealedLog } from './sealed-log.ts';
import { type VerifyState, writeState } from './state.ts';
import { Trust } from './trust.ts';
import { Unresolved } from './unresolved.ts';
import { verdictOn } from './verdict.ts';

/** A file to read, or what is new in it. */
interface FileToRead extends OpenFile {
  readonly ordinal: number;
  readonly before: FileAtHand | undefined;
  readonly known: KnownFile | undefined;
}

export class Verification implements AsyncDisposable {
  readonly #path: string;
  readonly #options: VerifyOptions;
  readonly #state: VerifyState | undefined;
  readonly #terms: Sha256Hex;
  readonly #trust: Trust | undefined;
  readonly #sealed: SealedLog;
  readonly #unresolved = new Unresolved();
  readonly #files: VerifyState['files'] = [];
  readonly #toFind: (ToFind & { readonly leaf: Buffer; readonly file: KnownFile })[] = [];
  #examiners: Examiners | undefined;
  #bytes = 0;
  #totalBytes = 0;

  /** Goes on from `state`, if one is given and what it remembers is still there. */
  constructor(path: string, options: VerifyOptions, state?: VerifyState) {
    this.#path = path;
    this.#options = options;
    this.#state = state;
    const keyring = options.keyring === undefined ? 'none' : printKeyring(options.keyring);
    this.#terms = sha256Hex(`${options.requirePayloads === true} ${keyring}`);
    this.#trust = options.keyring && new Trust(options.keyring);
    this.#sealed = new SealedLog(path, options, this.#trust);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#unresolved[Symbol.dispose]();
    await this.#examiners?.[Symbol.asyncDispose]();
  }

  async run(): Promise<LogReport> {
    const { quick = false, requirePayloads = false, jobs = availableParallelism() } = this.#options;
    const files = logFiles(this.#path);
    this.#totalBytes = files.reduce((sum, file) => sum + sizeOf(file), 0);
    const resumption = await this.#resume();
    const state = resumption.known.length > 0 ? this.#state : undefined;
    const beginning = beginningFrom(state);
    const findingLimit = this.#options.findingLimit ?? 10_000;
    const history = new History({
      ...beginning,
      trust: this.#trust,
      findingLimit,
      unresolved: this.#unresolved,
    });
    const newBytes = this.#totalBytes - resumption.known.reduce((sum, { bytes }) => sum + bytes, 0);
    const examiners = new Examiners({ quick, requirePayloads }, newBytes, jobs);
    this.#examiners = examiners;
    const count = await this.#readFiles(history, examiners, resumption.known);
    await this.#findGrowingGone(count);
    await this.#findEarlier(history, resumption.known);
    history.end();
    return await this.#report(history, beginning, resumption);
  }

  async #resume(): Promise<Resumption> {
    if (this.#state === undefined) return { known: [] };
    if (this.#state.terms !== this.#terms) {
      return { known: [], reason: 'the keyring or what is demanded is another one than before' };
    }
    if (this.#trust?.hasRevocations === true) {
      return { known: [], reason: 'what was said before a key was revoked is not remembered' };
    }
    return await knownOf(this.#path, this.#state);
  }

  /** Reads the files in their order, the known ones from where they are known to; returns how many there were. */
  async #readFiles(history: History, examiners: Examiners, known: readonly KnownFile[]): Promise<number> {
    const done = new Set<bigint>();
    let before: FileAtHand | undefined;
    for (let ordinal = 0, isLast = false; !isLast; ordinal += 1) {
      const opened = openNext(this.#path, done);
      if (opened === undefined) break;
      isLast = opened.isLast;
      done.add(opened.inode);
      try {
        if (before !== undefined && known[ordinal] === undefined) history.sessions.endFile();
        const file: FileToRead = { ...opened, ordinal, before, known: known[ordinal] };
        before = await this.#readFile(history, examiners, file);
      } catch (cause) {
        if (cause instanceof SwarmError) throw cause;
        throw new SwarmError('LOG_OPEN', `cannot read ${opened.file}: ${messageOf(cause)}`, { cause });
      } finally {
        closeSync(opened.fd);
      }
    }
    return done.size;
  }

  /** Where the growing segment is gone, its tree may still be there. */
  async #findGrowingGone(ordinal: number): Promise<void> {
    const stored = new TreeBeside(this.#path, () => treeFolderOf(this.#path));
    if (isThere(this.#path)) return;
    const checkpoint = await stored.readCheckpoint();
    // A segment that is closed just now takes its tree along before it goes.
    if (!isThere(this.#path)) this.#sealed.closeWithoutLines({ stored, ordinal, checkpoint });
  }

  async #readFile(
    history: History,
    examiners: Examiners,
    { file, fd, inode, ordinal, before, known }: FileToRead,
  ): Promise<FileAtHand> {
    const stored = treeOfInode(this.#path, inode, file);
    const checkpoint = await stored.readCheckpoint(); // before the lines: they are at least as many
    const atHand: FileAtHand = {
      file,
      ordinal,
      sealed: undefined,
      firstLeaf: undefined,
      continues: before?.lastLeaf ?? known?.continues,
      leaves: new HashSet(),
      lastLeaf: known?.lastLeaf ?? before?.lastLeaf ?? zeroHash,
      lines: known?.size ?? 0,
      toFind: known && [],
    };
    const begin = (firstLeaf: Sha256Hex, tree?: TileTree): void => {
      atHand.firstLeaf = firstLeaf;
      const sealed = { stored, ordinal, firstLeaf, checkpoint };
      atHand.sealed = this.#sealed.openFile(sealed, tree);
    };
    if (known !== undefined) {
      begin(known.firstLeaf, await treeOf(known));
      await atHand.sealed?.compareEarlier(known, known.read);
    }
    let line = 1 + (known?.lines ?? 0);
    let from = known?.bytes ?? 0;
    this.#bytes += from;
    for (let openAt: number | undefined = from; openAt !== undefined; ) {
      from = openAt;
      openAt = undefined;
      const size = fstatSync(fd).size;
      for await (const batch of examiners.examine(fd, from, size)) {
        history.take(batch, atHand, line, begin);
        await atHand.sealed?.compareTiles();
        line += batch.lines;
        openAt ??= batch.openAt;
        this.#progress(batch.bytes);
      }
      from = openAt ?? size;
      if (openAt !== undefined && (await this.#isTorn(file, fd, size))) {
        const detail = `the log ends with ${size - openAt} bytes that no line feed closes: torn, or cut off`;
        history.findTail({ code: 'unterminated', at: { file, line, offset: openAt }, detail });
        break;
      }
    }
    if (known !== undefined) {
      for (const toFind of atHand.toFind ?? [])
        this.#toFind.push({ ...toFind, leaf: Buffer.from(toFind.prev, 'hex'), file: known });
    }
    const { sealed, firstLeaf, lastLeaf } = atHand;
    if (sealed === undefined || firstLeaf === undefined) {
      this.#sealed.closeWithoutLines({ stored, ordinal, checkpoint });
      return atHand;
    }
    const { size, root } = this.#sealed.closeFile(file, sealed);
    this.#files.push({ firstLeaf, lastLeaf, bytes: from, lines: line - 1, size, root });
    return atHand;
  }

  /** Reports whether a tail without LF is torn: it is only if nobody holds the lock, and nothing follows. */
  async #isTorn(file: string, fd: number, size: number): Promise<boolean> {
    return file !== this.#path || (await whileUnlocked(this.#path, () => fstatSync(fd).size === size));
  }

  #progress(bytes: number): void {
    this.#bytes += bytes;
    const totalBytes = this.#totalBytes;
    this.#options.onProgress?.({ bytes: Math.min(this.#bytes, totalBytes), totalBytes });
  }

  /** Looks among the lines that were not read for what new ones name. */
  async #findEarlier(history: History, known: readonly KnownFile[]): Promise<void> {
    const unresolved = this.#unresolved;
    const give = unresolved.hasQuestions
      ? (leaves: Buffer, at: number) => unresolved.give(leaves, at)
      : undefined;
    for (const toFind of await missingFrom(known, this.#toFind, give)) history.isNotFound(toFind);
  }

  async #report(history: History, beginning: Beginning, { known, reason }: Resumption): Promise<LogReport> {
    const sealed = this.#sealed;
    const anchors = sealed.end();
    for (const finding of sealed.findings) history.find(finding);
    const { tally, findings, findingCounts, signers } = history;
    const { counted } = history;
    const before = known.length > 0 ? (this.#state?.unresolved ?? 0) : 0;
    const unresolved = counted.unresolved + before;
    const verdict = verdictOn(new Set(findingCounts.keys()), anchors.matched);
    const { state, quick = false } = this.#options;
    let notRemembered: string | undefined;
    if (state !== undefined && findingCounts.size === 0) {
      const content = stateOf(beginning, { terms: this.#terms, files: this.#files, unresolved });
      notRemembered = await writeState(state, content).then(() => undefined, messageOf);
    }
    const resumed: Resumed = {
      records: known.reduce((sum, { size }) => sum + size, 0),
      ...(reason !== undefined && { reason }),
      ...(notRemembered !== undefined && { notRemembered }),
    };
    return {
      verdict,
      completeTo: sealed.coverage.completeTo(verdict, tally.firstBad),
      records: tally.records,
      verified: tally.verified,
      bad: tally.bad,
      findings: inOrder(findings, sealed.trees),
      findingCounts,
      counted: { ...counted, unresolved },
      trees: sealed.trees,
      anchors,
      forks: sealed.forks,
      withheld: history.withheld,
      notRevokedHere: this.#trust?.notReached ?? [],
      signers,
      quick,
      resumed: state === undefined ? undefined : resumed,
    };
  }
}

/** Returns findings in the order of the lines; those of whole files last. */
function inOrder(findings: readonly Finding[], trees: readonly FileTree[]): Finding[] {
  const order = new Map(trees.map(({ file }, index) => [file, index]));
  const placeOf = ({ at }: Finding): number => (at.line === 0 ? order.size : (order.get(at.file) ?? 0));
  return findings.toSorted((a, b) => placeOf(a) - placeOf(b) || a.at.line - b.at.line);
}

function sizeOf(file: string): number {
  return statSync(file, { throwIfNoEntry: false })?.size ?? 0;
}
