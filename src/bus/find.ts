/**
 * Does the stream hold the message with this id, and since when?
 *
 * Asked when a publish was not confirmed in time. The stream is read from a given time on, headers only (`stored.ts`). Only
 * a message whose id the broker itself read counts: a copy under a doctored id is not it.
 */
import type { Bus } from './connection.ts';
import type { StoredPlace } from './read-message.ts';
import { readMessages } from './stored.ts';

export interface FindOptions {
  readonly stream: string;
  readonly subject: string;
  readonly id: string;
  /** By the broker's clock: nothing older is looked at. */
  readonly sinceNs: bigint;
  /** @default 10000 */
  readonly withinMs?: number;
}

/**
 * Returns where the stream holds the message, or `undefined` if it does not.
 * Throws `BUS_STREAM` if the stream could not be read to its end in time.
 */
export async function findById(bus: Bus, options: FindOptions): Promise<StoredPlace | undefined> {
  const { stream, subject, id, sinceNs, withinMs = 10_000 } = options;
  const asked = { stream, subjects: [subject], sinceNs, headersOnly: true, withinMs };
  for await (const { seq, timestampNs, headers } of readMessages(bus, asked)) {
    if (headers.messageId === id) return { seq, timestampNs };
  }
  return undefined;
}
