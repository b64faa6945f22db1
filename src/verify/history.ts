/**
 * The lines of a log in their order: what each says of the others (docs/format.md, section 7), and what the keyring says.
 *
 * Lines come examined; here is only what needs more than one of them. Memory holds where the sessions of the file at
 * hand stand and some bytes a line of it, not the lines.
 */
import { type Sha256Hex, zeroHash } from '../base/encoding.ts';
import type { PublicKey } from '../identity/key.ts';
import { type Batch, BatchEntry } from './batch.ts';
import type { Counts, Fault, Finding, FindingCode } from './finding.ts';
import type { HashSet } from './hash-set.ts';
import type { SealedFile } from './sealed-file.ts';
import type { Sessions } from './sessions.ts';
import { TornLines } from './torn-lines.ts';
import type { Trust } from './trust.ts';
import type { Unresolved } from './unresolved.ts';

/** A file while its lines go by. */
export interface FileAtHand {
  readonly file: string;
  readonly ordinal: number;
  /** Made with the first line. */
  sealed: SealedFile | undefined;
  firstLeaf: Sha256Hex | undefined;
  /** The leaf of the last line of the segment before; where none is here, what the file's first line says it is. */
  continues: Sha256Hex | undefined;
  /** Leaves of this file's lines so far, or those that were read this time. */
  readonly leaves: HashSet;
  lastLeaf: Sha256Hex;
  lines: number;
  /** Beginnings of sessions after a line that was not read this time; `undefined` where all are. */
  readonly toFind: ToFind[] | undefined;
}

/** A session that begins after a line that may be among those of an earlier run. */
export interface ToFind {
  readonly prev: Sha256Hex;
  readonly finding: Finding;
  readonly record: number;
}

/** What has been counted so far. */
export interface Tally {
  records: number;
  verified: number;
  bad: number;
  firstBad: number | undefined;
  withheld: number;
  recovered: number;
  continues: number;
  version1: number;
  seenVersion2: boolean;
}

export function emptyTally(): Tally {
  return {
    records: 0,
    verified: 0,
    bad: 0,
    firstBad: undefined,
    withheld: 0,
    recovered: 0,
    continues: 0,
    version1: 0,
    seenVersion2: false,
  };
}

export class History {
  readonly tally: Tally;
  readonly sessions: Sessions;
  readonly unresolved: Unresolved;
  readonly signers: Map<PublicKey, number>;
  readonly findings: Finding[] = [];
  readonly withheld: Finding['at'][] = [];
  readonly findingCounts: Map<FindingCode, number> = new Map();
  readonly #trust: Trust | undefined;
  readonly #limit: number;
  readonly #torn = new TornLines();

  constructor(parts: {
    readonly trust: Trust | undefined;
    readonly findingLimit: number;
    readonly sessions: Sessions;
    readonly unresolved: Unresolved;
    readonly tally: Tally;
    readonly signers: Map<PublicKey, number>;
  }) {
    this.#trust = parts.trust;
    this.#limit = parts.findingLimit;
    this.sessions = parts.sessions;
    this.unresolved = parts.unresolved;
    this.tally = parts.tally;
    this.signers = parts.signers;
  }

  /** Takes the lines of `batch`, the next ones of the file at hand; `firstLine` is the number of its first. */
  take(batch: Batch, file: FileAtHand, firstLine: number, begin: (firstLeaf: Sha256Hex) => void): void {
    const entry = new BatchEntry(batch);
    let fault = 0;
    for (let index = 0; index < batch.count; index += 1) {
      entry.moveTo(index);
      const faults: Fault[] = [];
      for (; batch.faults[fault]?.entry === index; fault += 1) faults.push(batch.faults[fault] as Fault);
      const at = { file: file.file, line: firstLine + entry.line, offset: entry.offset };
      if (file.firstLeaf === undefined) {
        file.firstLeaf = entry.leaf;
        begin(entry.leaf);
      }
      if (this.#trust?.hasRevocations === true) this.#advanceTrust(this.#trust, entry, file.firstLeaf, file);
      this.tally.records += 1;
      this.#takeLine(entry, faults, at, file);
      file.leaves.add(batch.entries, entry.leafAt);
      this.unresolved.give(batch.entries, entry.leafAt);
      file.sealed?.append(batch.entries, entry.leafAt);
      file.lines += 1;
      if (index === batch.count - 1) file.lastLeaf = entry.leaf;
    }
  }

  /** Says of a session's beginning, which counted as good, that there is no line before it. */
  isNotFound({ finding, record }: ToFind): void {
    this.tally.verified -= 1;
    this.#bad(record, [finding], finding.at);
  }

  /** Adds a finding about what stands after the last line. */
  findTail(finding: Finding): void {
    this.#bad(this.tally.records + 1, [finding], finding.at);
  }

  /** Adds a finding about a file as a whole. */
  find(finding: Finding): void {
    this.findingCounts.set(finding.code, (this.findingCounts.get(finding.code) ?? 0) + 1);
    if (this.findings.length < this.#limit) this.findings.push(finding);
  }

  /** Says of what is still torn that nothing recovered it. */
  end(): void {
    for (const { finding, record } of this.#torn.takeAll()) this.#bad(record, [finding], finding.at);
  }

  get counted(): Counts {
    const { withheld, recovered, continues, version1 } = this.tally;
    const unresolved = this.unresolved.count();
    return {
      withheld,
      recovered,
      continues,
      version1,
      unresolved,
      flushCut: this.sessions.countCutFlushes(),
    };
  }

  #takeLine(entry: BatchEntry, faults: Fault[], at: Finding['at'], file: FileAtHand): void {
    const { kind } = entry;
    const number = this.tally.records;
    if (kind === 'malformed') {
      this.#takeTorn(entry, faults, at);
      return;
    }
    if (kind === 'version1') {
      this.tally.version1 += 1;
      faults.push(...(this.#trust?.faultsOfSigner(entry.signer as PublicKey) ?? []));
      if (this.tally.seenVersion2) {
        faults.push({ code: 'misplaced', detail: 'a version 1 record after one of version 2' });
      }
    } else if (kind === 'record' || kind === 'recovery') {
      this.tally.seenVersion2 = true;
      const chainFault = this.sessions.advance(entry);
      if (chainFault !== undefined) faults.push(chainFault);
      else if (entry.seq === 0) faults.push(...this.#faultsOfBeginning(entry, at, file));
      if (entry.causeAt !== undefined) this.unresolved.ask(entry.entries, entry.causeAt);
      if (this.#trust !== undefined) {
        faults.push(
          ...this.#trust.faultsOfSigner(entry.signer as PublicKey),
          ...this.#trust.faultsOfRecord(entry),
          ...this.#faultsOfDelivery(this.#trust, entry),
        );
      }
    }
    if (entry.isWithheld) {
      this.tally.withheld += 1;
      if (this.withheld.length < this.#limit) this.withheld.push(at);
    }
    if (faults.length === 0 && entry.bytesHash !== undefined && this.#torn.recover(entry.bytesHash)) {
      this.tally.recovered += 1;
    }
    if (kind === 'version1' || kind === 'record' || kind === 'recovery') {
      const signer = entry.signer as PublicKey;
      this.signers.set(signer, (this.signers.get(signer) ?? 0) + (faults.length === 0 ? 1 : 0));
    }
    if (faults.length > 0) this.#bad(number, faults, at);
    else this.tally.verified += 1;
  }

  #faultsOfDelivery(trust: Trust, entry: BatchEntry): Fault[] {
    if (!trust.hasRevocations || !entry.isDelivery || entry.causeAt === undefined) return [];
    return trust.faultsOfDelivery(entry.spokenSigner as PublicKey, entry.entries, entry.causeAt);
  }

  #advanceTrust(trust: Trust, entry: BatchEntry, firstLeaf: Sha256Hex, file: FileAtHand): void {
    const { leaf, isDelivery } = entry;
    const delivered = isDelivery ? entry.cause : undefined;
    trust.advance({ leaf, delivered, file: file.ordinal, index: file.lines, firstLeaf });
    if (entry.isPublish) trust.said(entry.signer as PublicKey, entry.entries, entry.leafAt);
  }

  #takeTorn(entry: BatchEntry, faults: Fault[], at: Finding['at']): void {
    const [fault] = faults;
    const hash = entry.bytesHash;
    if (fault === undefined || hash === undefined) return;
    const line = { finding: { ...fault, at }, record: this.tally.records };
    if (!this.#torn.add(hash, line)) this.#bad(line.record, [fault], at);
  }

  /** What a session's first record names as the one before it: zeros, an earlier line, or the segment before. */
  #faultsOfBeginning(entry: BatchEntry, at: Finding['at'], file: FileAtHand): Fault[] {
    const { prev } = entry;
    const isFirstLine = file.lines === 0;
    if (isFirstLine && file.continues !== undefined) {
      if (prev === file.continues) return [];
      const detail = `the file continues ${prev}, but the segment before it ends with ${file.continues}`;
      return [{ code: 'segment-missing', detail }];
    }
    if (prev === zeroHash || prev === file.continues || file.leaves.has(entry.entries, entry.prevAt))
      return [];
    if (isFirstLine) {
      this.tally.continues += 1;
      file.continues = prev; // other sessions, too, may have been opened before this first line was written
      return [];
    }
    const detail = `the session that begins with ${entry.leaf} names ${prev}, which is no line before it`;
    if (file.toFind === undefined) return [{ code: 'prev-unknown', detail }];
    file.toFind.push({ prev, finding: { code: 'prev-unknown', detail, at }, record: this.tally.records });
    return [];
  }

  #bad(record: number, faults: readonly Fault[], at: Finding['at']): void {
    this.tally.bad += 1;
    if (record < (this.tally.firstBad ?? Number.POSITIVE_INFINITY)) this.tally.firstBad = record;
    for (const { code, detail } of faults) this.find({ code, at, detail });
  }
}
