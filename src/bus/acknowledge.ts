/**
 * Telling the broker what became of a delivered message, until it has understood.
 *
 * All consumers of one connection share one inbox for the broker's confirmations. An acknowledgement is
 * sent again until it is confirmed or its deadline passes; by then the broker delivers the message anew.
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

/** `+ACK`, `-NAK` or `+TERM` for one delivery. */
export class Acknowledgement extends Request {
  readonly #resolve: () => void;
  readonly #reject: (error: SwarmError) => void;

  constructor(
    reply: string,
    verb: Uint8Array,
    expiresAt: number,
    resolve: () => void,
    reject: (error: SwarmError) => void,
  ) {
    super(reply, verb, undefined, expiresAt);
    this.#resolve = resolve;
    this.#reject = reject;
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
            `the broker did not confirm an acknowledgement in time; it delivers the message again (${words})`,
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
