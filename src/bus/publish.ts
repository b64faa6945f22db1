/**
 * One message on its way into the stream: what each answer means, and how its promise ends.
 *
 * The stream acknowledges (`{"stream":…,"seq":…}`), refuses (`{"error":…}`), or nobody is there: an empty message
 * with status 503, because JetStream is not up or no stream holds the subject.
 */
import type { Msg } from '@nats-io/transport-node';
import type { EncodedHeaders } from './headers.ts';
import { type BrokerError, isPassing, PublishError, reasonOf } from './refusal.ts';
import { type GivenUp, Request } from './requests.ts';

export interface Published {
  /** Where in the stream. */
  readonly seq: number;
  /** The stream had this id already; also after a repeat of our own. */
  readonly duplicate: boolean;
}

/** What a message needs of its publisher. */
export interface PublishHome {
  readonly stream: string;
  /** Nobody listens on a subject: finds out whether that will pass. */
  onNoResponders(): void;
}

export interface PublishParts {
  readonly subject: string;
  readonly data: Uint8Array;
  readonly headers: EncodedHeaders;
  readonly expiresAt: number;
}

const retryAtMostMs = 2_000;

/** One message on its way into the stream. */
export class Publish extends Request {
  readonly #home: PublishHome;
  readonly #resolve: (published: Published) => void;
  readonly #reject: (error: PublishError) => void;
  /** The last thing heard of it is that nobody listens on its subject. */
  noResponders = false;

  constructor(
    home: PublishHome,
    { subject, data, headers, expiresAt }: PublishParts,
    resolve: (published: Published) => void,
    reject: (error: PublishError) => void,
  ) {
    super(subject, data, headers, expiresAt);
    this.#home = home;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  answer(reply: Msg): true | number {
    const ack = parseAck(reply.data);
    if (ack === undefined) {
      // 503 without a body: no stream listens there, or JetStream is not up.
      this.noResponders = true;
      this.#home.onNoResponders();
      return this.#retryInMs();
    }
    this.noResponders = false;
    if (ack.error !== undefined) {
      if (isPassing(ack.error)) return this.#retryInMs();
      this.#refuse(reasonOf(ack.error), ack.error.description, ack.error.err_code);
    } else if (ack.stream !== this.#home.stream) {
      const words = `stream ${ack.stream} stored it, not ${this.#home.stream}`;
      this.#reject(
        new PublishError('BUS_REFUSED', `${this.subject}: ${words}`, {
          reason: 'other-stream',
          mayBeStored: true,
        }),
      );
    } else if (performance.now() >= this.expiresAt) {
      this.giveUp({ why: 'expired', words: 'it came too late', mayHaveArrived: true });
    } else {
      this.#resolve({ seq: ack.seq, duplicate: ack.duplicate === true });
    }
    return true;
  }

  /** `patterns` is what the stream listens to instead; none if there is no such stream. */
  refuseForLackOf(patterns: readonly string[] | undefined): void {
    const { stream } = this.#home;
    if (patterns === undefined) this.#refuse('no-stream', `there is no stream ${stream}`);
    else this.#refuse('not-in-stream', `stream ${stream} holds only ${patterns.join(', ')}`);
  }

  giveUp({ why, words, mayHaveArrived: mayBeStored }: GivenUp): void {
    const failed = (code: PublishError['code'], reason: string, message: string): void =>
      this.#reject(new PublishError(code, message, { reason, mayBeStored }));
    switch (why) {
      case 'expired':
        failed('BUS_UNCONFIRMED', 'unconfirmed', `no acknowledgement of ${this.subject} in time; ${words}`);
        break;
      case 'closed':
        failed('BUS_CLOSED', 'closed', `${this.subject} was not acknowledged: ${words}`);
        break;
      case 'not-permitted':
        failed('BUS_PERMISSION', 'not-permitted', words);
        break;
      case 'unsendable':
        failed('BUS_REFUSED', 'unsendable', `${this.subject} cannot be sent: ${words}`);
        break;
    }
  }

  #refuse(reason: string, words: string, brokerCode?: number): void {
    const mayBeStored = this.unanswered > 0;
    const details = brokerCode === undefined ? { reason, mayBeStored } : { reason, mayBeStored, brokerCode };
    this.#reject(new PublishError('BUS_REFUSED', `${this.subject} was refused: ${words}`, details));
  }

  #retryInMs(): number {
    return Math.min(retryAtMostMs, 100 * 2 ** (this.attempts - 1));
  }
}

interface Ack {
  readonly stream?: string;
  readonly seq: number;
  readonly duplicate?: boolean;
  readonly error?: BrokerError;
}

/** Returns the stream's answer, or `undefined` if this is none. */
function parseAck(data: Uint8Array): Ack | undefined {
  if (data.length === 0) return undefined;
  try {
    return JSON.parse(Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('utf8')) as Ack;
  } catch {
    return undefined;
  }
}
