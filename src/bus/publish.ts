/**
 * One message on its way into the stream: what each answer means, and how its promise ends.
 *
 * The stream acknowledges (`{"stream":…,"seq":…}`), refuses (`{"error":…}`), or nobody is there: an empty message
 * with status 503, because JetStream is not up or no stream holds the subject.
 */
import type { Msg } from '@nats-io/transport-node';
import type { BrokerClock } from './broker-clock.ts';
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
  readonly brokerClock: BrokerClock;
  /** The stream has the id, and it is not certain that it took the message itself, and in time: looks, and settles it. */
  onDoubtful(publish: Publish, published: Published): void;
  /** Nobody listens on a subject: finds out whether that will pass. */
  onNoResponders(): void;
}

export interface PublishParts {
  readonly subject: string;
  readonly data: Uint8Array;
  readonly headers: EncodedHeaders;
  readonly freshFromNs: bigint;
  readonly freshUntilNs: bigint;
}

const retryAtMostMs = 2_000;

/** One message on its way into the stream. */
export class Publish extends Request {
  declare readonly headers: EncodedHeaders;
  readonly #home: PublishHome;
  readonly #freshFromNs: bigint;
  readonly #freshUntilNs: bigint;
  readonly #resolve: (published: Published) => void;
  readonly #reject: (error: PublishError) => void;
  /** The last thing heard of it is that nobody listens on its subject. */
  noResponders = false;

  constructor(
    home: PublishHome,
    parts: PublishParts,
    resolve: (published: Published) => void,
    reject: (error: PublishError) => void,
  ) {
    super(parts.subject, parts.data, parts.headers);
    this.#home = home;
    this.#freshFromNs = parts.freshFromNs;
    this.#freshUntilNs = parts.freshUntilNs;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  override get isExpired(): boolean {
    return this.#home.brokerClock.now().latestNs >= this.#freshUntilNs;
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
    } else {
      const published = { seq: ack.seq, duplicate: ack.duplicate === true };
      if (this.#isCertainlyFresh && !published.duplicate) this.#resolve(published);
      else this.#home.onDoubtful(this, published);
    }
    return true;
  }

  /**
   * Whether the broker must have stored it while it was fresh: sent once, answered soon, and no clock in doubt. What
   * was sent before a machine slept or a clock stepped is none of these, or its clock is in doubt.
   */
  get #isCertainlyFresh(): boolean {
    if (this.attempts !== 1 || performance.now() >= this.sendAgainAt) return false;
    const { earliestNs, latestNs, isSure } = this.#home.brokerClock.now();
    return isSure && earliestNs >= this.#freshFromNs && latestNs < this.#freshUntilNs;
  }

  /** Settles a doubtful one by when the broker stored it; `undefined` if it has another message there. */
  settleByTime(published: Published, storedNs: bigint | undefined): void {
    if (storedNs !== undefined && storedNs >= this.#freshFromNs && storedNs <= this.#freshUntilNs) {
      this.#resolve(published);
    } else {
      const words =
        storedNs === undefined
          ? 'what the stream has there is not it'
          : 'the stream took it when it was stale';
      this.giveUp({ why: 'expired', words, mayHaveArrived: true });
    }
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
