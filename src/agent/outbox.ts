/**
 * Sends a message once it is logged, until the stream has it or the broker has said no.
 *
 * The PUBLISH record is on disk before anything leaves. The same record is sent, under the same id, only while it
 * is fresh; after that the stream is asked whether it has it, and if not the message is said anew: a new record
 * whose cause is the old one (docs/format.md, section 5). A message is in the stream if receivers take it: a copy
 * that the broker stored when it was stale is as good as none. What the broker refuses, and what certainly never
 * reached it, is logged as BUS.UNSENT.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../base/errors.ts';
import type { Subject } from '../base/subject.ts';
import { requireClock } from '../bus/clock.ts';
import type { Bus } from '../bus/connection.ts';
import { findSent } from '../bus/find.ts';
import { encodeHeaders } from '../bus/headers.ts';
import type { Publisher } from '../bus/publisher.ts';
import { PublishError } from '../bus/refusal.ts';
import { firstSaidAs } from '../handler/received.ts';
import type { LogWriter } from '../log/writer.ts';
import type { Draft } from '../record/draft.ts';
import type { SignedRecord } from '../record/signed.ts';
import { printEnvelope } from './envelope.ts';

/** How often a connected broker is asked for a message before it is given up, and the pause in between. */
const searchTries = 3;
const searchPauseMs = 500;

/** How long `close` waits for what has been given up to be logged. */
const lastWordsWithinMs = 1_000;

const unknown = { reason: 'unconfirmed', mayBeStored: true };

export interface Published {
  /** Where the stream keeps the message. */
  readonly seq: number;
  /** The record that the stream has: the last one, where the message had to be said anew. */
  readonly record: SignedRecord;
}

export interface OutboxParts {
  readonly bus: Bus;
  readonly publisher: Pick<Publisher, 'publish' | 'measureClock' | 'close'>;
  readonly log: LogWriter;
  readonly stream: string;
  /** For how long after its time a record counts as fresh: half the duplicate window. */
  readonly freshForNs: bigint;
}

type MessageDraft = Draft & { readonly subject: Subject; readonly payload: Uint8Array };

export class Outbox {
  readonly #parts: OutboxParts;
  readonly #sending = new Set<Promise<unknown>>();
  readonly #closing = new AbortController();

  constructor(parts: OutboxParts) {
    this.#parts = parts;
  }

  /** Aborted once `close` waits no longer: nothing more should be sent. */
  get closing(): AbortSignal {
    return this.#closing.signal;
  }

  /** Logs `draft` and sends it. Throws what `LogWriter.append` and `Publisher.publish` throw. */
  send(draft: MessageDraft): Promise<Published> {
    const sent = this.#parts.log.append(draft).then((record) => this.#send(draft, record));
    this.waitFor(sent);
    return sent;
  }

  /**
   * Sends what an earlier session logged and the stream has not: the same record, under the same id, or a new one that
   * says it anew. The record must be of our key, with its payload. Throws what `send` throws; the message is still owed
   * then, as the broker may have acknowledged it before it lost it, and no BUS.UNSENT says otherwise.
   */
  sendAgain(
    record: SignedRecord & { readonly payload: Buffer },
    { anew }: { readonly anew: boolean },
  ): Promise<Published> {
    const { subject, cause, refs, trace, meta } = record.header;
    const { payload } = record;
    const draft = { subject: subject as Subject, kind: 'BUS.PUBLISH', payload, cause, refs, trace, meta };
    const logged = anew ? this.#sayAnew(draft, record) : Promise.resolve(record);
    const sent = logged.then((last) => this.#send(draft, last, { isOwed: true }));
    this.waitFor(sent);
    return sent;
  }

  /** Lets `close` wait for `work` too. */
  waitFor(work: Promise<unknown>): void {
    const settled = (): void => void this.#sending.delete(work);
    this.#sending.add(work);
    work.then(settled, settled);
  }

  /** Waits at most `limitMs` for what is being logged and sent, and rejects the rest with `BUS_CLOSED`. */
  async close(limitMs = 5_000): Promise<void> {
    await this.#settled(limitMs);
    this.#closing.abort();
    await this.#parts.publisher.close(0);
    await this.#settled(lastWordsWithinMs);
  }

  async #settled(withinMs: number): Promise<void> {
    const limit = sleep(withinMs, undefined, { ref: false });
    await Promise.race([Promise.allSettled(this.#sending), limit]);
  }

  async #send(draft: MessageDraft, logged: SignedRecord, { isOwed = false } = {}): Promise<Published> {
    for (let record = logged; ; ) {
      const outcome = await this.#attempt(record, draft);
      if (!(outcome instanceof PublishError)) return outcome;
      if (outcome.code !== 'BUS_UNCONFIRMED') {
        // Closed in between: it may be that the stream has it, and for now there is nobody to ask.
        const isOpen = isOwed || (outcome.code === 'BUS_CLOSED' && outcome.mayBeStored);
        if (!isOpen) await this.#logUnsent(record, draft.payload, outcome.reason);
        throw outcome;
      }
      try {
        await this.#requireClock();
      } catch (error) {
        if (!isOwed) await this.#logUnsent(record, draft.payload, 'clock'); // a copy that is there is stale
        throw error;
      }
      record = await this.#sayAnew(draft, record);
    }
  }

  /** Logs what `record` says once more. */
  #sayAnew(draft: MessageDraft, { leaf, header }: SignedRecord): Promise<SignedRecord> {
    const first = header.meta?.[firstSaidAs] ?? leaf;
    return this.#parts.log.append({
      ...draft,
      cause: leaf,
      meta: { ...draft.meta, [firstSaidAs]: first },
    });
  }

  /**
   * Returns where the stream keeps the record, or why it certainly has none that counts: `BUS_UNCONFIRMED` if it may be
   * said anew. One of `BUS_CLOSED` may be there, if it says so. Throws `BUS_UNCONFIRMED` where that cannot be found out.
   */
  async #attempt(
    record: SignedRecord,
    { subject, payload }: MessageDraft,
  ): Promise<Published | PublishError> {
    const { bus, publisher, freshForNs } = this.#parts;
    const { tsNs } = record.header;
    try {
      const { seq } = await publisher.publish(subject, payload, {
        id: record.leaf,
        headers: printEnvelope(record),
        freshFromNs: tsNs - freshForNs,
        freshUntilNs: tsNs + freshForNs,
      });
      return { seq, record };
    } catch (error) {
      if (!(error instanceof PublishError)) throw error;
      if (error.code === 'BUS_CLOSED') return error;
      // Nothing is asked or said anew while the broker is away: it would only be stale again.
      if (error.code === 'BUS_UNCONFIRMED') await bus.online(this.#closing.signal);
      const isLeft = (): boolean => bus.isClosed || this.#closing.signal.aborted;
      const left = (mayBeStored: boolean): PublishError =>
        new PublishError(
          'BUS_CLOSED',
          `${subject} was not acknowledged: the swarm was left before that`,
          { reason: 'closed', mayBeStored },
          { cause: error },
        );
      if (isLeft() && !bus.isConnected) return left(error.mayBeStored);
      const seq = error.mayBeStored ? await this.#whereStored(record, payload) : undefined;
      if (seq !== undefined) return { seq, record };
      return error.code === 'BUS_UNCONFIRMED' && isLeft() ? left(false) : error;
    }
  }

  /** Throws `BUS_CLOCK` where what is said anew would be stale too, because our clock is wrong. */
  async #requireClock(): Promise<void> {
    const { bus, publisher, freshForNs } = this.#parts;
    const clock = await publisher.measureClock().catch(() => undefined); // away again: so it will wait, and expire
    if (clock !== undefined) requireClock(bus, { clock, duplicateWindowNs: 2n * freshForNs });
  }

  /**
   * Returns where the stream keeps the record, stored in time to count as fresh: a stale copy is as good as none.
   */
  async #whereStored(record: SignedRecord, data: Uint8Array): Promise<number | undefined> {
    const { header, leaf } = record;
    const { bus, stream, freshForNs } = this.#parts;
    const headers = encodeHeaders(leaf, printEnvelope(record));
    const message = { subject: header.subject, headers, data };
    const asked = { stream, message, sinceNs: header.tsNs - freshForNs };
    for (let triesLeft = searchTries; ; ) {
      try {
        const found = await findSent(bus, asked);
        if (found === undefined) return undefined;
        const age = found.timestampNs - header.tsNs;
        return age <= freshForNs && age >= -freshForNs ? found.seq : undefined;
      } catch (error) {
        if (bus.isConnected) triesLeft -= 1;
        if (bus.isClosed || this.#closing.signal.aborted || triesLeft === 0) {
          const message = `it cannot be found out whether the stream has ${header.subject}: ${messageOf(error)}`;
          throw new PublishError('BUS_UNCONFIRMED', message, unknown, { cause: error });
        }
        await sleep(searchPauseMs);
        await bus.online(this.#closing.signal);
      }
    }
  }

  async #logUnsent({ header, leaf }: SignedRecord, payload: Uint8Array, reason: string): Promise<void> {
    const first = header.meta?.[firstSaidAs];
    await this.#parts.log.append({
      subject: header.subject,
      kind: 'BUS.UNSENT',
      payload,
      cause: leaf,
      reason,
      ...(first !== undefined && { meta: { [firstSaidAs]: first } }),
    });
  }
}
