/**
 * Does the stream hold the message that was sent, and since when?
 *
 * Asked when a publish was not confirmed in time. The stream is read from a given time on, headers only (`stored.ts`), and
 * what has the id is then read whole: only the message itself counts, under the id that the broker itself read.
 */
import type { Bus } from './connection.ts';
import { ReceivedHeaders } from './headers.ts';
import { isStoredAsSent, readStored, type SentMessage, type StoredPlace } from './read-message.ts';
import { readMessages } from './stored.ts';

export interface FindOptions {
  readonly stream: string;
  readonly message: SentMessage;
  /** By the broker's clock: nothing older is looked at. */
  readonly sinceNs: bigint;
  /** @default 10000 */
  readonly withinMs?: number;
}

/**
 * Returns where the stream holds the message, or `undefined` if it does not.
 * Throws `BUS_STREAM` if the stream could not be read to its end in time.
 */
export async function findSent(bus: Bus, options: FindOptions): Promise<StoredPlace | undefined> {
  const { stream, message, sinceNs, withinMs = 10_000 } = options;
  const { messageId } = new ReceivedHeaders(message.headers.bytes);
  const asked = { stream, subjects: [message.subject], sinceNs, headersOnly: true, withinMs };
  for await (const { seq, timestampNs, headers } of readMessages(bus, asked)) {
    if (headers.messageId !== messageId) continue;
    const stored = await readStored(bus, { stream, seq });
    if (stored !== undefined && isStoredAsSent(stored, message)) return { seq, timestampNs };
  }
  return undefined;
}
