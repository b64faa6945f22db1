/**
 * What a stream keeps: where it begins and ends, and its messages in their order, up to the end that it has when asked.
 *
 * They are read by a consumer that keeps no state and is gone afterwards, a batch at a time, so a slow reader holds one
 * batch; where we may not create one, message by message. A connection that breaks is waited for, and reading goes on after the last message that came.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { AckPolicy, type ConsumerConfig, DeliverPolicy, ReplayPolicy } from '@nats-io/jetstream';
import { createInbox, type Msg } from '@nats-io/transport-node';
import { messageOf, SwarmError } from '../base/errors.ts';
import { matchesPattern, type SubjectPattern } from '../base/subject.ts';
import type { Bus } from './connection.ts';
import { headerBlock, ReceivedHeaders } from './headers.ts';
import { type Delivery, parseDelivery } from './message.ts';
import { firstSince, readNext, type StoredMessage } from './read-message.ts';
import { isPermissionRefused } from './requirements.ts';
import { isStreamMissing } from './stream.ts';
import { parseTime, printTime } from './time.ts';

/** A stream as it is now. */
export interface StreamState {
  readonly messages: number;
  readonly bytes: number;
  /** The first message that it still has; one after the last where it has none. */
  readonly firstSeq: number;
  /** 0 where it never had any. */
  readonly lastSeq: number;
  /** When the broker stored the first that it still has, in ns since the Unix epoch; `undefined` where it has none. */
  readonly firstTimeNs: bigint | undefined;
  readonly subjects: readonly string[];
  readonly duplicateWindowMs: number;
  /** `undefined` where no age is too old. */
  readonly maxAgeMs: number | undefined;
}

/** Returns the stream's state; throws `BUS_STREAM` where there is none, or it cannot be read, `BUS_PERMISSION`. */
export async function readStreamState(bus: Bus, name: string): Promise<StreamState> {
  const state = await findStreamState(bus, name);
  if (state !== undefined) return state;
  const why = 'there is no such stream; the first agent that joins creates it';
  throw new SwarmError('BUS_STREAM', `cannot read stream ${name} at ${bus.address}: ${why}`);
}

/** Returns the stream's state, or `undefined` where there is none; throws `BUS_STREAM` where it cannot be read, `BUS_PERMISSION`. */
export async function findStreamState(bus: Bus, name: string): Promise<StreamState | undefined> {
  try {
    const { state, config } = await bus.manager.streams.info(name);
    return {
      messages: state.messages,
      bytes: state.bytes,
      firstSeq: state.first_seq,
      lastSeq: state.last_seq,
      firstTimeNs: state.messages === 0 ? undefined : parseTime(state.first_ts),
      subjects: config.subjects ?? [],
      duplicateWindowMs: config.duplicate_window / 1e6,
      maxAgeMs: config.max_age > 0 ? config.max_age / 1e6 : undefined,
    };
  } catch (cause) {
    if (isStreamMissing(cause)) return undefined;
    const code = isPermissionRefused(cause) ? 'BUS_PERMISSION' : 'BUS_STREAM';
    throw new SwarmError(code, `cannot read stream ${name} at ${bus.address}: ${messageOf(cause)}`, {
      cause,
    });
  }
}

export interface ReadStored {
  readonly stream: string;
  /** Which subjects; several must not overlap. @default all */
  readonly subjects?: readonly string[];
  /** By the broker's clock: nothing older is read. @default from the first message on */
  readonly sinceNs?: bigint;
  /** @default false */
  readonly headersOnly?: boolean;
  /** What it means that there is no such stream, for people. @default there is no such stream */
  readonly missing?: string;
  /** How long it may take in all. @default as long as it takes */
  readonly withinMs?: number;
}

const batch = 1_000;
const batchBytes = 16 << 20;
const quietMs = 2_000;
const forgottenAfterMs = 60_000;
const triesInARow = 3;
const pauseMs = 500;

/** Yields the messages, oldest first. Throws `BUS_STREAM` where they cannot be read to the end, `BUS_PERMISSION`. */
export async function* readMessages(bus: Bus, options: ReadStored): AsyncGenerator<StoredMessage> {
  const { stream, withinMs = Number.POSITIVE_INFINITY } = options;
  const deadline = performance.now() + withinMs;
  let last = 0;
  for (let tries = triesInARow; ; ) {
    const before = last;
    try {
      for await (const message of readFrom(bus, options, last, deadline)) {
        last = message.seq;
        yield message;
      }
      return;
    } catch (cause) {
      if (last > before) tries = triesInARow;
      tries -= 1;
      const isHopeless = isStreamMissing(cause) || isPermissionRefused(cause) || bus.isClosed;
      if (isHopeless || tries === 0 || performance.now() + pauseMs > deadline) {
        const code = isPermissionRefused(cause) ? 'BUS_PERMISSION' : 'BUS_STREAM';
        const { missing = 'there is no such stream' } = options;
        const why = isStreamMissing(cause) ? missing : messageOf(cause);
        throw new SwarmError(code, `cannot read the stream ${stream} at ${bus.address}: ${why}`, { cause });
      }
      await sleep(pauseMs);
      const leftMs = Math.max(0, Math.min(deadline - performance.now(), 600_000));
      await bus.online(AbortSignal.timeout(Math.ceil(leftMs))); // whole ms, or it throws
    }
  }
}

async function* readFrom(
  bus: Bus,
  options: ReadStored,
  after: number,
  deadline: number,
): AsyncGenerator<StoredMessage> {
  const { stream } = options;
  const config = consumerConfig(options, after);
  const consumer = await bus.manager.consumers.add(stream, config).catch((thrown: unknown) => {
    if (isPermissionRefused(thrown)) return undefined;
    throw thrown;
  });
  if (consumer === undefined) return yield* readOneByOne(bus, options, after, deadline);
  const { name, num_pending: count } = consumer;
  if (count === 0) return void (await forget(bus, stream, name));
  const batches = new Batches(bus, stream, name);
  try {
    for (let seen = 0; seen < count; ) {
      if (performance.now() > deadline)
        throw new Error(`${seen} of ${count} messages looked at, then time was up`);
      const taken = await batches.next();
      if (taken.length === 0) return; // nothing is left after all
      for (const { delivery, message } of taken) {
        seen += 1;
        const { seq, timestampNs } = delivery;
        const headers = new ReceivedHeaders(headerBlock(message));
        yield { seq, timestampNs, subject: message.subject, data: message.data, headers };
        if (delivery.pending === 0) return;
      }
    }
  } finally {
    batches.close();
    await forget(bus, stream, name);
  }
}

async function* readOneByOne(
  bus: Bus,
  { stream, subjects = ['>'], sinceNs }: ReadStored,
  after: number,
  deadline: number,
): AsyncGenerator<StoredMessage> {
  const { firstSeq, lastSeq } = await readStreamState(bus, stream);
  const [only = '>', ...more] = subjects;
  const subject = more.length === 0 ? only : '>';
  const isAsked = (there: string): boolean =>
    more.length === 0 || subjects.some((pattern) => matchesPattern(pattern as SubjectPattern, there));
  let seq = after + 1;
  if (after === 0)
    seq = sinceNs === undefined ? firstSeq : await firstSince(bus, { stream, subject, sinceNs });
  for (let seen = 0; seq <= lastSeq; seen += 1) {
    if (performance.now() > deadline) throw new Error(`${seen} messages looked at, then time was up`);
    const message = await readNext(bus, { stream, subject, seq });
    if (message === undefined || message.seq > lastSeq) return;
    if (isAsked(message.subject)) yield message;
    seq = message.seq + 1;
  }
}

function consumerConfig(
  { subjects, sinceNs, headersOnly = false }: ReadStored,
  after: number,
): Partial<ConsumerConfig> {
  const [only] = subjects ?? [];
  const isOne = subjects?.length === 1 && only !== undefined;
  return {
    ...(isOne ? { filter_subject: only } : subjects !== undefined && { filter_subjects: [...subjects] }),
    ...(after > 0
      ? { deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: after + 1 }
      : sinceNs === undefined
        ? { deliver_policy: DeliverPolicy.All }
        : {
            deliver_policy: DeliverPolicy.StartTime,
            opt_start_time: printTime(sinceNs > 0n ? sinceNs : 0n),
          }),
    ack_policy: AckPolicy.None,
    replay_policy: ReplayPolicy.Instant,
    headers_only: headersOnly,
    mem_storage: true,
    num_replicas: 1,
    inactive_threshold: forgottenAfterMs * 1e6,
  };
}

/** Not waited for in vain: the broker forgets the consumer anyway. */
async function forget(bus: Bus, stream: string, name: string): Promise<void> {
  if (bus.isConnected) await bus.manager.consumers.delete(stream, name).catch(() => false);
}

interface Taken {
  readonly delivery: Delivery;
  readonly message: Msg;
}

/** Asks a consumer for batch after batch, each when it is wanted. */
class Batches {
  readonly #bus: Bus;
  readonly #nextSubject: string;
  readonly #inbox: string;
  readonly #subscription: ReturnType<Bus['subscribe']>;
  readonly #bytes: number;
  #taken: Taken[] = [];
  #heardAt = 0;
  #end: ((failure?: Error) => void) | undefined;

  constructor(bus: Bus, stream: string, name: string) {
    this.#bus = bus;
    this.#nextSubject = `$JS.API.CONSUMER.MSG.NEXT.${stream}.${name}`;
    this.#bytes = Math.max(batchBytes, 2 * bus.maxPayload); // else the largest message would never come
    this.#inbox = createInbox(bus.inboxPrefix);
    this.#subscription = bus.subscribe(
      this.#inbox,
      (message) => this.#onMessage(message),
      (error) => this.#end?.(error),
    );
  }

  /** Returns the next messages; none where the consumer has no more. */
  next(): Promise<Taken[]> {
    this.#taken = [];
    this.#heardAt = performance.now();
    return new Promise((resolve, reject) => {
      const timer = setInterval(() => {
        if (performance.now() - this.#heardAt > quietMs) this.#end?.(new Error('the broker fell silent'));
      }, 200);
      this.#end = (failure) => {
        clearInterval(timer);
        this.#end = undefined;
        if (failure === undefined) resolve(this.#taken);
        else reject(failure);
      };
      const asked = `{"batch":${batch},"max_bytes":${this.#bytes},"no_wait":true}`;
      this.#bus.tell(this.#nextSubject, asked, this.#inbox);
    });
  }

  close(): void {
    this.#end?.(new Error('it was closed'));
    if (!this.#bus.nats.isClosed()) this.#subscription.unsubscribe();
  }

  #onMessage(message: Msg): void {
    this.#heardAt = performance.now();
    const delivery = parseDelivery(message.reply ?? '');
    if (delivery !== undefined) {
      this.#taken.push({ delivery, message });
      if (this.#taken.length === batch || delivery.pending === 0) this.#end?.();
      return;
    }
    // A status: nothing left, as much as was asked for, or no such consumer any more.
    const { code, status } = message.headers ?? {};
    const isFull = code === 409 && this.#taken.length > 0;
    if (code === 404 || code === 408 || isFull) this.#end?.();
    else this.#end?.(new Error(`the broker says ${status ?? 'nothing'}`));
  }
}
