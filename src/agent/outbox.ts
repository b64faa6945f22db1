/**
 * Sends a message once it is logged, until the stream has it or the broker has said no.
 *
 * The PUBLISH record is on disk before anything leaves. The same record is sent, under the same id, only while it
 * is fresh; after that the stream is asked whether it has it, and if not the message is said anew: a new record
 * whose cause is the old one (docs/format.md, section 5). What the broker refuses is logged as BUS.UNSENT.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../base/errors.ts';
import type { Subject } from '../base/subject.ts';
import type { Bus } from '../bus/connection.ts';
import { findById } from '../bus/find.ts';
import type { Publisher } from '../bus/publisher.ts';
import { PublishError } from '../bus/refusal.ts';
import type { LogWriter } from '../log/writer.ts';
import type { Draft } from '../record/draft.ts';
import type { SignedRecord } from '../record/signed.ts';
import { printEnvelope } from './envelope.ts';

/** The meta member that names the first record of a row of them that say the same message again. */
export const firstSaidAs = 'first-said-as';

/** How often a connected broker is asked for a message before it is given up, and the pause in between. */
const searchTries = 3;
const searchPauseMs = 500;

const unknown = { reason: 'unconfirmed', mayBeStored: true };

export interface Published {
  /** Where the stream keeps the message. */
  readonly seq: number;
  /** The record that the stream has: the last one, where the message had to be said anew. */
  readonly record: SignedRecord;
}

export interface OutboxParts {
  readonly bus: Bus;
  readonly publisher: Publisher;
  readonly log: LogWriter;
  readonly stream: string;
  /** For how long after its time a record counts as fresh: half the duplicate window. */
  readonly freshForNs: bigint;
}

type MessageDraft = Draft & { readonly subject: Subject; readonly payload: Uint8Array };

export class Outbox {
  readonly #parts: OutboxParts;
  readonly #sending = new Set<Promise<Published>>();

  constructor(parts: OutboxParts) {
    this.#parts = parts;
  }

  /** Logs `draft` and sends it. Throws what `LogWriter.append` and `Publisher.publish` throw. */
  send(draft: MessageDraft): Promise<Published> {
    const sent = this.#send(draft);
    const settled = (): void => void this.#sending.delete(sent);
    this.#sending.add(sent);
    sent.then(settled, settled);
    return sent;
  }

  /** Waits at most `limitMs` for what is being logged and sent, and rejects the rest with `BUS_CLOSED`. */
  async close(limitMs = 5_000): Promise<void> {
    const limit = sleep(limitMs, undefined, { ref: false });
    await Promise.race([Promise.allSettled(this.#sending), limit]);
    await this.#parts.publisher.close(0);
  }

  async #send(draft: MessageDraft): Promise<Published> {
    const { log, publisher, freshForNs } = this.#parts;
    const first = await log.append(draft);
    for (let record = first; ; ) {
      let failure: PublishError;
      try {
        const { seq } = await publisher.publish(draft.subject, draft.payload, {
          id: record.leaf,
          headers: printEnvelope(record),
          freshUntilNs: record.header.tsNs + freshForNs,
        });
        return { seq, record };
      } catch (error) {
        // Closed in between: unknown whether the stream has it, and for now there is nobody to ask.
        if (!(error instanceof PublishError) || error.code === 'BUS_CLOSED') throw error;
        failure = error;
      }
      // Nothing is asked or said anew while the broker is away: it would only be stale again.
      if (failure.code === 'BUS_UNCONFIRMED') await backOnline(this.#parts.bus);
      const seq = failure.mayBeStored ? await this.#whereStored(record) : undefined;
      if (seq !== undefined) return { seq, record };
      if (failure.code !== 'BUS_UNCONFIRMED') {
        await this.#logUnsent(record, failure.reason);
        throw failure;
      }
      record = await log.append({
        ...draft,
        cause: record.leaf,
        meta: { ...draft.meta, [firstSaidAs]: first.leaf },
      });
    }
  }

  /**
   * Returns where the stream keeps the record, stored in time to count as fresh: a stale copy is as good as none.
   */
  async #whereStored({ header, leaf }: SignedRecord): Promise<number | undefined> {
    const { bus, stream, freshForNs } = this.#parts;
    const asked = { stream, subject: header.subject, id: leaf, sinceNs: header.tsNs - freshForNs };
    for (let triesLeft = searchTries; ; ) {
      try {
        const found = await findById(bus, asked);
        return found !== undefined && found.timestampNs - header.tsNs <= freshForNs ? found.seq : undefined;
      } catch (error) {
        if (bus.isConnected) triesLeft -= 1;
        if (bus.isClosed || triesLeft === 0) {
          const message = `it cannot be found out whether the stream has ${header.subject}: ${messageOf(error)}`;
          throw new PublishError('BUS_UNCONFIRMED', message, unknown, { cause: error });
        }
        await sleep(searchPauseMs);
        await backOnline(bus);
      }
    }
  }

  async #logUnsent({ header, leaf }: SignedRecord, reason: string): Promise<void> {
    await this.#parts.log.append({
      subject: header.subject,
      kind: 'BUS.UNSENT',
      payloadHash: header.payloadHash,
      cause: leaf,
      reason,
    });
  }
}

/** Resolves once `bus` is connected, or closed for good. */
function backOnline(bus: Bus): Promise<void> {
  return new Promise((resolve) => {
    if (bus.isConnected || bus.isClosed) return resolve();
    const done = (): void => {
      stop();
      resolve();
    };
    const stop = bus.listen({ reconnected: done, closed: done });
  });
}
