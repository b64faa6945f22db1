/**
 * Verifies a log: every line for itself, every session's chain, what the lines say of each other, and what was sealed.
 *
 * Stands on docs/format.md, sections 4 to 8. The log, its keys and checkpoints kept elsewhere go in; findings, counts and
 * a verdict come out. Nothing of a network is imported here: proof must not need the system that is proved.
 */
import { closeSync, existsSync, fstatSync, openSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { type Sha256Hex, sha256Hex, zeroHash } from '../base/encoding.ts';
import { messageOf, SwarmError } from '../base/errors.ts';
import type { PublicKey } from '../identity/key.ts';
import { type Keyring, printKeyring } from '../identity/keyring.ts';
import { closedSegments, fileOfInode, logFiles, treeFolderOf } from '../log/files.ts';
import { whileUnlocked } from '../log/lock.ts';
import type { Position } from '../log/reader.ts';
import { Tlog, treeId } from '../log/tlog.ts';
import { parseCheckpoint } from '../merkle/checkpoint.ts';
import { parseNote } from '../merkle/note.ts';
import { treeRoot } from '../merkle/prove.ts';
import type { TileTree } from '../merkle/tile-tree.ts';
import { type Anchor, Anchors, Openers, wholeOf } from './anchors.ts';
import { Examiners } from './examiners.ts';
import type { Counts, Finding, FindingCode } from './finding.ts';
import { HashSet } from './hash-set.ts';
import { emptyTally, type FileAtHand, History, type ToFind } from './history.ts';
import { type KnownFile, knownLeaves, knownOf, treeOf } from './resume.ts';
import { type Fork, SealedFile, type SealReport } from './sealed-file.ts';
import { Sessions } from './sessions.ts';
import { readState, type VerifyState, writeState } from './state.ts';
import { Trust } from './trust.ts';
import { Unresolved } from './unresolved.ts';
import { type Verdict, verdictOn } from './verdict.ts';

export interface VerifyOptions {
  /** Whose keys count, and for what. @default none: any key counts */
  readonly keyring?: Keyring;
  /** Take a withheld payload for a finding. @default false */
  readonly requirePayloads?: boolean;
  /** Checkpoints that were kept elsewhere, to hold the log against. @default none */
  readonly anchors?: Iterable<Anchor>;
  /** Check hashes and checkpoints alone: no signatures, no chains, nothing of the keyring but its checkpoint keys. @default false */
  readonly quick?: boolean;
  /** A file that remembers what was verified, so that the next run reads only what is new. @default none: all is read */
  readonly state?: string;
  /** How many findings are listed; what is beyond is counted. @default 10000 */
  readonly findingLimit?: number;
  /** How many threads work on a large log. @default as many as there are cores */
  readonly jobs?: number;
  /** Called now and then with how far verification has come. */
  readonly onProgress?: (progress: { readonly bytes: number; readonly totalBytes: number }) => void;
}

/** One file of a log as an RFC 6962 tree: docs/format.md, section 8. */
export interface FileTree {
  readonly file: string;
  readonly size: number;
  /** 64 lowercase hex digits. */
  readonly root: Sha256Hex;
  /** The size that its own checkpoint agrees with; 0 where it has none. */
  readonly sealed: number;
}

export interface LogReport {
  readonly verdict: Verdict;
  /**
   * Up to which record, counted from 1 over all files, a checkpoint shows that none is missing: one that was kept
   * elsewhere if the verdict is ANCHORED, else the one beside the log. Never past the first line with a finding.
   */
  readonly completeTo: number;
  /** Lines that are not blank. */
  readonly records: number;
  /** Records without a finding. */
  readonly verified: number;
  /** Lines with at least one finding. */
  readonly bad: number;
  /** In the order of the lines, up to the limit; those of whole files last. */
  readonly findings: readonly Finding[];
  /** How many findings there are of each code, listed or not. */
  readonly findingCounts: ReadonlyMap<FindingCode, number>;
  readonly counted: Counts;
  readonly trees: readonly FileTree[];
  /** Checkpoints from elsewhere: that agree with the log, of nobody who counts, of other logs. */
  readonly anchors: { readonly matched: number; readonly ignored: number; readonly otherLogs: number };
  /** Evidence where the verdict is FORKED. */
  readonly forks: readonly Fork[];
  /** Lines without their payload, up to the limit. */
  readonly withheld: readonly Position[];
  /** Keys whose revocation names a place that is not in this log: what they signed here counts. */
  readonly notRevokedHere: readonly PublicKey[];
  /** Every key that signed a record, with the number of its records that verified. */
  readonly signers: ReadonlyMap<PublicKey, number>;
  /** Whether signatures were left unchecked. */
  readonly quick: boolean;
  /** Of a run with a state: how many records were taken as verified before, or why none were. */
  readonly resumed: { readonly records: number; readonly reason?: string } | undefined;
}

/**
 * Verifies the log at `path`, all its segments. Throws `LOG_OPEN` where it cannot be read, `STATE_INVALID`, and `USAGE`
 * for a state together with `quick`.
 */
export async function verifyLog(path: string, options: VerifyOptions = {}): Promise<LogReport> {
  if (options.quick === true && options.state !== undefined) {
    throw new SwarmError('USAGE', 'a quick verification checks too little to be remembered in a state');
  }
  using unresolved = new Unresolved();
  const verification = new Verification(path, options, unresolved);
  return await verification.run();
}

class Verification {
  readonly #path: string;
  readonly #options: VerifyOptions;
  readonly #trust: Trust | undefined;
  readonly #openers: Openers;
  readonly #anchors: Anchors;
  readonly #unresolved: Unresolved;
  readonly #terms: Sha256Hex;
  readonly #trees: FileTree[] = [];
  readonly #forks: Fork[] = [];
  readonly #files: VerifyState['files'] = [];
  #unresolvedBefore = 0;
  #matched = 0;
  #anchoredTo = 0;
  #sealedTo = 0;
  /** Lines of the files before. */
  #base = 0;
  #bytes = 0;
  #totalBytes = 0;

  constructor(path: string, options: VerifyOptions, unresolved: Unresolved) {
    this.#path = path;
    this.#options = options;
    this.#trust = options.keyring && new Trust(options.keyring);
    this.#openers = new Openers(options.keyring);
    this.#anchors = new Anchors(options.anchors ?? [], this.#openers);
    this.#unresolved = unresolved;
    const keyring = options.keyring === undefined ? 'none' : printKeyring(options.keyring);
    this.#terms = sha256Hex(`${options.requirePayloads === true} ${keyring}`);
  }

  async run(): Promise<LogReport> {
    const { quick = false, requirePayloads = false, jobs = availableParallelism() } = this.#options;
    const files = logFiles(this.#path);
    this.#totalBytes = files.reduce(
      (sum, file) => sum + (statSync(file, { throwIfNoEntry: false })?.size ?? 0),
      0,
    );
    const resumption = await this.#resume(files);
    const history = this.#historyFrom(resumption.state);
    for (const finding of this.#anchors.findings) history.find(finding);
    const isNew = this.#totalBytes - (resumption.known.at(-1)?.bytes ?? 0);
    await using examiners = new Examiners({ quick, requirePayloads }, isNew, jobs);
    await this.#readFiles(history, examiners, resumption.known);
    await this.#findEarlier(history, resumption.known);
    history.end();
    return await this.#report(history, resumption);
  }

  async #resume(
    files: readonly string[],
  ): Promise<{ known: readonly KnownFile[]; state: VerifyState | undefined; reason?: string }> {
    const path = this.#options.state;
    const state = path === undefined ? undefined : await readState(path);
    if (path === undefined || state === undefined) return { known: [], state: undefined };
    if (state.terms !== this.#terms) {
      return {
        known: [],
        state: undefined,
        reason: 'the keyring or what is demanded is another one than before',
      };
    }
    if (this.#trust?.hasRevocations === true) {
      return {
        known: [],
        state: undefined,
        reason: 'what was said before a key was revoked is not remembered',
      };
    }
    const found = await knownOf(this.#path, files, state);
    if ('reason' in found) return { known: [], state: undefined, reason: found.reason };
    if (!(await this.#tilesLeadToAnchors(found.known))) {
      const reason = 'its tiles do not lead to a checkpoint that was kept elsewhere';
      return { known: [], state: undefined, reason }; // only the lines show whether they or the tiles are others
    }
    return { known: found.known, state };
  }

  async #tilesLeadToAnchors(known: readonly KnownFile[]): Promise<boolean> {
    for (const { firstLeaf, size, read } of known) {
      for (const { checkpoint } of this.#anchors.of(treeId(firstLeaf))) {
        if (checkpoint.size >= size) continue;
        const root = await treeRoot(checkpoint.size, read).catch(() => undefined);
        if (root?.equals(checkpoint.root) !== true) return false;
      }
    }
    return true;
  }

  #historyFrom(state: VerifyState | undefined): History {
    const parts = {
      trust: this.#trust,
      findingLimit: this.#options.findingLimit ?? 10_000,
      unresolved: this.#unresolved,
    };
    if (state === undefined) {
      return new History({ ...parts, sessions: new Sessions(), tally: emptyTally(), signers: new Map() });
    }
    this.#unresolvedBefore = state.unresolved;
    const { current, ended, cut } = state.sessions;
    const sessions = new Sessions(
      HashSet.fromBytes(Buffer.from(ended.kept, 'base64'), Buffer.from(ended.secret, 'base64')),
      current.map(({ session, tsNs, leaf, swarm, ...rest }) => [
        session,
        { ...rest, swarm, leaf: leaf as Sha256Hex, tsNs: BigInt(tsNs) },
      ]),
      cut,
    );
    const tally = { ...emptyTally(), ...state.tally };
    return new History({
      ...parts,
      sessions,
      tally,
      signers: new Map(state.signers as [PublicKey, number][]),
    });
  }

  /** Reads the files in their order, the known ones from where they are known to. */
  async #readFiles(history: History, examiners: Examiners, known: readonly KnownFile[]): Promise<void> {
    const done = new Set<bigint>();
    let before: FileAtHand | undefined;
    for (let ordinal = 0, isLast = false; !isLast; ordinal += 1) {
      const opened = openNext(this.#path, done);
      isLast = opened.file === (existsSync(this.#path) ? this.#path : closedSegments(this.#path).at(-1));
      done.add(opened.inode);
      try {
        if (before !== undefined && known[ordinal] === undefined) history.sessions.endFile();
        before = await this.#readFile(history, examiners, {
          ...opened,
          ordinal,
          before,
          known: known[ordinal],
        });
      } catch (cause) {
        if (cause instanceof SwarmError) throw cause;
        throw new SwarmError('LOG_OPEN', `cannot read ${opened.file}: ${messageOf(cause)}`, { cause });
      } finally {
        closeSync(opened.fd);
      }
    }
    const locate = (): string => treeFolderOf(this.#path);
    if (existsSync(this.#path)) return;
    const beside = await checkpointAt(locate);
    // A segment that is closed just now takes its tree along before it goes.
    if (!existsSync(this.#path)) this.#findWithoutLines(history, locate, done.size, beside);
  }

  async #readFile(
    history: History,
    examiners: Examiners,
    { file, fd, inode, ordinal, before, known }: FileToRead,
  ): Promise<FileAtHand> {
    const locate = (): string => treeFolderOf(fileOfInode(this.#path, inode) ?? file);
    const beside = await checkpointAt(locate); // before the lines: they are at least as many
    const isGrowing = file === this.#path;
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
      atHand.sealed = new SealedFile(
        { locate, ordinal, firstLeaf, beside },
        this.#openers,
        this.#anchors,
        tree,
      );
    };
    if (known !== undefined) {
      begin(known.firstLeaf, await treeOf(known));
      await atHand.sealed?.compareEarlier(known.read, known.size);
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
        this.#bytes += batch.bytes;
        this.#options.onProgress?.({
          bytes: Math.min(this.#bytes, this.#totalBytes),
          totalBytes: this.#totalBytes,
        });
      }
      from = openAt ?? size;
      // A tail without LF may be a write in progress: it is torn only if nobody holds the lock and nothing follows.
      const isTorn =
        openAt !== undefined &&
        (!isGrowing || (await whileUnlocked(this.#path, () => fstatSync(fd).size === size)));
      if (openAt !== undefined && isTorn) {
        const detail = `the log ends with ${size - openAt} bytes that no line feed closes: torn, or cut off`;
        history.findTail({ code: 'unterminated', at: { file, line, offset: openAt }, detail });
        break;
      }
    }
    if (atHand.sealed === undefined) this.#findWithoutLines(history, locate, ordinal, beside);
    this.#closeFile(history, atHand, { bytes: from, lines: line - 1 }, known);
    return atHand;
  }

  #closeFile(
    history: History,
    atHand: FileAtHand,
    { bytes, lines }: { readonly bytes: number; readonly lines: number },
    known: KnownFile | undefined,
  ): void {
    const { file, sealed, firstLeaf, lastLeaf } = atHand;
    for (const toFind of atHand.toFind ?? []) this.#toFind.push({ ...toFind, known });
    if (sealed === undefined || firstLeaf === undefined) return;
    const { size } = sealed.tree;
    const root = sealed.tree.root().toString('hex') as Sha256Hex;
    const base = this.#base;
    this.#base += size;
    const { anchoredTo, sealedTo } = this.#takeReport(history, sealed);
    if (anchoredTo > 0) this.#anchoredTo = base + anchoredTo;
    if (sealedTo > 0) this.#sealedTo = base + sealedTo;
    this.#trees.push({ file, size, root, sealed: sealedTo });
    this.#files.push({ firstLeaf, lastLeaf, bytes, lines, size, root });
  }

  #takeReport(history: History, sealed: SealedFile): SealReport {
    const report = sealed.report(this.#trust);
    for (const finding of report.findings) history.find(finding);
    this.#forks.push(...report.forks);
    this.#matched += report.matched;
    this.#anchors.ignored += report.ignored;
    return report;
  }

  /** Holds checkpoints against a file without lines, or one that is gone, whose tree still stands there. */
  #findWithoutLines(
    history: History,
    locate: () => string,
    ordinal: number,
    beside: string | undefined,
  ): void {
    if (beside === undefined) return;
    const note = parseNote(beside);
    const parsed = note.ok ? parseCheckpoint(note.note.text) : note;
    const id = parsed.ok ? parsed.checkpoint.origin.slice(-32) : '';
    const firstLeaf = (id + zeroHash.slice(id.length)) as Sha256Hex; // what names the tree is its beginning
    const file = { locate, ordinal, firstLeaf, beside };
    this.#takeReport(history, new SealedFile(file, this.#openers, this.#anchors));
  }

  readonly #toFind: (ToFind & { readonly known: KnownFile | undefined })[] = [];

  /** Looks among the lines that were not read for what new ones name. */
  async #findEarlier(history: History, known: readonly KnownFile[]): Promise<void> {
    if (known.length === 0) return;
    const missing = new Set(this.#toFind);
    const isAsked = this.#unresolved.hasQuestions;
    if (missing.size === 0 && !isAsked) return;
    for (const file of known) {
      const wanted = [...missing].filter((toFind) => toFind.known === file);
      for await (const leaves of knownLeaves(file)) {
        if (isAsked) for (let at = 0; at < leaves.length; at += 32) this.#unresolved.give(leaves, at);
        for (const toFind of wanted) {
          const at = leaves.indexOf(Buffer.from(toFind.prev, 'hex'));
          if (at !== -1 && at % 32 === 0) missing.delete(toFind);
        }
      }
    }
    for (const toFind of missing) history.isNotFound(toFind);
  }

  async #report(
    history: History,
    { known, reason }: { readonly known: readonly KnownFile[]; readonly reason?: string },
  ): Promise<LogReport> {
    let otherLogs = 0;
    for (const head of this.#anchors.left()) {
      if (head.required) {
        const detail = `it is of log ${head.checkpoint.origin}, of which no file is here`;
        history.find({ code: 'log-missing', at: wholeOf(head.source), detail });
      } else otherLogs += 1;
    }
    const { tally, findings, findingCounts, signers } = history;
    const verdict = verdictOn(new Set(findingCounts.keys()), this.#matched);
    const { counted: fresh } = history;
    const counted = { ...fresh, unresolved: fresh.unresolved + this.#unresolvedBefore };
    const order = new Map(this.#trees.map(({ file }, index) => [file, index]));
    const placeOf = ({ at }: Finding): number => (at.line === 0 ? order.size : (order.get(at.file) ?? 0));
    const covered = verdict === 'ANCHORED' ? this.#anchoredTo : Math.max(this.#sealedTo, this.#anchoredTo);
    const { state } = this.#options;
    if (state !== undefined && findingCounts.size === 0)
      await this.#remember(state, history, counted.unresolved);
    return {
      verdict,
      completeTo: Math.min(covered, (tally.firstBad ?? Number.POSITIVE_INFINITY) - 1),
      records: tally.records,
      verified: tally.verified,
      bad: tally.bad,
      findings: findings.toSorted((a, b) => placeOf(a) - placeOf(b) || a.at.line - b.at.line),
      findingCounts,
      counted,
      trees: this.#trees,
      anchors: { matched: this.#matched, ignored: this.#anchors.ignored, otherLogs },
      forks: this.#forks,
      withheld: history.withheld,
      notRevokedHere: this.#trust?.notReached ?? [],
      signers,
      quick: this.#options.quick === true,
      resumed:
        state === undefined
          ? undefined
          : {
              records: known.reduce((sum, { size }) => sum + size, 0),
              ...(reason !== undefined && { reason }),
            },
    };
  }

  async #remember(path: string, { sessions, tally, signers }: History, unresolved: number): Promise<void> {
    const { current, ended, cut } = sessions.state;
    const { bad: _, firstBad: __, ...counts } = tally;
    await writeState(path, {
      version: 1,
      terms: this.#terms,
      files: this.#files,
      sessions: {
        current: current.map(([session, { swarm, tsNs, ...rest }]) => ({
          session,
          ...rest,
          tsNs: String(tsNs),
          ...(swarm !== undefined && { swarm }),
        })),
        ended: { secret: ended.secret.toString('base64'), kept: ended.toBytes().toString('base64') },
        cut,
      },
      tally: counts,
      unresolved,
      signers: [...signers],
    });
  }
}

interface OpenFile {
  readonly file: string;
  readonly fd: number;
  readonly inode: bigint;
}

interface FileToRead extends OpenFile {
  readonly ordinal: number;
  readonly before: FileAtHand | undefined;
  readonly known: KnownFile | undefined;
}

/**
 * Opens the oldest file of the log that is not yet done. Files are told apart by inode, since the growing one changes its
 * name when it is closed; and it counts only if no other was closed before we had it open.
 */
function openNext(path: string, done: ReadonlySet<bigint>): OpenFile {
  for (;;) {
    for (const file of logFiles(path)) {
      const opened = openToRead(file);
      if (opened === undefined) continue; // closed meanwhile, under another name
      const isNext =
        !done.has(opened.inode) &&
        (file !== path || closedSegments(path).every((closed) => done.has(inodeOf(closed))));
      if (isNext) return opened;
      closeSync(opened.fd);
    }
    // All that was there is done, but for the growing one, which was closed before it was opened: once more.
  }
}

/** Returns the checkpoint in the folder that `locate` returns, which moves when the segment is closed. */
async function checkpointAt(locate: () => string): Promise<string | undefined> {
  for (;;) {
    const folder = locate();
    const text = await new Tlog(folder).readCheckpoint();
    if (locate() === folder) return text; // else it may be that of the segment which came after
  }
}

function openToRead(file: string): OpenFile | undefined {
  let fd: number;
  try {
    fd = openSync(file, 'r');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new SwarmError('LOG_OPEN', `cannot read the log ${file}: ${messageOf(cause)}`, { cause });
  }
  const facts = fstatSync(fd, { bigint: true });
  if (facts.isFile()) return { file, fd, inode: facts.ino };
  closeSync(fd);
  throw new SwarmError('LOG_OPEN', `cannot read the log ${file}: it is not a file`);
}

function inodeOf(file: string): bigint {
  return statSync(file, { bigint: true }).ino;
}
