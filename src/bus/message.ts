/**
 * A delivered message: what was sent, where the broker keeps it, and the ways to answer.
 *
 * Headers are not parsed until they are asked for. Subject and headers are as they came over the wire; only the
 * numbers in the reply subject are the broker's own.
 */
import type { Msg } from '@nats-io/transport-node';
import { SwarmError } from '../base/errors.ts';
import { Acknowledgement, acknowledgementsOf, forgotten, type Lease } from './acknowledge.ts';
import type { Bus } from './connection.ts';
import { headerBlock, ReceivedHeaders } from './headers.ts';

const ack = Buffer.from('+ACK');
const nak = Buffer.from('-NAK');
const working = Buffer.from('+WPI');
const digits = /^\d+$/;

/** What the broker says of one delivery. */
export interface Delivery {
  readonly stream: string;
  readonly consumer: string;
  /** Position in the stream. */
  readonly seq: number;
  /** 1 for the first time this consumer hands the message out. */
  readonly attempt: number;
  /** When the broker stored it, by its clock, since the Unix epoch. */
  readonly timestampNs: bigint;
  /** Messages that this consumer still has to hand out after this one. */
  readonly pending: number;
}

/**
 * Returns what a reply subject says: `$JS.ACK.<stream>.<consumer>.<attempt>.<seq>.<n>.<time>.<pending>`, in
 * newer servers with domain and account behind `ACK` (NATS ADR-15). `undefined` if it is none.
 */
export function parseDelivery(reply: string): Delivery | undefined {
  const tokens = reply.split('.');
  if (tokens[0] !== '$JS' || tokens[1] !== 'ACK') return undefined;
  const [stream, consumer, ...numbers] = tokens.slice(tokens.length === 9 ? 2 : 4);
  const [attempt, seq, , time, pending] = numbers.slice(0, 5);
  if (stream === undefined || consumer === undefined || pending === undefined) return undefined;
  if (time === undefined || !digits.test(time) || !digits.test(`${attempt}${seq}${pending}`))
    return undefined;
  return {
    stream,
    consumer,
    attempt: Number(attempt),
    seq: Number(seq),
    timestampNs: BigInt(time),
    pending: Number(pending),
  };
}

/** What a message shares with the others of its consumer. */
export interface DeliveryTerms {
  readonly ackWithinMs: number;
  readonly lease: Lease;
  readonly home: MessageHome;
}

/** What a message needs of whoever handed it out. */
export interface MessageHome {
  /** The message is done with, or will be once `confirmed` resolves: other deliveries of it are void. */
  onDone(seq: number, confirmed: Promise<void>): void;
  keep(message: BusMessage): () => void;
}

export class BusMessage {
  readonly #bus: Bus;
  readonly #message: Msg;
  #reply: string;
  #terms: DeliveryTerms;
  #answered: Promise<void> | undefined;
  /** Where and when the broker keeps it. */
  readonly delivery: Delivery;
  #headers: ReceivedHeaders | undefined;

  /** @internal Throws `BUS_CONSUMER` if `message` is no delivery. */
  constructor(bus: Bus, message: Msg, terms: DeliveryTerms) {
    const reply = message.reply ?? '';
    const delivery = parseDelivery(reply);
    if (delivery === undefined) throw new SwarmError('BUS_CONSUMER', `not a delivery: ${reply}`);
    this.#bus = bus;
    this.#message = message;
    this.#reply = reply;
    this.#terms = terms;
    this.delivery = delivery;
  }

  get subject(): string {
    return this.#message.subject;
  }

  /** The payload. A view into a larger buffer: copy what is kept for long. */
  get data(): Uint8Array {
    return this.#message.data;
  }

  get headers(): ReceivedHeaders {
    this.#headers ??= new ReceivedHeaders(headerBlock(this.#message));
    return this.#headers;
  }

  get seq(): number {
    return this.delivery.seq;
  }

  get attempt(): number {
    return this.delivery.attempt;
  }

  get timestampNs(): bigint {
    return this.delivery.timestampNs;
  }

  /** What the first of `ack`, `nak` and `term` came to; that one counts, and the later ones come to the same. */
  get answered(): Promise<void> | undefined {
    return this.#answered;
  }

  /**
   * Resolves when the broker confirmed that the message is done with. Rejects with `BUS_UNCONFIRMED` if it did not
   * within the ack wait, or has lost the delivery: the message may come again; with `BUS_PERMISSION` or `BUS_CLOSED`.
   */
  ack(): Promise<void> {
    return this.#done(ack);
  }

  /**
   * Asks for the message again, at once or after `delayMs`. Resolves when the broker confirmed it; unheard, the
   * broker delivers it again after the ack wait.
   */
  nak(delayMs = 0): Promise<void> {
    return this.#answer(delayMs > 0 ? Buffer.from(`-NAK {"delay":${Math.round(delayMs * 1e6)}}`) : nak);
  }

  /** Asks never to be given the message again. Resolves when the broker confirmed it. */
  term(reason = ''): Promise<void> {
    return this.#done(Buffer.from(reason === '' ? '+TERM' : `+TERM ${reason}`));
  }

  /** Says that the message is being worked on: the ack wait starts anew. Lost while disconnected. */
  working(): void {
    this.#bus.tell(this.#reply, working);
  }

  /**
   * Keeps the broker told that it is being worked on until the returned function is called. Should the message be
   * delivered again meanwhile, because the broker did not hear of it, the answer goes for that delivery.
   */
  keep(): () => void {
    return this.#terms.home.keep(this);
  }

  /** Takes the place of `later`, another delivery of the same message: what is answered here answers that one. */
  adopt(later: BusMessage): void {
    this.#reply = later.#reply;
    this.#terms = later.#terms;
  }

  /** The broker no longer knows of this delivery, and makes it anew. */
  get isForgotten(): boolean {
    return this.seq > this.#terms.lease.forgottenBehind;
  }

  #done(verb: Uint8Array): Promise<void> {
    const isFirst = this.#answered === undefined;
    const confirmed = this.#answer(verb);
    if (isFirst) this.#terms.home.onDone(this.seq, confirmed);
    return confirmed;
  }

  #answer(verb: Uint8Array): Promise<void> {
    this.#answered ??= this.#send(verb);
    return this.#answered;
  }

  #send(verb: Uint8Array): Promise<void> {
    if (this.isForgotten) return Promise.reject(forgotten());
    const { ackWithinMs, lease } = this.#terms;
    const expiresAt = performance.now() + ackWithinMs;
    const parts = { reply: this.#reply, verb, expiresAt, seq: this.seq, lease };
    return new Promise((resolve, reject) => {
      acknowledgementsOf(this.#bus).send(new Acknowledgement(parts, resolve, reject));
    });
  }
}
