/**
 * Messages of a durable consumer, each let in or refused, and on the log before anyone hears of it.
 *
 * A pump runs ahead of whoever takes them, so that the deliveries of a moment share one flush of the log. What waits
 * here is kept from being delivered again; what was given out must be acked, or the broker sends it again. A refused
 * message is logged as BUS.REJECT, terminated, and goes no further.
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
import { Message } from './message.ts';

export interface SubscriptionParts {
  /** Opens the durable consumer. */
  readonly open: () => Promise<Deliveries>;
  readonly receiver: Receiver;
  readonly log: LogWriter;
  readonly stream: string;
  readonly durable: string;
  /** How many logged messages may wait to be taken. */
  readonly ahead: number;
}

/** A message that is being logged, or is logged and waits. Refused ones come to nothing. */
interface Held {
  readonly bus: BusMessage;
  readonly logged: Promise<Message | undefined>;
}

type Refused = Extract<Admission, { admitted: false }>;

/** Payloads of refused messages over this many bytes are withheld: docs/format.md, section 3. */
const keptOfRefused = 4096;

/** How long `stop` waits for the broker to take back what nobody has taken. */
const giveBackWithinMs = 2_000;

export class Subscription implements AsyncIterable<Message>, AsyncDisposable {
  readonly #parts: SubscriptionParts;
  readonly #opened: Promise<Deliveries>;
  readonly #held: Held[] = [];
  readonly #pumped: Promise<void>;
  #failure: { readonly error: unknown } | undefined;
  #ended = false;
  #wake: (() => void)[] = [];
  #stopped: Promise<void> | undefined;

  /** @internal Use `Swarm.subscribe`. */
  constructor(parts: SubscriptionParts) {
    this.#parts = parts;
    this.#opened = parts.open();
    this.#pumped = this.#pump();
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
    for (;;) {
      const held = this.#held[0];
      if (held !== undefined) {
        this.#held.shift();
        this.#notify(); // there is room
        const message = await held.logged;
        if (message !== undefined) return message;
      } else if (this.#failure !== undefined) {
        throw this.#failure.error;
      } else if (this.#ended) {
        return undefined;
      } else {
        await this.#change();
      }
    }
  }

  /** Takes no more, and gives back to the broker what nobody has taken. */
  stop(): Promise<void> {
    this.#stopped ??= (async () => {
      const consumer = await this.#opened.catch(() => undefined); // whoever waits for `ready` or `next` hears of it
      await consumer?.stop();
      this.#ended = true;
      this.#notify();
      await this.#pumped;
      const givenBack = this.#held.splice(0).map(async ({ bus, logged }) => {
        if ((await logged) !== undefined) await bus.nak();
      });
      // What cannot be given back now the broker delivers again after the ack wait.
      const limit = sleep(giveBackWithinMs, undefined, { ref: false });
      await Promise.race([Promise.allSettled(givenBack), limit]);
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

  /** Never throws: what goes wrong is the next caller of `next` to hear. */
  async #pump(): Promise<void> {
    let keepAlive: NodeJS.Timeout | undefined;
    try {
      const deliveries = await this.#opened;
      keepAlive = setInterval(() => {
        for (const { bus } of this.#held) bus.working();
      }, deliveries.ackWaitMs / 3);
      for await (const bus of deliveries) {
        if (this.#failure !== undefined) break;
        const logged = this.#log(bus);
        logged.catch((error: unknown) => {
          this.#failure = { error }; // what cannot be logged is not heard: no more is taken
          this.#notify();
          void deliveries.stop(); // rejects nothing
        });
        this.#held.push({ bus, logged });
        this.#notify();
        // Until there is room the next one is not taken: where it waits it is kept from being delivered again.
        while (this.#isFull) await this.#change();
      }
    } catch (error) {
      this.#failure = { error };
    } finally {
      clearInterval(keepAlive);
      this.#ended = true;
      this.#notify();
    }
  }

  get #isFull(): boolean {
    return this.#held.length >= this.#parts.ahead && !this.#ended && this.#failure === undefined;
  }

  async #log(bus: BusMessage): Promise<Message | undefined> {
    const { log, receiver } = this.#parts;
    const admission = admit(bus, receiver);
    if (!admission.admitted) {
      await this.#logRefusal(bus, admission);
      void this.#opened.then((deliveries) => deliveries.oneMore()); // it is open: the message came from there
      await bus.term(admission.reason).catch(() => undefined); // unheard, it comes again and is refused again
      return undefined;
    }
    const { record, sender } = admission;
    const delivery = await log.append({
      subject: record.header.subject,
      kind: 'BUS.DELIVER',
      payload: bus.data,
      cause: record.leaf,
      trace: record.header.trace,
      received: record,
      delivery: this.#placeOf(bus),
    });
    return new Message(bus, { record, delivery, sender });
  }

  async #logRefusal(bus: BusMessage, { reason, detail, claimed }: Refused): Promise<void> {
    const subject = isSubject(bus.subject) ? bus.subject : escapeSubject(bus.subject);
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

  /** Resolves at the next `#notify`. */
  #change(): Promise<void> {
    return new Promise((resolve) => this.#wake.push(resolve));
  }

  #notify(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }
}
