/**
 * Sends again what the log has said and the stream does not have: in the order of the log, and each in its turn.
 */
import { messageOf } from '../base/errors.ts';
import type { SignedRecord } from '../record/signed.ts';
import type { Outbox } from './outbox.ts';

/** What came of it. */
export interface Sent {
  /** Messages that the stream has now. */
  readonly resent: number;
  /** Of others' messages: only who signed them can say them again. */
  readonly others: number;
  /** Why messages were not sent, a sentence each. */
  readonly failures: readonly string[];
}

export interface ResendParts {
  readonly outbox: Outbox;
  /** Throws where a record must not be sent. */
  readonly check: (record: SignedRecord) => void;
  readonly isOurs: (record: SignedRecord) => boolean;
  /** The broker's time. */
  readonly now: () => bigint;
  readonly freshForNs: bigint;
  /** Aborted, the rest is not sent. */
  readonly signal: AbortSignal;
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
): Promise<Sent> {
  const { outbox, check, isOurs, now, freshForNs, signal, onProgress } = parts;
  let resent = 0;
  let others = 0;
  const failures: string[] = [];
  const sending = new Set<Promise<void>>();
  let areAnew = false;
  try {
    for await (const record of records) {
      if (!isOurs(record)) {
        others += 1;
        continue;
      }
      if (sending.size >= window) await Promise.race(sending);
      if (signal.aborted) break;
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
  } finally {
    await Promise.all(sending);
  }
  return { resent, others, failures };

  async function sendOne(record: SignedRecord, anew: boolean): Promise<void> {
    check(record);
    const { payload } = record;
    if (payload === undefined) throw new Error('its payload is not in the log');
    await outbox.sendAgain({ ...record, payload }, { anew });
    resent += 1;
    onProgress?.(resent);
  }
}
