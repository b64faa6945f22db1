/**
 * A message of a subscription: verified, on the log, and not yet settled with the broker.
 */
import type { BusMessage } from '../bus/message.ts';
import { Received, type ReceivedParts } from '../handler/received.ts';

/** What came with a message and nobody signed. Do not decide by it. */
export interface Unauthenticated {
  /** Every value of each header, as sent. */
  readonly headers: Readonly<Record<string, readonly string[]>>;
}

export class Message extends Received {
  readonly #bus: BusMessage;

  /** @internal Messages come out of a subscription. */
  constructor(bus: BusMessage, parts: Omit<ReceivedParts, 'data'>) {
    super({ ...parts, data: bus.data });
    this.#bus = bus;
  }

  get unauthenticated(): Unauthenticated {
    const { headers } = this.#bus;
    return { headers: Object.fromEntries(headers.names().map((name) => [name, headers.values(name)])) };
  }

  /**
   * Tells the broker that the message is done with. Resolves once it knows. Throws `BUS_UNCONFIRMED` once the message
   * is to be delivered again anyway, `BUS_PERMISSION`, `BUS_CLOSED`. The first of `ack`, `nak` and `term` counts: one
   * that comes later sends nothing, and comes to the same.
   */
  ack(): Promise<void> {
    return this.#bus.ack();
  }

  /** Asks for the message again, after `delayMs` at the earliest. Resolves and throws as `ack`. */
  nak(delayMs?: number): Promise<void> {
    return this.#bus.nak(delayMs);
  }

  /** Tells the broker never to deliver the message to this durable again. Resolves and throws as `ack`. */
  term(reason?: string): Promise<void> {
    return this.#bus.term(reason);
  }

  /** @internal What the first of `ack`, `nak` and `term` came to, if there was one. */
  get settled(): Promise<void> | undefined {
    return this.#bus.answered;
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
