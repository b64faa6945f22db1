/**
 * Publishing until the stream has it.
 *
 * `publish` resolves when the stream has the message and took it while it was fresh. Until it is acknowledged
 * the message is sent again, always under its id, so that the broker keeps one of them (docs/format.md,
 * section 5). After `freshUntilNs` it is never sent again: the promise is rejected with `BUS_UNCONFIRMED`,
 * and whoever cares looks whether the stream has it (`find.ts`).
 *
 * Fresh is what the broker's timestamp says, and clocks step. So the time is asked anew whenever a message is
 * about to be sent, and an acknowledgement is believed as it is only where no doubt is possible; otherwise, and
 * whenever the message was sent more than once or the stream had its id already, the stream is asked what it stored, and when.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { StreamInfo } from '@nats-io/jetstream';
import { type Clock, systemClock } from '../base/clock.ts';
import { messageOf } from '../base/errors.ts';
import { matchesPattern, type Subject, type SubjectPattern } from '../base/subject.ts';
import { BrokerClock, type BrokerNow } from './broker-clock.ts';
import type { ClockOffset } from './clock.ts';
import type { Bus } from './connection.ts';
import { encodeHeaders, type HeaderValues } from './headers.ts';
import { Publish, type Published, type PublishHome } from './publish.ts';
import { isStoredAsSent, readStored } from './read-message.ts';
import { PublishError } from './refusal.ts';
import { Requests } from './requests.ts';
import { brokerTime, isStreamMissing } from './stream.ts';

export interface PublisherOptions {
  /** The stream that must store what is published. */
  readonly stream: string;
  /** Messages sent and not yet acknowledged, at most; more wait in line. @default 1024 */
  readonly window?: number;
  /** How long the first acknowledgement may take before the message is sent again. @default 2000 */
  readonly ackWithinMs?: number;
  readonly clock?: Clock;
  /** The broker's clock minus `clock`, measured just now. @default it is measured */
  readonly offset?: ClockOffset;
}

export interface PublishOptions {
  /** The message's id (`Nats-Msg-Id`), 1 to a few hundred ASCII characters: the broker drops a repeat. */
  readonly id: string;
  readonly headers?: HeaderValues;
  /** From when on, by the broker's clock, receivers take the message: half the stream's duplicate window before its `ts_ns`. */
  readonly freshFromNs: bigint;
  /** Until when they do, and until when it may be sent: half the window after its `ts_ns`. */
  readonly freshUntilNs: bigint;
}

/** How often a connected broker is asked when it stored a message. */
const lookTries = 3;

/** Returns a publisher for one stream. */
export function openPublisher(bus: Bus, options: PublisherOptions): Publisher {
  return new Publisher(bus, options);
}

export class Publisher implements AsyncDisposable {
  readonly #bus: Bus;
  readonly #home: PublishHome;
  readonly #requests: Requests;
  readonly #looking = new Set<Promise<void>>();
  #probing = false;

  constructor(bus: Bus, options: PublisherOptions) {
    const { stream, window = 1_024, ackWithinMs = 2_000, clock = systemClock(), offset } = options;
    this.#bus = bus;
    this.#home = {
      stream,
      brokerClock: new BrokerClock(bus, { clock, ask: () => brokerTime(bus, stream), offset }),
      onNoResponders: () => this.#onNoResponders(),
      onDoubtful: (publish, published) => this.#lookUp(publish, published),
    };
    this.#requests = new Requests(bus, { window, answerWithinMs: ackWithinMs });
  }

  /**
   * Resolves when the stream has the message, taken while it was fresh. Rejects with a `PublishError`: `BUS_PAYLOAD_TOO_LARGE` (nothing
   * was sent), `BUS_REFUSED`, `BUS_PERMISSION`, `BUS_UNCONFIRMED`, `BUS_CLOSED`. Messages are first sent in
   * the order of the calls; a message that must be sent again can end up behind later ones.
   */
  publish(subject: Subject, data: Uint8Array, options: PublishOptions): Promise<Published> {
    return new Promise((resolve, reject) => {
      const { id, freshFromNs, freshUntilNs } = options;
      const headers = encodeHeaders(id, options.headers ?? {});
      const size = data.length + headers.bytes.length;
      if (size > this.#bus.maxPayload) {
        reject(tooLarge(subject, size, this.#bus.maxPayload));
        return;
      }
      const parts = { subject, data, headers, freshFromNs, freshUntilNs };
      this.#requests.send(new Publish(this.#home, parts, resolve, reject));
    });
  }

  /** Messages handed over and not settled. */
  get pending(): number {
    return this.#requests.pending + this.#looking.size;
  }

  /** Where the broker's clock stands: what `freshFromNs` and `freshUntilNs` are held against. */
  get brokerNow(): BrokerNow {
    return this.#home.brokerClock.now();
  }

  /** Returns the broker's clock minus ours, measured anew. Throws what the client throws. */
  measureClock(): Promise<ClockOffset> {
    return this.#home.brokerClock.measure();
  }

  /** Takes nothing more, waits at most `limitMs` for what is pending, and rejects the rest with `BUS_CLOSED`. */
  async close(limitMs = 5_000): Promise<void> {
    await this.#requests.close(limitMs);
    const limit = sleep(limitMs, undefined, { ref: false });
    if (this.#looking.size > 0) await Promise.race([Promise.all(this.#looking), limit]);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Asks the stream when it stored what it acknowledged. */
  #lookUp(publish: Publish, published: Published): void {
    const looked = this.#settleDoubtful(publish, published).finally(() => this.#looking.delete(looked));
    this.#looking.add(looked); // rejects nothing
  }

  async #settleDoubtful(publish: Publish, published: Published): Promise<void> {
    const bus = this.#bus;
    for (let triesLeft = lookTries; ; ) {
      const { session } = bus;
      try {
        const { seq } = published;
        const found = await readStored(bus, { stream: this.#home.stream, seq });
        const isThere = found !== undefined && isStoredAsSent(found, publish);
        publish.settleByTime(published, isThere ? found.timestampNs : undefined);
        return;
      } catch (thrown) {
        if (bus.isConnected && bus.session === session) triesLeft -= 1; // else the question went down with the connection
        const isClosed = bus.isClosed || bus.nats.isClosed();
        if (isClosed || triesLeft === 0) {
          const words = `the stream does not say when it stored it (${messageOf(thrown)})`;
          publish.giveUp({ why: isClosed ? 'closed' : 'expired', words, mayHaveArrived: true });
          return;
        }
        await bus.online();
      }
    }
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
