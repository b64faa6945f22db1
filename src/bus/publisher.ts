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
import { type Clock, systemClock } from '../base/clock.ts';
import { matchesPattern, type Subject, type SubjectPattern } from '../base/subject.ts';
import type { Bus } from './connection.ts';
import { encodeHeaders } from './headers.ts';
import { Publish, type Published, type PublishHome } from './publish.ts';
import { PublishError } from './refusal.ts';
import { Requests } from './requests.ts';
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

/** Returns a publisher for one stream. */
export function openPublisher(bus: Bus, options: PublisherOptions): Publisher {
  return new Publisher(bus, options);
}

export class Publisher implements AsyncDisposable {
  readonly #bus: Bus;
  readonly #home: PublishHome;
  readonly #clock: Clock;
  readonly #requests: Requests;
  #probing = false;

  constructor(bus: Bus, options: PublisherOptions) {
    const { stream, window = 1_024, ackWithinMs = 2_000, clock = systemClock() } = options;
    this.#bus = bus;
    this.#home = { stream, onNoResponders: () => this.#onNoResponders() };
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
      this.#requests.send(new Publish(this.#home, { subject, data, headers, expiresAt }, resolve, reject));
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

  /** Asks once, for all messages on whose subject nobody listens, whether that will pass. */
  #onNoResponders(): void {
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
      info = await this.#bus.manager.streams.info(this.#home.stream);
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

function tooLarge(subject: string, size: number, limit: number): PublishError {
  return new PublishError(
    'BUS_PAYLOAD_TOO_LARGE',
    `${subject}: headers and payload are ${size} bytes, the server takes ${limit}; send less, or raise the server's max_payload`,
    { reason: 'too-large', mayBeStored: false },
  );
}
