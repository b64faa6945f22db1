/**
 * The chain of each session, checked record by record: docs/format.md, section 7.
 *
 * A session is a key and 16 random bytes, in one file. Its records count up from 0, each names the leaf of the one
 * before and is later than it. After a break checking resumes from the line that broke, so one break is one finding.
 * Where a session stands is remembered while its file is read; of the sessions of earlier files, that they were.
 */
import type { Sha256Hex } from '../base/encoding.ts';
import type { BatchEntry } from './batch.ts';
import type { Fault } from './finding.ts';
import { HashSet } from './hash-set.ts';

/** Where a session stands. */
export interface SessionState {
  readonly signer: string;
  readonly swarm: string | undefined;
  seq: number;
  leaf: Sha256Hex;
  tsNs: bigint;
  /** Whether the last record was the last of its flush. */
  flushEnded: boolean;
}

export class Sessions {
  #current = new Map<string, SessionState>();
  #ended: HashSet;
  #cut = 0;

  constructor(ended: HashSet = new HashSet(), current: Iterable<[string, SessionState]> = [], cut = 0) {
    this.#ended = ended;
    this.#current = new Map(current);
    this.#cut = cut;
  }

  /** Takes `record` as the next of its session; returns what is wrong with that, if anything. */
  advance(record: BatchEntry): Fault | undefined {
    const { session, signer, seq, leaf, tsNs, isFlushEnd } = record;
    const state = this.#current.get(session);
    if (state === undefined) {
      this.#current.set(session, {
        signer,
        swarm: record.swarm,
        seq,
        leaf,
        tsNs,
        flushEnded: isFlushEnd,
      });
      if (this.#ended.has(record.entries, record.sessionAt)) {
        return broken(`session ${session} has records in an earlier file, and a session is in one`);
      }
      if (seq === 0) return undefined;
      return broken(
        `the first record here of session ${session} is its number ${seq}: those before it are missing`,
      );
    }
    if (state.signer !== signer) {
      const detail = `session ${session} was begun by key ${state.signer}, this record is signed by ${signer}`;
      return { code: 'session-conflict', detail };
    }
    const fault = faultOfNext(record, state);
    state.seq = seq;
    state.leaf = leaf;
    state.tsNs = tsNs;
    state.flushEnded = isFlushEnd;
    return fault === undefined ? undefined : broken(fault);
  }

  /** Goes on to the next file. */
  endFile(): void {
    for (const [session, { flushEnded }] of this.#current) {
      this.#ended.add(Buffer.from(session, 'hex'));
      if (!flushEnded) this.#cut += 1;
    }
    this.#current.clear();
  }

  /** Returns how many sessions end inside a flush. */
  countCutFlushes(): number {
    let cut = this.#cut;
    for (const { flushEnded } of this.#current.values()) if (!flushEnded) cut += 1;
    return cut;
  }

  /** Returns all of it, for the constructor. */
  get state(): { readonly ended: HashSet; readonly current: [string, SessionState][]; readonly cut: number } {
    return { ended: this.#ended, current: [...this.#current], cut: this.#cut };
  }
}

function broken(detail: string): Fault {
  return { code: 'chain-broken', detail };
}

function faultOfNext(
  { session, seq, prev, tsNs, swarm }: BatchEntry,
  before: SessionState,
): string | undefined {
  if (seq !== before.seq + 1) {
    const what = seq > before.seq + 1 ? `${seq - before.seq - 1} missing between` : 'moved or repeated';
    return `record ${seq} of session ${session} follows record ${before.seq}: ${what}`;
  }
  if (prev !== before.leaf) {
    return `record ${seq} of session ${session} names ${prev} as the record before it, which is ${before.leaf}`;
  }
  if (tsNs <= before.tsNs) {
    return `record ${seq} of session ${session} is not later than the one before it: ${tsNs} after ${before.tsNs}`;
  }
  if (swarm !== before.swarm) {
    return `record ${seq} of session ${session} is of swarm ${swarm ?? '(none)'}, the session of ${before.swarm ?? '(none)'}`;
  }
  return undefined;
}
