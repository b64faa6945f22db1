/**
 * Sends a message once it is logged, until the stream has it or the broker has said no.
 *
 * The PUBLISH record is on disk before anything leaves. The same record is sent, under the same id, only while it
 * is fresh; after that the stream is asked whether it has it, and if not the message is said anew: a new record
 * whose cause is the old one (docs/format.md, section 5). What the broker refuses is logged as BUS.UNSENT.
 */
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

export class Outbox {
  readonly #parts: OutboxParts;

  constructor(parts: OutboxParts) {
    this.#parts = parts;
  }

  /** Logs `draft` and sends it. Throws what `LogWriter.append` and `Publisher.publish` throw. */
  async send(draft: Draft & { readonly subject: Subject; readonly payload: Uint8Array }): Promise<Published> {
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

  /** Returns where the stream keeps the record in time to count as fresh; a stale copy is as good as none. */
  async #whereStored({ header, leaf }: SignedRecord): Promise<number | undefined> {
    const { bus, stream, freshForNs } = this.#parts;
    const found = await findById(bus, {
      stream,
      subject: header.subject,
      id: leaf,
      sinceNs: header.tsNs - freshForNs,
    });
    return found !== undefined && found.timestampNs - header.tsNs <= freshForNs ? found.seq : undefined;
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
