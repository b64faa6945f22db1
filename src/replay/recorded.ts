/**
 * What one agent did, as a log has it: its deliveries in their order, and under each what came of it.
 *
 * The log, once verified, is read once and only places are kept, some 300 bytes for each of the agent's records; a
 * delivery's lines are read when it is its turn, without waiting: what comes when must not depend on the disk.
 */
import { readSync } from 'node:fs';
import type { Sha256Hex } from '../base/encoding.ts';
import { SwarmError } from '../base/errors.ts';
import { firstSaidAs } from '../handler/received.ts';
import { handlerStep, publishStep, runKey } from '../handler/step.ts';
import type { PublicKey } from '../identity/key.ts';
import type { Position } from '../log/reader.ts';
import type { Header } from '../record/header.ts';
import { checkPayload, parseLine } from '../record/line.ts';
import type { SignedRecord } from '../record/signed.ts';
import { changed, type VerifiedFiles, type VerifiedLine } from '../verify/verified-files.ts';
import type { Turn } from './pace.ts';

/** Where a record stands. */
export interface Place extends Position, Turn {
  readonly leaf: Sha256Hex;
  /** Of the line, in bytes. */
  readonly length: number;
  /** An open file. */
  readonly fd: number;
}

/** A message said, under whatever records it was said. */
export interface RecordedPublish extends Place {
  /** The last record that said it, which the agent was told of. */
  said: Sha256Hex;
}

/** A delivery, and what came of it in the order in which it was recorded. */
export interface RecordedHandling {
  readonly delivery: Place;
  readonly publishes: RecordedPublish[];
  readonly steps: Place[];
  /** The records that say that a publish threw. */
  readonly failures: Place[];
  /** The record that says that the handler was called, where the message came again. */
  called: Place | undefined;
  /** The record that says that the handler returned, or threw. Without it the handling broke off. */
  ended: Place | undefined;
}

/** One run of the agent: a session of its log, or several where that grew beyond a segment. */
export interface RecordedSession {
  /** The first. */
  readonly session: string;
  /** Those whose handler may have been called. */
  readonly handlings: readonly RecordedHandling[];
}

export interface Whose {
  readonly keys: ReadonlySet<PublicKey>;
  readonly durable: string;
  /** The last record that counts. @default the log's */
  readonly until?: Sha256Hex | undefined;
}

/** The agent's part of a log. */
export interface RecordedLog {
  /** In the order in which they began to hear. */
  readonly sessions: readonly RecordedSession[];
  /** Under which durables the agent's keys have deliveries, with how many. */
  readonly durables: ReadonlyMap<string, number>;
}

/** Returns the record at `place`. Throws `LOG_OPEN` where the file was changed since. */
export function readRecord({ file, fd, line, offset, length, leaf }: Place): SignedRecord {
  const buffer = Buffer.alloc(length);
  for (let read = 0; read < length; ) {
    const more = readSync(fd, buffer, read, length - read, offset + read);
    if (more === 0) break;
    read += more;
  }
  const parsed = parseLine(buffer);
  if (parsed.ok && parsed.record.leaf === leaf && checkPayload(parsed.record)) return parsed.record;
  throw changed(`${file}:${line} is not what it was`);
}

/**
 * Reads what of a verified log is the agent's; it can be read as long as the log is not disposed of. Throws `LOG_OPEN`;
 * `RECORD_MISSING` where `until` is not in it.
 */
export async function readRecorded(log: VerifiedFiles, whose: Whose): Promise<RecordedLog> {
  const index = new Index(whose);
  const keys = [...whose.keys].map((key) => Buffer.from(`"${key}"`));
  let isEnded = false;
  let order = 0;
  for await (const line of log.lines()) {
    const isLast = whose.until !== undefined && line.leaf.toString('hex') === whose.until;
    const parsed = keys.some((key) => line.bytes.includes(key)) ? parseLine(line.bytes) : undefined;
    if (parsed?.ok) index.link(parsed.record); // of which run something is may be said later
    if (parsed?.ok && !isEnded) index.add(parsed.record, line, order);
    order += 1;
    isEnded ||= isLast; // what follows is read to its end, for only then is it known to be what was verified
  }
  if (whose.until !== undefined && !isEnded) {
    throw new SwarmError('RECORD_MISSING', `the log ${log.path} has no record ${whose.until}`);
  }
  return { sessions: index.sessions(whose.until), durables: index.durables };
}

interface InSession {
  readonly session: string;
  /** The place of its message in a stream. */
  readonly message: string;
  readonly attempt: number;
  readonly handling: RecordedHandling;
}

/** What came of a delivery of another session, by its cause. */
interface Elsewhere {
  readonly header: Header;
  readonly place: Place;
  readonly known: InSession;
}

class Index {
  readonly durables: Map<string, number> = new Map();
  readonly #whose: Whose;
  readonly #handlings: InSession[] = [];
  /** By the leaves of what may be a cause: of the delivery, and of what was said, for that may be said anew. */
  readonly #known = new Map<Sha256Hex, InSession>();
  readonly #publishes = new Map<Sha256Hex, RecordedPublish>();
  readonly #elsewhere: Elsewhere[] = [];
  /** Of which run of the agent a session is, where the log says. */
  readonly #runs = new Map<string, string>();

  constructor(whose: Whose) {
    this.#whose = whose;
  }

  /** Notes that what a step answers is of the same run as the step. */
  link({ header }: SignedRecord): void {
    if (!this.#whose.keys.has(header.signer) || header.kind !== 'AGENT.STEP') return;
    const known = header.cause && this.#known.get(header.cause);
    const run = header.meta?.[runKey];
    if (known && run !== undefined) this.#runs.set(known.session, run).set(header.session, run);
  }

  add(record: SignedRecord, { file, fd, line, offset, bytes }: VerifiedLine, order: number): void {
    const { header, leaf, path } = record;
    if (!this.#whose.keys.has(header.signer)) return;
    const inFlush = path === undefined ? 0 : Number.parseInt(path, 10);
    const place: Place = {
      file,
      fd,
      line,
      offset,
      length: bytes.length,
      leaf,
      order,
      flush: order - inFlush,
    };
    const known = header.cause && this.#known.get(header.cause);
    if (header.kind === 'BUS.PUBLISH' && known) this.#known.set(leaf, known);
    if (header.kind === 'BUS.DELIVER') this.#addDelivery(header, place);
    else if (known !== undefined && known.session !== header.session)
      this.#elsewhere.push({ header, place, known });
    else this.#addEffect(header, place, known?.handling);
  }

  #addEffect(header: Header, place: Place, handling: RecordedHandling | undefined): void {
    switch (header.kind) {
      case 'BUS.PUBLISH':
        this.#addPublish(header, place, handling);
        return;
      case 'BUS.ATTEMPT':
        if (handling !== undefined) handling.called = place;
        return;
      case 'AGENT.STEP':
        if (handling === undefined) return;
        if (header.step === handlerStep) handling.ended = place;
        else if (header.step === publishStep) handling.failures.push(place);
        else handling.steps.push(place);
        return;
    }
  }

  /**
   * Returns the runs in the order in which they began to hear. Left out is what no handler was called for: a message that
   * came again is on the log as called for (BUS.ATTEMPT), and one that came again before its turn had its turn then. The
   * delivery `until` counts: what is asked is what would have come of it.
   */
  sessions(until: Sha256Hex | undefined): readonly RecordedSession[] {
    // What a session of another run says of a delivery, a branch from it, is not what came of it.
    for (const { header, place, known } of this.#elsewhere.splice(0)) {
      if (this.#runOf(header.session) === this.#runOf(known.session)) {
        this.#addEffect(header, place, known.handling);
      }
    }
    const called = new Set<string>();
    const runs = new Map<string, { readonly session: string; readonly handlings: RecordedHandling[] }>();
    for (const { session, message, handling } of this.#handlings) {
      if (handling.called !== undefined || hasTrace(handling))
        called.add(`${this.#runOf(session)} ${message}`);
    }
    for (const { session, message, attempt, handling } of this.#handlings) {
      const isKnown = handling.called !== undefined || hasTrace(handling) || handling.delivery.leaf === until;
      const run = this.#runOf(session);
      if (!isKnown && (attempt > 1 || called.has(`${run} ${message}`))) continue;
      const known = runs.get(run) ?? { session, handlings: [] };
      known.handlings.push(handling);
      runs.set(run, known);
    }
    return [...runs.values()];
  }

  #runOf(session: string): string {
    return this.#runs.get(session) ?? session;
  }

  #addDelivery({ session, delivery }: Header, place: Place): void {
    if (delivery === undefined) return;
    const { stream, seq, consumer, attempt } = delivery;
    this.durables.set(consumer, (this.durables.get(consumer) ?? 0) + 1);
    if (consumer !== this.#whose.durable) return;
    const handling: RecordedHandling = {
      delivery: place,
      publishes: [],
      steps: [],
      failures: [],
      called: undefined,
      ended: undefined,
    };
    const known = { session, message: `${stream}/${seq}`, attempt, handling };
    this.#handlings.push(known);
    this.#known.set(place.leaf, known);
  }

  #addPublish({ meta }: Header, place: Place, handling: RecordedHandling | undefined): void {
    if (handling === undefined) return;
    const first = this.#publishes.get(meta?.[firstSaidAs] as Sha256Hex);
    if (first === undefined) {
      const publish: RecordedPublish = { ...place, said: place.leaf };
      handling.publishes.push(publish);
      this.#publishes.set(place.leaf, publish);
    } else if (handling.ended === undefined) {
      first.said = place.leaf; // later, as when the broker has lost it, nobody waits to be told
    }
  }
}

/** Returns the index of the last handling of which the log has more than its delivery; -1 if none. */
export function lastWithTrace(handlings: readonly RecordedHandling[]): number {
  return handlings.findLastIndex(hasTrace);
}

function hasTrace({ publishes, steps, failures, ended }: RecordedHandling): boolean {
  return publishes.length + steps.length + failures.length > 0 || ended !== undefined;
}
