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
import { handlerStep } from '../handler/step.ts';
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
  /** Why the broker did not take it, if it did not. */
  unsent: string | undefined;
}

/** A delivery, and what came of it in the order in which it was recorded. */
export interface RecordedHandling {
  readonly delivery: Place;
  readonly publishes: RecordedPublish[];
  readonly steps: Place[];
  /** The record that says that the handler threw. */
  thrown: Place | undefined;
  /** The record that says that the message was given up. */
  dead: Place | undefined;
  /** Whether it broke off: the message came again to another process, or what follows is not asked about. */
  isCut: boolean;
}

/** One run of the agent. */
export interface RecordedSession {
  readonly session: string;
  readonly handlings: RecordedHandling[];
}

export interface Whose {
  readonly keys: ReadonlySet<PublicKey>;
  readonly durable: string;
  /** The last record that counts. @default the log's */
  readonly until?: Sha256Hex | undefined;
  readonly concurrency: number;
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
  for await (const line of log.lines()) {
    const isLast = whose.until !== undefined && line.leaf.toString('hex') === whose.until;
    const parsed = keys.some((key) => line.bytes.includes(key)) ? parseLine(line.bytes) : undefined;
    if (parsed?.ok) {
      if (!isEnded) index.add(parsed.record, line);
      if (isEnded || isLast) index.cut(parsed.record);
    }
    isEnded ||= isLast; // what follows is read to its end, for only then is it known to be what was verified
  }
  if (whose.until !== undefined && !isEnded) {
    throw new SwarmError('RECORD_MISSING', `the log ${log.path} has no record ${whose.until}`);
  }
  index.end();
  const { sessions, durables } = index;
  return { sessions: [...sessions.values()].filter(({ handlings }) => handlings.length > 0), durables };
}

interface InSession {
  readonly session: string;
  readonly handling: RecordedHandling;
}

class Index {
  readonly sessions: Map<string, RecordedSession> = new Map();
  readonly durables: Map<string, number> = new Map();
  readonly #whose: Whose;
  readonly #handlings = new Map<Sha256Hex, InSession>();
  readonly #publishes = new Map<Sha256Hex, RecordedPublish>();
  /** The session and handling of the last delivery of each message of a stream. */
  readonly #last = new Map<string, InSession>();

  constructor(whose: Whose) {
    this.#whose = whose;
  }

  add({ header, leaf, path }: SignedRecord, { file, fd, line, offset, bytes }: VerifiedLine): void {
    if (!this.#whose.keys.has(header.signer)) return;
    const inFlush = path === undefined ? 0 : Number.parseInt(path, 10);
    const flush = header.seq - inFlush;
    const at = { file, fd, line, offset, length: bytes.length };
    const place: Place = { ...at, leaf, order: header.seq, flush };
    const handling = this.#handlingOf(header);
    switch (header.kind) {
      case 'BUS.DELIVER':
        this.#addDelivery(header, place);
        return;
      case 'BUS.PUBLISH':
        this.#addPublish(header, place, handling);
        return;
      case 'BUS.UNSENT': {
        const publish = header.cause && this.#publishes.get(header.cause);
        if (publish) publish.unsent = header.reason;
        return;
      }
      case 'BUS.DEAD':
        if (handling !== undefined) handling.dead = place;
        return;
      case 'AGENT.STEP':
        if (handling === undefined) return;
        if (header.step === handlerStep) handling.thrown = place;
        else handling.steps.push(place);
        return;
    }
  }

  /** What another session says of a delivery, a branch from it, is not what came of it. */
  #handlingOf({ cause, session }: Header): RecordedHandling | undefined {
    const known = cause && this.#handlings.get(cause);
    return known && known.session === session ? known.handling : undefined;
  }

  #addDelivery({ session, delivery }: Header, place: Place): void {
    if (delivery === undefined) return;
    const { stream, seq, consumer } = delivery;
    this.durables.set(consumer, (this.durables.get(consumer) ?? 0) + 1);
    if (consumer !== this.#whose.durable) return;
    const handling: RecordedHandling = {
      delivery: place,
      publishes: [],
      steps: [],
      thrown: undefined,
      dead: undefined,
      isCut: false,
    };
    const message = `${stream}/${seq}`;
    const before = this.#last.get(message);
    if (before !== undefined && before.session !== session) before.handling.isCut = true;
    this.#last.set(message, { session, handling });
    this.#handlings.set(place.leaf, { session, handling });
    const known = this.sessions.get(session) ?? { session, handlings: [] };
    known.handlings.push(handling);
    this.sessions.set(session, known);
  }

  #addPublish({ meta }: Header, place: Place, handling: RecordedHandling | undefined): void {
    const first = this.#publishes.get(meta?.[firstSaidAs] as Sha256Hex);
    if (first !== undefined) {
      first.said = place.leaf;
      this.#publishes.set(place.leaf, first);
    } else if (handling !== undefined) {
      const publish: RecordedPublish = { ...place, said: place.leaf, unsent: undefined };
      handling.publishes.push(publish);
      this.#publishes.set(place.leaf, publish);
    }
  }

  /** The handling of the last record that counts was under way there, and so was each that has records after it. */
  cut({ header, leaf }: SignedRecord): void {
    const handling = this.#handlings.get(leaf)?.handling ?? this.#handlingOf(header);
    if (handling !== undefined) handling.isCut = true;
  }

  /** So may be, where the log is read up to a record, those that came last: there need be no record that says so. */
  end(): void {
    const { until, concurrency } = this.#whose;
    if (until === undefined) return;
    for (const { handlings } of this.sessions.values()) {
      const underWay = handlings.slice(Math.max(0, lastWithTrace(handlings) - concurrency + 1));
      for (const handling of underWay) handling.isCut = true;
    }
  }
}

/** Returns the index of the last handling of which the log has more than its delivery; -1 if none. */
export function lastWithTrace(handlings: readonly RecordedHandling[]): number {
  return handlings.findLastIndex((handling) => hasTrace(handling) || handling.dead !== undefined);
}

/** Reports whether a message was given up before a handler was called: one that gives a message up throws. */
export function diedUnhandled(handling: RecordedHandling): boolean {
  return handling.dead !== undefined && !hasTrace(handling);
}

function hasTrace({ publishes, steps, thrown }: RecordedHandling): boolean {
  return publishes.length + steps.length > 0 || thrown !== undefined;
}
