/**
 * Telling the broker what became of a delivered message, until it has understood.
 *
 * All consumers of one connection share one inbox for the broker's confirmations. An acknowledgement is
 * sent again until it is confirmed or the ack wait is over. Unconfirmed means unknown: a broker that lost what it
 * knew of the delivery answers nothing, and delivers the message again.
 */
import type { Msg } from '@nats-io/transport-node';
import { SwarmError } from '../base/errors.ts';
import type { Bus } from './connection.ts';
import { type GivenUp, Request, Requests } from './requests.ts';

const window = 8_192;
const retryInMs = 500;

const ofBus = new WeakMap<Bus, Requests>();

/** Returns what the connection's consumers acknowledge through. */
export function acknowledgementsOf(bus: Bus): Requests {
  let requests = ofBus.get(bus);
  if (requests === undefined) {
    requests = new Requests(bus, { window });
    ofBus.set(bus, requests);
  }
  return requests;
}

/**
 * What the broker knows of a consumer's deliveries. One that crashed, or whose consumer was deleted, has forgotten
 * some: it answers nothing to their acknowledgements, and makes the deliveries anew.
 */
export interface Lease {
  /** Deliveries of messages behind this place in the stream are forgotten. */
  forgottenBehind: number;
}

/** Rejects the acknowledgements of forgotten deliveries, which nobody is going to answer. */
export function giveUpForgotten(bus: Bus, lease: Lease): void {
  const requests = acknowledgementsOf(bus);
  for (const request of requests.outstanding) {
    if (!(request instanceof Acknowledgement) || !request.isForgottenBy(lease)) continue;
    request.forget();
    requests.settle(request);
  }
}

/** Returns the error for a delivery that the broker has forgotten. */
export function forgotten(): SwarmError {
  return new SwarmError('BUS_UNCONFIRMED', 'the broker has lost this delivery, and makes it anew');
}

export interface AcknowledgementParts {
  /** The delivery's reply subject. */
  readonly reply: string;
  readonly verb: Uint8Array;
  /** By `performance.now()`. */
  readonly expiresAt: number;
  readonly seq: number;
  readonly lease: Lease;
}

/** `+ACK`, `-NAK` or `+TERM` for one delivery. */
export class Acknowledgement extends Request {
  readonly #expiresAt: number;
  readonly #seq: number;
  readonly #lease: Lease;
  readonly #resolve: () => void;
  readonly #reject: (error: SwarmError) => void;

  constructor(parts: AcknowledgementParts, resolve: () => void, reject: (error: SwarmError) => void) {
    super(parts.reply, parts.verb, undefined);
    this.#expiresAt = parts.expiresAt;
    this.#seq = parts.seq;
    this.#lease = parts.lease;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  override get isExpired(): boolean {
    return performance.now() >= this.#expiresAt;
  }

  isForgottenBy(lease: Lease): boolean {
    return this.#lease === lease && this.#seq > lease.forgottenBehind;
  }

  forget(): void {
    this.#reject(forgotten());
  }

  /** The broker confirms with an empty message; one with a status says that nobody has that consumer. */
  answer(reply: Msg): true | number {
    if (reply.headers !== undefined && reply.headers.code !== 0) return retryInMs;
    this.#resolve();
    return true;
  }

  giveUp({ why, words }: GivenUp): void {
    switch (why) {
      case 'expired':
        this.#reject(
          new SwarmError(
            'BUS_UNCONFIRMED',
            `the broker did not confirm an acknowledgement in time; it may deliver the message again (${words})`,
          ),
        );
        break;
      case 'not-permitted':
        this.#reject(new SwarmError('BUS_PERMISSION', `cannot acknowledge: ${words}`));
        break;
      case 'closed':
      case 'unsendable':
        this.#reject(new SwarmError('BUS_CLOSED', `cannot acknowledge: ${words}`));
        break;
    }
  }
}
