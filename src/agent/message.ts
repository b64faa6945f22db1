/**
 * A message of a subscription: verified, on the log, and not yet settled with the broker.
 */
import type { BusMessage } from '../bus/message.ts';
import { Received, type ReceivedParts } from '../handler/received.ts';
import { requireReason } from '../handler/unrecoverable.ts';
import type { DeadLetters } from './dead-letters.ts';

/** What came with a message and nobody signed. Do not decide by it. */
export interface Unauthenticated {
  /** Every value of each header, as sent. */
  readonly headers: Readonly<Record<string, readonly string[]>>;
}

export class Message extends Received {
  readonly #bus: BusMessage;
  readonly #deadLetters: DeadLetters;
  #dying: Promise<void> | undefined;
  #acking: Promise<void> | undefined;
  #isGivenBack = false;

  /** @internal Messages come out of a subscription. */
  constructor(bus: BusMessage, deadLetters: DeadLetters, parts: Omit<ReceivedParts, 'data'>) {
    super({ ...parts, data: bus.data });
    this.#bus = bus;
    this.#deadLetters = deadLetters;
  }

  get unauthenticated(): Unauthenticated {
    const { headers } = this.#bus;
    return { headers: Object.fromEntries(headers.names().map((name) => [name, headers.values(name)])) };
  }

  /**
   * Tells the broker that the message is done with. Resolves once it knows. Throws `BUS_UNCONFIRMED` once the message
   * is to be delivered again anyway, `BUS_PERMISSION`, `BUS_CLOSED`. The first of `ack`, `nak`, `term` and `dead` counts:
   * one that comes later sends nothing, and comes to the same.
   */
  ack(): Promise<void> {
    return this.#pending ?? this.#bus.ack();
  }

  /** Asks for the message again, after `delayMs` at the earliest. Resolves and throws as `ack`. */
  nak(delayMs?: number): Promise<void> {
    this.#isGivenBack ||= this.settled === undefined;
    return this.#pending ?? this.#bus.nak(delayMs);
  }

  /** Tells the broker never to deliver the message to this durable again. Resolves and throws as `ack`. */
  term(reason?: string): Promise<void> {
    return this.#pending ?? this.#bus.term(reason);
  }

  /**
   * Gives the message up for good: a BUS.DEAD record with `reason` (`[a-z][a-z0-9-]{0,63}`) on the log, a copy in the
   * stream DEAD, then `term`. Resolves as `ack`. Throws `USAGE` for a reason that is none, `LOG_WRITE_FAILED`, and where the
   * stream DEAD cannot be had or does not take it `BUS_STREAM`, `BUS_STREAM_DIFFERS` and what publishing throws: then the
   * message is as it was, and comes again.
   */
  async dead(reason: string): Promise<void> {
    requireReason(reason);
    const settled = this.settled;
    if (settled !== undefined) return await settled;
    this.#dying = this.#deadLetters
      .bury(this, this.#bus.headers, reason)
      .then(() => this.#bus.term(reason))
      .catch((error: unknown) => {
        this.#dying = undefined;
        throw error;
      });
    await this.#dying;
  }

  /** @internal Whether it was asked for again. */
  get isGivenBack(): boolean {
    return this.#isGivenBack;
  }

  /** Whether it was given up here, or is being given up. */
  get isDead(): boolean {
    return this.#dying !== undefined;
  }

  /** @internal What the first of `ack`, `nak`, `term` and `dead` came to, if there was one. */
  get settled(): Promise<void> | undefined {
    return this.#pending ?? this.#bus.answered;
  }

  /** @internal Acks it once `logged` has resolved. Where that rejects nothing is answered, and the message comes again. */
  ackAfter(logged: Promise<void>): void {
    this.#acking = logged.then(() => this.#bus.ack());
    this.#acking.catch(() => undefined); // whoever waits for `settled` hears of it
  }

  get #pending(): Promise<void> | undefined {
    return this.#dying ?? this.#acking;
  }

  /** @internal Keeps it from being delivered again until the returned function is called. */
  keep(): () => void {
    return this.#bus.keep();
  }

  /** Asks for more time, as is done for a handler by itself: without it, or an ack, the broker delivers the message again after the ack wait (30 s). */
  working(): void {
    this.#bus.working();
  }
}
