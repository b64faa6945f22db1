/**
 * Sends the recorded messages of a timeline once more, in its order: the same payloads, records and signatures.
 *
 * Where they go is passed in. It numbers what it holds from 1, so the place of a message there is its place among those
 * that are sent: what is there already says where to go on, and nothing else has to be remembered. At the end all is read
 * back, and its digest is held against that of what was recorded.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Sha256Hex, sha256Hex } from '../base/encoding.ts';
import { SwarmError } from '../base/errors.ts';
import type { SignedRecord } from '../record/signed.ts';
import { ReplayDigest, type Selection, Selector } from './selection.ts';
import type { Timeline, TimelinePlace } from './timeline.ts';

/** Where messages are sent, and kept in the order of their numbers, from 1. */
export interface Sink {
  /** What it is called, for people. */
  readonly name: string;
  /** Returns how many messages are there. */
  size(): Promise<number>;
  /** Reports whether message `number` is there, and is this record. */
  has(number: number, leaf: Sha256Hex): Promise<boolean>;
  /** Resolves once message `number` is there, and never puts it anywhere else. Several may be under way. */
  send(number: number, record: SignedRecord, payload: Uint8Array): Promise<void>;
  /** Yields all that is there, in order: the record of each message, if it is one, and its payload. */
  messages(): AsyncIterable<{ readonly record: SignedRecord | undefined; readonly payload: Uint8Array }>;
}

export interface RepublishOptions extends Omit<Selection, 'kind'> {
  /** How many times as fast as it was recorded; `Infinity` for as fast as can be. @default 1 */
  readonly speed?: number;
  /** Stops; the same call goes on from there. What it rejects with is the signal's reason. */
  readonly signal?: AbortSignal;
  /** Told how many of all messages are there, now and then. */
  readonly onProgress?: (progress: { readonly messages: number; readonly total: number }) => void;
}

export interface Republished {
  /** How many messages there are, and are there. */
  readonly messages: number;
  /** How many of them were sent just now. */
  readonly sent: number;
  /** Of the recorded messages: that of `swarm replay --kind BUS.PUBLISH`. */
  readonly digest: Sha256Hex;
  /** Of what was read back. */
  readonly sinkDigest: Sha256Hex;
}

const windowMessages = 1_024;
const windowBytes = 16 << 20;

/**
 * Sends the messages of `timeline` that `sink` does not hold yet, and resolves once all are there and were read back. Throws
 * `REPLAY_UNSENDABLE` before anything is sent, `REPLAY_DIFFERS` where the sink holds something else, `RECORD_MISSING`, what
 * the timeline and the sink throw, and the reason of an aborted signal.
 */
export async function republish(
  timeline: Timeline,
  sink: Sink,
  options: RepublishOptions = {},
): Promise<Republished> {
  const { signal, onProgress } = options;
  const held = await sink.size();
  const plan = planOf(timeline, options, held);
  const { messages: total, digest, lastHeld } = plan;
  if (held > total) throw differs(sink, `it holds ${held} messages, and ${total} are to be there`);
  if (lastHeld !== undefined && !(await sink.has(held, lastHeld))) {
    throw differs(sink, `its message ${held} is not the record ${lastHeld}`);
  }
  onProgress?.({ messages: held, total });
  await sendRest(timeline, sink, options, held, total);
  signal?.throwIfAborted();
  const found = new ReplayDigest();
  let count = 0;
  for await (const { record, payload } of sink.messages()) {
    count += 1;
    signal?.throwIfAborted();
    if (record === undefined || sha256Hex(payload) !== record.header.payloadHash) {
      throw differs(sink, `its message ${count} is not a recorded one, or not with its payload`);
    }
    found.add(record.leaf);
  }
  return { messages: count, sent: total - held, digest, sinkDigest: found.value() };
}

/** Yields the places of the messages to be sent, with their numbers. */
function* messagesOf(
  timeline: Timeline,
  { speed: _speed, signal: _signal, onProgress: _onProgress, ...selection }: RepublishOptions,
): Generator<TimelinePlace & { readonly number: number }> {
  const selector = new Selector({ ...selection, kind: 'BUS.PUBLISH' });
  let number = 0;
  for (const place of timeline.places()) {
    if (!selector.takes(place)) continue;
    number += 1;
    yield { ...place, number };
  }
  selector.end();
}

interface Plan {
  readonly messages: number;
  readonly digest: Sha256Hex;
  /** The leaf of message `held`. */
  readonly lastHeld: Sha256Hex | undefined;
}

function planOf(timeline: Timeline, options: RepublishOptions, held: number): Plan {
  const digest = new ReplayDigest();
  let messages = 0;
  let lastHeld: Sha256Hex | undefined;
  for (const { number, leaf, at, isWithheld, version } of messagesOf(timeline, options)) {
    if (isWithheld || version !== 2) {
      const why = isWithheld ? 'its payload is withheld' : 'it is of version 1, which no message carries';
      throw new SwarmError(
        'REPLAY_UNSENDABLE',
        `${at.file}:${at.line} cannot be sent again: ${why}; leave it out (--from, --until, --thread)${isWithheld ? ', or name a log that has it, too' : ''}`,
      );
    }
    messages = number;
    digest.add(leaf);
    if (number === held) lastHeld = leaf;
  }
  return { messages, digest: digest.value(), lastHeld };
}

async function sendRest(
  timeline: Timeline,
  sink: Sink,
  options: RepublishOptions,
  held: number,
  total: number,
): Promise<void> {
  const { speed = 1, signal, onProgress } = options;
  const pace = new Pace(speed, signal);
  const underWay: { readonly number: number; readonly bytes: number; readonly sent: Promise<void> }[] = [];
  let bytes = 0;
  const awaitOldest = async (): Promise<void> => {
    const oldest = underWay[0];
    await oldest?.sent;
    underWay.shift();
    bytes -= oldest?.bytes ?? 0;
    onProgress?.({ messages: oldest?.number ?? total, total });
  };
  function* rest(): Generator<TimelinePlace & { readonly number: number }> {
    for (const place of messagesOf(timeline, options)) if (place.number > held) yield place;
  }
  try {
    for await (const { number, record, version, tsNs } of timeline.read(rest())) {
      if (version !== 2 || record.payload === undefined) continue; // there is none: see `planOf`
      while (underWay.length >= windowMessages || (bytes >= windowBytes && underWay.length > 0)) {
        await awaitOldest();
      }
      await pace.wait(tsNs);
      signal?.throwIfAborted();
      const sent = sink.send(number, record, record.payload);
      sent.catch(() => undefined); // said in its turn, by `awaitOldest`
      underWay.push({ number, bytes: record.payload.length, sent });
      bytes += record.payload.length;
    }
    while (underWay.length > 0) await awaitOldest();
  } finally {
    await Promise.allSettled(underWay.map(({ sent }) => sent));
  }
}

/** What is late by more is not made up for: somebody paused. */
const makeUpForMs = 1_000;
const sleepAtMostMs = 2 ** 30;

/** The distances between messages, as they were recorded or shorter. */
class Pace {
  readonly #speed: number;
  readonly #signal: AbortSignal | undefined;
  #lastNs: bigint | undefined;
  #dueMs = 0;

  constructor(speed: number, signal: AbortSignal | undefined) {
    this.#speed = speed;
    this.#signal = signal;
  }

  /** Resolves when the message of that time is due; rejects with the signal's reason. */
  async wait(tsNs: bigint): Promise<void> {
    if (this.#speed === Number.POSITIVE_INFINITY) return;
    const now = performance.now();
    if (this.#lastNs === undefined) this.#dueMs = now;
    const gapNs = tsNs - (this.#lastNs ?? tsNs);
    if (gapNs >= 0n) this.#lastNs = tsNs; // else a clock was behind
    if (gapNs > 0n) this.#dueMs += Number(gapNs) / 1e6 / this.#speed;
    if (now - this.#dueMs > makeUpForMs) this.#dueMs = now;
    for (let leftMs = this.#dueMs - now; leftMs >= 1; leftMs = this.#dueMs - performance.now()) {
      const forMs = Math.min(leftMs, sleepAtMostMs);
      const signal = this.#signal;
      await sleep(forMs, undefined, signal && { signal }).catch(() => signal?.throwIfAborted());
    }
  }
}

/** Returns the error for a sink that holds something else than it should. */
export function differs({ name }: { readonly name: string }, what: string): SwarmError {
  return new SwarmError(
    'REPLAY_DIFFERS',
    `${name} does not hold this replay: ${what}; use another stream, or remove it; the same logs and options go on where they ended`,
  );
}
