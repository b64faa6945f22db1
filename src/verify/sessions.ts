/**
 * The chain of each session, checked record by record: docs/format.md, section 7.
 *
 * A session is a key and 16 random bytes, in one file. Its records count up from 0, each names the leaf of the one
 * before and is later than it. After a break checking resumes from the line that broke, so one break is one finding.
 * Where a session stands is remembered while its file is read; of the sessions of earlier files, that they were.
 */
import type { BatchEntry } from './batch.ts';
import type { Fault } from './finding.ts';
import { HashSet } from './hash-set.ts';
import { type Session, SessionTable } from './session-table.ts';

/** What is remembered of sessions. */
export interface SessionsState {
  /** Those of the file at hand. */
  readonly current: SessionTable;
  /** Those of earlier files. */
  readonly ended: HashSet;
  /** How many of earlier files end inside a flush. */
  readonly cut: number;
}

export class Sessions {
  #current: SessionTable;
  readonly #ended: HashSet;
  #cut: number;

  constructor({ current, ended, cut }: SessionsState = startOfLog()) {
    this.#current = current;
    this.#ended = ended;
    this.#cut = cut;
  }

  /** Takes `record` as the next of its session; returns what is wrong with that, if anything. */
  advance(record: BatchEntry): Fault | undefined {
    const session = this.#current.find(record);
    if (session === undefined) {
      this.#current.begin(record);
      return this.#faultOfFirst(record);
    }
    const { signer } = session;
    if (signer !== record.signer) {
      const detail = `session ${record.session} was begun by key ${signer}, this record is signed by ${record.signer}`;
      return { code: 'session-conflict', detail };
    }
    const fault = faultOfNext(record, session);
    session.moveTo(record);
    return fault === undefined ? undefined : broken(fault);
  }

  /** Goes on to the next file. */
  endFile(): void {
    for (const { bytes, at } of this.#current.all()) this.#ended.add(bytes, at);
    this.#cut = this.countCutFlushes();
    this.#current = new SessionTable();
  }

  /** Returns how many sessions end inside a flush. */
  countCutFlushes(): number {
    let cut = this.#cut;
    for (const { session } of this.#current.all()) if (!session.flushEnded) cut += 1;
    return cut;
  }

  /** Returns all of it, for the constructor. */
  get state(): SessionsState {
    return { current: this.#current, ended: this.#ended, cut: this.#cut };
  }

  #faultOfFirst({ entries, sessionAt, session, seq }: BatchEntry): Fault | undefined {
    if (this.#ended.has(entries, sessionAt)) {
      return broken(`session ${session} has records in an earlier file, and a session is in one`);
    }
    if (seq === 0) return undefined;
    return broken(
      `the first record here of session ${session} is its number ${seq}: those before it are missing`,
    );
  }
}

function startOfLog(): SessionsState {
  return { current: new SessionTable(), ended: new HashSet(), cut: 0 };
}

function broken(detail: string): Fault {
  return { code: 'chain-broken', detail };
}

function faultOfNext(record: BatchEntry, before: Session): string | undefined {
  const { seq, tsNs, swarm } = record;
  if (seq !== before.seq + 1) {
    const what = seq > before.seq + 1 ? `${seq - before.seq - 1} missing between` : 'moved or repeated';
    return `record ${seq} of session ${record.session} follows record ${before.seq}: ${what}`;
  }
  if (!before.isBefore(record)) {
    return `record ${seq} of session ${record.session} names ${record.prev} as the record before it, which is ${before.leaf}`;
  }
  if (tsNs <= before.tsNs) {
    return `record ${seq} of session ${record.session} is not later than the one before it: ${tsNs} after ${before.tsNs}`;
  }
  if (swarm !== before.swarm) {
    return `record ${seq} of session ${record.session} is of swarm ${swarm ?? '(none)'}, the session of ${before.swarm ?? '(none)'}`;
  }
  return undefined;
}
