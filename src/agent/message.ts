/**
 * A message as a handler sees it: verified, on the log, and not yet settled with the broker.
 */
import type { BusMessage } from '../bus/message.ts';
import type { Agent } from '../identity/keyring.ts';
import type { SignedRecord } from '../record/signed.ts';
import { firstSaidAs } from './envelope.ts';
import { decodePayload } from './payload.ts';

/** What came with a message and nobody signed. Do not decide by it. */
export interface Unauthenticated {
  /** Every value of each header, as sent. */
  readonly headers: Readonly<Record<string, readonly string[]>>;
}

export class Message {
  readonly #bus: BusMessage;
  #payload: { readonly value: unknown } | undefined;
  /** The sender's signed BUS.PUBLISH. */
  readonly record: SignedRecord;
  /** Our own signed BUS.DELIVER: what a message published in answer names as its `cause`. */
  readonly delivery: SignedRecord;
  /** The agent whose key signed it. */
  readonly sender: Agent;

  /** @internal Messages come out of a subscription. */
  constructor(bus: BusMessage, parts: { record: SignedRecord; delivery: SignedRecord; sender: Agent }) {
    this.#bus = bus;
    this.record = parts.record;
    this.delivery = parts.delivery;
    this.sender = parts.sender;
  }

  get subject(): string {
    return this.record.header.subject;
  }

  get threadId(): string {
    return this.record.header.threadId;
  }

  /**
   * What to recognise the message by where something must be done once: the sender's key and the leaf of the first
   * record that said it, the same however often it is delivered or had to be said anew. The key is in it so that
   * nobody can say something under the id of another's message.
   */
  get id(): string {
    const { signer, meta } = this.record.header;
    return `${signer}/${meta?.[firstSaidAs] ?? this.record.leaf}`;
  }

  /** Where the stream keeps it. */
  get seq(): number {
    return this.#bus.seq;
  }

  /** 1 the first time it is delivered to this durable. */
  get attempt(): number {
    return this.#bus.attempt;
  }

  /** The bytes that were signed. */
  get data(): Uint8Array {
    return this.#bus.data;
  }

  /** What was published: the value, where the bytes are one JSON text, else the bytes. Integers past 2^53 lose digits. */
  get payload(): unknown {
    this.#payload ??= { value: decodePayload(this.#bus.data) };
    return this.#payload.value;
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
