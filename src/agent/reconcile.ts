/**
 * Do the log and the stream tell of the same messages? Each is held against the other, record by record.
 *
 * The log is believed: it must have been verified before. What differs is a difference (`difference.ts`); what has an
 * explanation, as a message that expired, is counted. Who writes in this log is held to it: what else the stream has of
 * them is off camera. Others log elsewhere, and only what was heard of them here is looked for.
 *
 * Order is what makes it true of a swarm at work: the stream's end is read first, then the log, then the stream. What was
 * in the stream at first was logged before that; what the log has by then is in the stream, or under way.
 */
import { type Clock, systemClock } from '../base/clock.ts';
import type { Sha256Hex } from '../base/encoding.ts';
import { matchesPattern, type Subject, type SubjectPattern } from '../base/subject.ts';
import type { Bus } from '../bus/connection.ts';
import { readMessages, readStreamState, type StreamState } from '../bus/stored.ts';
import type { PublicKey } from '../identity/key.ts';
import type { Keyring } from '../identity/keyring.ts';
import type { Position } from '../log/reader.ts';
import type { SignedRecord } from '../record/signed.ts';
import {
  type DifferenceCode,
  judge,
  type MessageDifference,
  noCounts,
  type ReconcileCounts,
} from './difference.ts';
import { Ledger } from './ledger.ts';
import { addLog, recordsAt } from './log-account.ts';
import { Signers } from './signers.ts';
import { addStored } from './stream-account.ts';

export interface ReconcileOptions {
  /** The path of a log that was verified. */
  readonly log: string;
  readonly stream: string;
  readonly keyring: Keyring;
  /** The swarm that receivers ask for. @default none */
  readonly swarm?: string | undefined;
  /** How many differences are listed; what is beyond is counted. @default 10000 */
  readonly listedAtMost?: number;
  /** @default the system's */
  readonly clock?: Clock;
  /** Called now and then with how far it has come. */
  readonly onProgress?: (progress: { readonly bytes: number; readonly totalBytes: number }) => void;
  /** The log's size, for `onProgress`. @default 0 */
  readonly logBytes?: number;
  /** Aborted, it throws the signal's reason. */
  readonly signal?: AbortSignal;
}

/** One thing that differs. */
export interface Difference {
  readonly code: DifferenceCode;
  /** A sentence about this one. */
  readonly detail: string;
  /** Where the log has the record; `undefined` where it has none. */
  readonly at: Position | undefined;
  /** The message's number in the stream; `undefined` where it is not there. */
  readonly seq: number | undefined;
  readonly leaf: Sha256Hex | undefined;
  readonly subject: string | undefined;
  /** Whose message it is. */
  readonly key: PublicKey | undefined;
  /** That agent's name by the keyring. */
  readonly agent: string | undefined;
}

export interface Reconciliation {
  readonly log: string;
  readonly stream: string;
  /** Records of the log. */
  readonly records: number;
  /** Messages of the stream that were read. */
  readonly messages: number;
  /** Those of the log in its order, then those of the stream in its own, up to the limit. */
  readonly differences: readonly Difference[];
  /** How many there are of each code, listed or not. */
  readonly differenceCounts: ReadonlyMap<DifferenceCode, number>;
  readonly counted: ReconcileCounts;
  /** @internal Places in the log of all that is missing, in order: for `resend`. */
  readonly missing: readonly number[];
}

/**
 * Holds the log against the stream. Throws `LOG_OPEN`, `BUS_STREAM` where the stream is not there or cannot be read to its
 * end, `BUS_PERMISSION`, the reason of an aborted `signal`.
 */
export async function reconcile(bus: Bus, options: ReconcileOptions): Promise<Reconciliation> {
  const { log, stream, keyring, swarm, clock = systemClock(), listedAtMost = 10_000 } = options;
  using ledger = new Ledger();
  const signers = new Signers();
  const before = await readStreamState(bus, stream);
  const duplicateWindowNs = BigInt(Math.round(before.duplicateWindowMs * 1e6));
  const progress = progressOf(options, before);
  const account = await addLog(log, ledger, signers, {
    stream,
    isOfStream: takenBy(before.subjects),
    underWaySinceNs: clock() - duplicateWindowNs,
    onProgress: progress,
  });
  const found = new Found(keyring, signers, listedAtMost);
  const freshForNs = duplicateWindowNs / 2n;
  const receiver = { keyring, swarm, freshForNs };
  let messages = 0;
  for await (const message of readMessages(bus, { stream })) {
    messages += 1;
    progress(message.data.length);
    const unsigned = addStored(message, ledger, signers, {
      receiver,
      isDue: ({ header }, seq) =>
        seq <= before.lastSeq && account.writers.has(header.signer) && header.tsNs >= account.sinceNs,
    });
    if (unsigned !== undefined)
      found.addUnsigned(unsigned.seq, `${unsigned.detail} (${unsigned.reason})`, message.subject);
  }
  const { firstSeq, firstTimeNs } = await readStreamState(bus, stream); // what expired meanwhile is explained too
  for (const entries of ledger.messages()) {
    const { differences, counted } = judge(entries, { firstSeq, firstTimeNs, freshForNs });
    for (const difference of differences) found.add(difference);
    for (const name of counted) found.counted[name] += 1;
  }
  return {
    log,
    stream,
    records: account.records,
    messages,
    differences: await found.listed(log),
    differenceCounts: found.counts,
    counted: found.counted,
    missing: found.missing,
  };
}

/** Yields the records of what is missing, in the order of the log. Throws `LOG_OPEN`. */
export async function* missingRecords({ log, missing }: Reconciliation): AsyncGenerator<SignedRecord> {
  for await (const { record } of recordsAt(log, missing)) yield record;
}

/** Returns what tells `onProgress` of so many bytes more, the log's and the stream's together, and throws once `signal` is aborted. */
function progressOf(
  { logBytes = 0, onProgress, signal }: ReconcileOptions,
  { bytes }: StreamState,
): (more: number) => void {
  const totalBytes = logBytes + bytes;
  let done = 0;
  let told = 0;
  return (more) => {
    signal?.throwIfAborted();
    done += more;
    if (done - told < 1 << 20) return;
    told = done;
    onProgress?.({ bytes: Math.min(done, totalBytes), totalBytes });
  };
}

function takenBy(patterns: readonly string[]): (subject: string) => boolean {
  return (subject) =>
    patterns.some((pattern) => matchesPattern(pattern as SubjectPattern, subject as Subject));
}

/** What was found so far: all counted, what is missing kept by its place, of the rest as much as is listed. */
class Found {
  readonly counts: Map<DifferenceCode, number> = new Map();
  readonly counted: { -readonly [Name in keyof ReconcileCounts]: number } = { ...noCounts };
  readonly #keyring: Keyring;
  readonly #signers: Signers;
  readonly #listedAtMost: number;
  readonly #missing: number[] = [];
  readonly #inLog: MessageDifference[] = [];
  readonly #inStream: Difference[] = [];

  constructor(keyring: Keyring, signers: Signers, listedAtMost: number) {
    this.#keyring = keyring;
    this.#signers = signers;
    this.#listedAtMost = listedAtMost;
  }

  get missing(): readonly number[] {
    return this.#missing.sort((a, b) => a - b);
  }

  add(difference: MessageDifference): void {
    const { code, detail, place, seq, entry } = difference;
    this.#count(code);
    if (place !== undefined) {
      if (code === 'missing') this.#missing.push(place);
      this.#inLog.push(difference);
      if (this.#inLog.length >= 2 * this.#listedAtMost) this.#cut();
    } else if (this.#inStream.length < this.#listedAtMost) {
      const key = this.#signers.keyOf(entry.signer);
      const agent = this.#agentOf(key);
      this.#inStream.push({
        code,
        detail,
        at: undefined,
        seq,
        leaf: entry.leaf,
        subject: undefined,
        key,
        agent,
      });
    }
  }

  addUnsigned(seq: number, detail: string, subject: string): void {
    this.#count('unsigned');
    if (this.#inStream.length >= this.#listedAtMost) return;
    const nobody = { at: undefined, leaf: undefined, key: undefined, agent: undefined };
    this.#inStream.push({ code: 'unsigned', detail, seq, subject, ...nobody });
  }

  /** Returns those that are listed; reads what the log has of them. */
  async listed(log: string): Promise<Difference[]> {
    this.#cut();
    const byPlace = new Map(this.#inLog.map((difference) => [difference.place, difference]));
    const listed: Difference[] = [];
    const places = this.#inLog.flatMap(({ place = [] }) => place);
    for await (const { at, place, record } of recordsAt(log, places)) {
      const { code, detail } = byPlace.get(place) as MessageDifference;
      const { leaf, header } = record.received ?? record;
      const { subject, signer: key } = header;
      listed.push({ code, detail, at, seq: undefined, leaf, subject, key, agent: this.#agentOf(key) });
    }
    const inStream = this.#inStream.sort((a, b) => (a.seq ?? 0) - (b.seq ?? 0));
    return [...listed, ...inStream].slice(0, this.#listedAtMost);
  }

  #count(code: DifferenceCode): void {
    this.counts.set(code, (this.counts.get(code) ?? 0) + 1);
  }

  #agentOf(key: PublicKey | undefined): string | undefined {
    return key && this.#keyring.find(key)?.agent.name;
  }

  /** Keeps the first of the log as many as are listed. */
  #cut(): void {
    this.#inLog.sort((a, b) => (a.place ?? 0) - (b.place ?? 0));
    this.#inLog.length = Math.min(this.#inLog.length, this.#listedAtMost);
  }
}
