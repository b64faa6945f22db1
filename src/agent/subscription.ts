/**
 * Messages of a durable consumer, each let in or refused, and on the log before anyone hears of it.
 *
 * Each is logged as it arrives, so that the deliveries of a moment share one flush of the log, and waits in the
 * consumer's own queue, where it is kept from being delivered again. What was given out must be acked, or the broker
 * sends it again. A refused message is logged as BUS.REJECT, terminated, and goes no further; of a flood of them most
 * are logged in sum.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { sha256Hex } from '../base/encoding.ts';
import { messageRefused } from '../base/events.ts';
import { escapeSubject, isSubject } from '../base/subject.ts';
import type { Deliveries } from '../bus/deliveries.ts';
import type { BusMessage } from '../bus/message.ts';
import type { LogWriter } from '../log/writer.ts';
import type { Delivery } from '../record/header.ts';
import { receivedHash, receivedHashKey } from '../record/received.ts';
import { type Admission, admit, type Receiver } from './admission.ts';
import type { DeadLetters } from './dead-letters.ts';
import { Message } from './message.ts';
import { type Refusal, Refusals } from './refusals.ts';

export interface SubscriptionParts {
  /** Opens the durable consumer, which tells of each message as it arrives. */
  readonly open: (onArrival: (message: BusMessage) => void) => Promise<Deliveries>;
  readonly receiver: Receiver;
  readonly deadLetters: DeadLetters;
  readonly log: LogWriter;
  readonly stream: string;
  readonly durable: string;
}

type Admitted = Extract<Admission, { admitted: true }>;
type Refused = Extract<Admission, { admitted: false }>;

/** Payloads of refused messages over this many bytes are withheld: docs/format.md, section 3. */
const keptOfRefused = 4096;

/** How long `stop` waits for what has arrived to be logged, and refused with the broker. */
const loggedWithinMs = 2_000;

export class Subscription implements AsyncIterable<Message>, AsyncDisposable {
  readonly #parts: SubscriptionParts;
  readonly #opened: Promise<Deliveries>;
  readonly #refusals: Refusals;
  /** What became of each message that arrived; refused ones come to nothing. */
  readonly #logged = new WeakMap<BusMessage, Promise<Message | undefined>>();
  readonly #logging = new Set<Promise<unknown>>();
  #failure: { readonly error: unknown } | undefined;
  #stopped: Promise<void> | undefined;
  /** @internal Resolves when nothing more comes, for whatever reason, and what nobody took is given back. */
  readonly ended: Promise<void>;

  /** @internal Use `Swarm.subscribe`. */
  constructor(parts: SubscriptionParts) {
    this.#parts = parts;
    const { stream, durable, log } = parts;
    this.#refusals = new Refusals({ stream, durable, append: (draft) => log.append(draft) });
    this.#opened = parts.open((message) => this.#onArrival(message));
    this.ended = this.#opened.then(
      async ({ ended }) => {
        await ended;
        await this.stop();
      },
      () => undefined, // whoever waits for `ready` or `next` hears of it
    );
  }

  /** The name under which the broker remembers what was acked. */
  get durable(): string {
    return this.#parts.durable;
  }

  /** Resolves once the durable consumer is there; throws `BUS_CONSUMER` and what the connection throws. */
  async ready(): Promise<void> {
    await this.#opened;
  }

  /**
   * Resolves with the next message that was let in, its BUS.DELIVER on disk; with `undefined` after `stop`.
   * Throws `LOG_WRITE_FAILED` where it could not be logged, and what ended the consumer.
   */
  async next(): Promise<Message | undefined> {
    const deliveries = await this.#opened;
    for (;;) {
      const { value: bus } = await deliveries.next();
      const message = bus && (await this.#logged.get(bus));
      if (this.#failure !== undefined) throw this.#failure.error;
      if (bus === undefined || message !== undefined) return message;
    }
  }

  /** Takes no more, and gives back to the broker what nobody has taken. */
  stop(): Promise<void> {
    this.#stopped ??= (async () => {
      const deliveries = await this.#opened.catch(() => undefined); // whoever waits for `ready` or `next` hears of it
      await deliveries?.stop();
      this.#refusals.flush();
      const limit = sleep(loggedWithinMs, undefined, { ref: false });
      await Promise.race([Promise.allSettled(this.#logging), limit]);
    })();
    return this.#stopped;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Message, void> {
    try {
      for (let message = await this.next(); message !== undefined; message = await this.next()) yield message;
    } finally {
      await this.stop();
    }
  }

  #onArrival(bus: BusMessage): void {
    if (this.#failure !== undefined) return; // what cannot be logged is not heard
    const admission = admit(bus, this.#parts.receiver);
    if (admission.admitted) {
      const logged = this.#log(bus, admission);
      this.#logged.set(bus, logged);
      this.#watch(logged);
    } else {
      // Nobody waits for it: whoever is given it passes over it.
      this.#watch(this.#refuse(bus, admission));
      void this.#opened.then((deliveries) => deliveries.oneMore()); // it is open: the message came from there
    }
  }

  /** Keeps `logging` in sight until it is done; where it fails nothing more is taken. */
  #watch(logging: Promise<unknown>): void {
    const done = logging
      .catch((error: unknown) => {
        this.#failure = { error };
        void this.stop(); // rejects nothing
      })
      .finally(() => this.#logging.delete(done));
    this.#logging.add(done);
  }

  async #log(bus: BusMessage, { record, sender }: Admitted): Promise<Message> {
    const { log, deadLetters } = this.#parts;
    const delivery = await log.append({
      subject: record.header.subject,
      kind: 'BUS.DELIVER',
      payload: bus.data,
      cause: record.leaf,
      trace: record.header.trace,
      received: record,
      delivery: this.#placeOf(bus),
    });
    return new Message(bus, deadLetters, { record, delivery, sender });
  }

  /** Logs a refused message, by itself or in a sum, and then terminates it. */
  async #refuse(bus: BusMessage, refused: Refused): Promise<void> {
    const subject = isSubject(bus.subject) ? bus.subject : escapeSubject(bus.subject);
    const refusal = { reason: refused.reason, subject, seq: bus.seq, bytes: bus.data.length };
    if (this.#refusals.takesRecord(refusal, performance.now())) {
      await this.#logRefusal(bus, refused, refusal);
    } else {
      await this.#refusals.count(refusal);
    }
    await bus.term(refused.reason).catch(() => undefined); // unheard, it comes again and is refused again
  }

  async #logRefusal(
    bus: BusMessage,
    { detail, claimed }: Refused,
    { subject, reason }: Refusal,
  ): Promise<void> {
    await this.#parts.log.append({
      subject,
      kind: 'BUS.REJECT',
      ...(bus.data.length <= keptOfRefused ? { payload: bus.data } : { payloadHash: sha256Hex(bus.data) }),
      ...(claimed && {
        cause: claimed.leaf,
        received: claimed,
        meta: { [receivedHashKey]: receivedHash(claimed) },
      }),
      delivery: this.#placeOf(bus),
      reason,
    });
    messageRefused.publish({ subject, reason, detail, seq: bus.seq });
  }

  #placeOf({ seq, attempt }: BusMessage): Delivery {
    return { stream: this.#parts.stream, seq, consumer: this.#parts.durable, attempt };
  }
}
