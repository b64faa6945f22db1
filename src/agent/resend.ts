/**
 * Sends again what the log has said and the stream does not have: in the order of the log, and each in its turn.
 *
 * A consumer that the broker's loss left past the stream's end would not hand them out, so such are mended first.
 */
import { messageOf } from '../base/errors.ts';
import type { Bus } from '../bus/connection.ts';
import { mendConsumers } from '../bus/consumer.ts';
import type { SignedRecord } from '../record/signed.ts';
import type { Outbox } from './outbox.ts';

export interface Resent {
  /** Messages that the stream has now. */
  readonly resent: number;
  /** Of others' messages: only who signed them can say them again. */
  readonly others: number;
  /** Why messages were not sent, a sentence each. */
  readonly failures: readonly string[];
  /** Consumers that were created anew at the stream's end. */
  readonly mended: readonly string[];
}

export interface ResendParts {
  readonly bus: Bus;
  readonly stream: string;
  readonly outbox: Outbox;
  /** Throws where a record must not be sent. */
  readonly check: (record: SignedRecord) => void;
  readonly isOurs: (record: SignedRecord) => boolean;
  /** The broker's time. */
  readonly now: () => bigint;
  readonly freshForNs: bigint;
  /** Called after each. */
  readonly onProgress?: ((resent: number) => void) | undefined;
}

/** Messages on their way at once. */
const window = 256;
const failuresAtMost = 100;

/** Sends `records`. What fails is told, not thrown; throws what reading them throws. */
export async function resend(
  records: AsyncIterable<SignedRecord> | Iterable<SignedRecord>,
  parts: ResendParts,
): Promise<Resent> {
  const { bus, stream, outbox, check, isOurs, now, freshForNs, onProgress } = parts;
  let resent = 0;
  let others = 0;
  let mended: readonly string[] | undefined;
  const failures: string[] = [];
  const sending = new Set<Promise<void>>();
  let areAnew = false;
  for await (const record of records) {
    if (!isOurs(record)) {
      others += 1;
      continue;
    }
    mended ??= await mendConsumers(bus, stream).catch((error: unknown) => {
      bus.warn(messageOf(error));
      return [];
    });
    if (sending.size >= window) await Promise.race(sending);
    const age = now() - record.header.tsNs;
    const anew = age >= freshForNs || age <= -freshForNs;
    // Said anew it is logged before it is sent: what goes as it is, after it, must not be faster.
    if (areAnew && !anew) await Promise.all(sending);
    areAnew = anew;
    const sent = sendOne(record, anew).catch((error: unknown) => {
      if (failures.length < failuresAtMost) failures.push(`${record.header.subject}: ${messageOf(error)}`);
    });
    const settled = sent.then(() => void sending.delete(settled));
    sending.add(settled);
  }
  await Promise.all(sending);
  return { resent, others, failures, mended: mended ?? [] };

  async function sendOne(record: SignedRecord, anew: boolean): Promise<void> {
    check(record);
    const { payload } = record;
    if (payload === undefined) throw new Error('its payload is not in the log');
    await outbox.sendAgain({ ...record, payload }, { anew });
    resent += 1;
    onProgress?.(resent);
  }
}
