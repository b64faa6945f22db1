/**
 * What this agent has said and the stream does not have, sent again: at joining for its earlier sessions, and when somebody
 * holds the log against the stream.
 *
 * One process of an agent is at it at a time: of two at once each would say anew what is stale. Durables that the broker's
 * loss left past the stream's end are mended first, else they would not hand out what is sent.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '../base/clock.ts';
import { messageOf, SwarmError } from '../base/errors.ts';
import { messagesResent } from '../base/events.ts';
import type { Bus } from '../bus/connection.ts';
import { mendConsumers } from '../bus/consumer.ts';
import type { Publisher } from '../bus/publisher.ts';
import type { SigningKey } from '../identity/key.ts';
import { claim } from '../log/alive.ts';
import type { LogWriter } from '../log/writer.ts';
import type { SignedRecord } from '../record/signed.ts';
import type { Outbox } from './outbox.ts';
import { missingRecords, type Reconciliation } from './reconcile.ts';
import { resend, type Sent } from './resend.ts';
import { findUnsaid, recordsOf } from './unsaid.ts';

const claimPauseMs = 200;

export interface Resent extends Sent {
  /** Durables that were created anew, since they were past the stream's end. */
  readonly mended: readonly string[];
}

interface Sending {
  /** Called with how many messages were sent again. */
  readonly onProgress?: ((resent: number) => void) | undefined;
  /** Aborted, nothing more is begun. */
  readonly signal?: AbortSignal | undefined;
}

export interface ResendingParts {
  readonly key: SigningKey;
  readonly swarm: string | undefined;
  readonly bus: Bus;
  readonly log: LogWriter;
  readonly clock: Clock;
  readonly publisher: Publisher;
  readonly outbox: Outbox;
  readonly stream: string;
  readonly freshForNs: bigint;
  /** Throws where we may not publish on `subject`. */
  readonly requirePermission: (subject: string) => void;
  /** Throws `BUS_CLOSED` once the swarm was left. */
  readonly requireOpen: () => void;
}

export class Resending {
  readonly #parts: ResendingParts;
  readonly #task: string;

  constructor(parts: ResendingParts) {
    this.#parts = parts;
    this.#task = `resend ${parts.key.publicKey}`;
  }

  /** Sends what earlier sessions left unconfirmed, unless another process of ours is at it. Throws what `findUnsaid` throws. */
  async sendUnsaid(): Promise<void> {
    const { bus, key, swarm, stream, freshForNs, log } = this.#parts;
    const claimed = claim(log.path, this.#task);
    if (claimed === undefined) return;
    try {
      const unsaid = await findUnsaid(bus, { log: log.path, key: key.publicKey, swarm, stream, freshForNs });
      if (unsaid.size === 0) return;
      await this.#mend();
      const { resent, failures } = await this.#send(recordsOf(log.path, unsaid));
      messagesResent.publish({ log: log.path, resent, failures });
    } finally {
      claimed.close();
    }
  }

  /**
   * Sends what `look` finds missing, and returns what it found with what came of it. Waits for another process of ours that
   * is at it. Throws `BUS_CLOSED`, what `look` throws, and the reason of an aborted `signal` once what is on its way is sent.
   */
  async sendMissing(
    look: () => Promise<Reconciliation>,
    { onProgress, signal }: Sending,
  ): Promise<Reconciliation & { readonly resent: Resent }> {
    const claimed = await this.#claim(signal);
    try {
      const mended = await this.#mend();
      const found = await look();
      const sent = await this.#send(missingRecords(found), { onProgress, signal });
      signal?.throwIfAborted();
      if (this.#parts.outbox.closing.aborted) this.#parts.requireOpen(); // it was left in the middle
      return { ...found, resent: { mended, ...sent } };
    } finally {
      claimed.close();
    }
  }

  /** Resolves once no process of ours is at it. Throws `BUS_CLOSED`. */
  async idle(): Promise<void> {
    (await this.#claim()).close();
  }

  async #claim(signal?: AbortSignal): Promise<{ close(): void }> {
    for (;;) {
      signal?.throwIfAborted();
      this.#parts.requireOpen();
      const claimed = claim(this.#parts.log.path, this.#task);
      if (claimed !== undefined) return claimed;
      await sleep(claimPauseMs);
    }
  }

  async #mend(): Promise<readonly string[]> {
    const { bus, stream } = this.#parts;
    return await mendConsumers(bus, stream).catch((error: unknown) => {
      bus.warn(messageOf(error)); // what is missing can be sent nonetheless
      return [];
    });
  }

  async #send(
    records: AsyncIterable<SignedRecord> | Iterable<SignedRecord>,
    { onProgress, signal }: Sending = {},
  ): Promise<Sent> {
    const { key, swarm, publisher, clock, outbox, freshForNs, requirePermission } = this.#parts;
    const { offsetNs } = await publisher.measureClock();
    return await resend(records, {
      outbox,
      freshForNs,
      now: () => clock() + offsetNs,
      isOurs: ({ header }) => header.signer === key.publicKey,
      check: ({ header }) => {
        requirePermission(header.subject);
        if (header.swarm === swarm) return;
        throw new SwarmError('USAGE', `it was said in swarm ${header.swarm ?? '(none)'}`);
      },
      signal: signal === undefined ? outbox.closing : AbortSignal.any([outbox.closing, signal]),
      onProgress,
    });
  }
}
