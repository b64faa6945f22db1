/**
 * Publishing until the stream has it.
 *
 * `publish` resolves when the stream acknowledged the message while it was still fresh. Until then the
 * message is sent again, always under its id, so that the broker keeps one of them (docs/format.md,
 * section 5). After `freshUntilNs` it is never sent again: the promise is rejected with `BUS_UNCONFIRMED`,
 * and whoever cares looks whether the stream has it (`find.ts`). An acknowledgement that comes later than
 * that is not believed, because the broker may have stored the message when it was already stale.
 */
import type { StreamInfo } from '@nats-io/jetstream';
import type { Msg } from '@nats-io/transport-node';
import { type Clock, systemClock } from '../base/clock.ts';
import { matchesPattern, type Subject, type SubjectPattern } from '../base/subject.ts';
import type { Bus } from './connection.ts';
import { type EncodedHeaders, encodeHeaders } from './headers.ts';
import { type BrokerError, isPassing, PublishError, reasonOf } from './refusal.ts';
import { type GivenUp, Request, Requests } from './requests.ts';
import { isStreamMissing } from './stream.ts';

export interface PublisherOptions {
  /** The stream that must store what is published. */
  readonly stream: string;
  /** Messages sent and not yet acknowledged, at most; more wait in line. @default 1024 */
  readonly window?: number;
  /** How long the first acknowledgement may take before the message is sent again. @default 2000 */
  readonly ackWithinMs?: number;
  readonly clock?: Clock;
}

export interface PublishOptions {
  /** The message's id (`Nats-Msg-Id`), 1 to a few hundred ASCII characters: the broker drops a repeat. */
  readonly id: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Until when, by `clock`, the message may be sent: half the stream's duplicate window after its `ts_ns`. */
  readonly freshUntilNs: bigint;
}

export interface Published {
  /** Where in the stream. */
  readonly seq: number;
  /** The stream had this id already; also after a repeat of our own. */
  readonly duplicate: boolean;
}

/** Returns a publisher for one stream. */
export function openPublisher(bus: Bus, options: PublisherOptions): Publisher {
  return new Publisher(bus, options);
}

export class Publisher implements AsyncDisposable {
  readonly #bus: Bus;
  readonly #stream: string;
  readonly #clock: Clock;
  readonly #requests: Requests;
  #probing = false;

  constructor(bus: Bus, options: PublisherOptions) {
    const { stream, window = 1_024, ackWithinMs = 2_000, clock = systemClock() } = options;
    this.#bus = bus;
    this.#stream = stream;
    this.#clock = clock;
    this.#requests = new Requests(bus, { window, answerWithinMs: ackWithinMs });
  }

  /**
   * Resolves when the stream has the message. Rejects with a `PublishError`: `BUS_PAYLOAD_TOO_LARGE` (nothing
   * was sent), `BUS_REFUSED`, `BUS_PERMISSION`, `BUS_UNCONFIRMED`, `BUS_CLOSED`. Messages are first sent in
   * the order of the calls; a message that must be sent again can end up behind later ones.
   */
  publish(subject: Subject, data: Uint8Array, options: PublishOptions): Promise<Published> {
    return new Promise((resolve, reject) => {
      const headers = encodeHeaders(options.id, options.headers ?? {});
      const size = data.length + headers.bytes.length;
      if (size > this.#bus.maxPayload) {
        reject(tooLarge(subject, size, this.#bus.maxPayload));
        return;
      }
      const freshForMs = Number(options.freshUntilNs - this.#clock()) / 1e6;
      const expiresAt = performance.now() + freshForMs;
      this.#requests.send(new Publish(this, { subject, data, headers, expiresAt }, resolve, reject));
    });
  }

  /** Messages handed over and not settled. */
  get pending(): number {
    return this.#requests.pending;
  }

  /** Takes nothing more, waits at most `limitMs` for what is pending, and rejects the rest with `BUS_CLOSED`. */
  close(limitMs = 5_000): Promise<void> {
    return this.#requests.close(limitMs);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** @internal The stream's name, for `Publish`. */
  get stream(): string {
    return this.#stream;
  }

  /** @internal Nobody listens on a subject: asks once, for all, whether that will pass. */
  onNoResponders(): void {
    if (this.#probing) return;
    this.#probing = true;
    // #probe rejects nothing: it settles requests, or leaves them to be sent again.
    void this.#probe().finally(() => {
      this.#probing = false;
    });
  }

  async #probe(): Promise<void> {
    let info: StreamInfo | undefined;
    try {
      info = await this.#bus.manager.streams.info(this.#stream);
    } catch (thrown) {
      if (!isStreamMissing(thrown)) return; // JetStream is not up: that passes
    }
    const patterns = info?.config.subjects ?? [];
    for (const request of this.#requests.outstanding) {
      if (!(request instanceof Publish) || !request.noResponders) continue;
      if (patterns.some((pattern) => matchesPattern(pattern as SubjectPattern, request.subject))) continue;
      request.refuseForLackOf(info === undefined ? undefined : patterns);
      this.#requests.settle(request);
    }
  }
}

interface Parts {
  readonly subject: string;
  readonly data: Uint8Array;
  readonly headers: EncodedHeaders;
  readonly expiresAt: number;
}

const retryAtMostMs = 2_000;

class Publish extends Request {
  readonly #publisher: Publisher;
  readonly #resolve: (published: Published) => void;
  readonly #reject: (error: PublishError) => void;
  /** The last thing heard of it is that nobody listens on its subject. */
  noResponders = false;

  constructor(
    publisher: Publisher,
    { subject, data, headers, expiresAt }: Parts,
    resolve: (published: Published) => void,
    reject: (error: PublishError) => void,
  ) {
    super(subject, data, headers, expiresAt);
    this.#publisher = publisher;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  answer(reply: Msg): true | number {
    const ack = parseAck(reply.data);
    if (ack === undefined) {
      // 503 without a body: no stream listens there, or JetStream is not up.
      this.noResponders = true;
      this.#publisher.onNoResponders();
      return this.#retryInMs();
    }
    this.noResponders = false;
    if (ack.error !== undefined) {
      if (isPassing(ack.error)) return this.#retryInMs();
      this.#refuse(reasonOf(ack.error), ack.error.description, ack.error.err_code);
    } else if (ack.stream !== this.#publisher.stream) {
      const words = `stream ${ack.stream} stored it, not ${this.#publisher.stream}`;
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
    const { stream } = this.#publisher;
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

function tooLarge(subject: string, size: number, limit: number): PublishError {
  return new PublishError(
    'BUS_PAYLOAD_TOO_LARGE',
    `${subject}: headers and payload are ${size} bytes, the server takes ${limit}`,
    { reason: 'too-large', mayBeStored: false },
  );
}
