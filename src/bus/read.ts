/**
 * What a stream holds now, from its oldest message to its newest, for whoever looks at it once.
 *
 * Read by a consumer that keeps no state and is gone afterwards: nothing is acknowledged, nothing changes.
 */
import { DeliverPolicy, jetstream } from '@nats-io/jetstream';
import type { Msg } from '@nats-io/transport-node';
import { messageOf, SwarmError } from '../base/errors.ts';
import type { Bus } from './connection.ts';
import { headerBlock, ReceivedHeaders } from './headers.ts';
import { isStreamMissing } from './stream.ts';
import { printTime } from './time.ts';

export interface ReadOptions {
  readonly stream: string;
  /** Only messages on these subjects; they must not overlap. @default all */
  readonly subjects?: readonly string[];
  /** By the broker's clock: nothing older is read. @default the oldest */
  readonly sinceNs?: bigint;
  /** What it means that there is no such stream, for people. @default there is no such stream */
  readonly nobody?: string;
}

/** A message where the broker keeps it. */
export interface StoredMessage {
  readonly subject: string;
  readonly data: Uint8Array;
  readonly headers: ReceivedHeaders;
  readonly seq: number;
  /** When the broker stored it. */
  readonly timestampNs: bigint;
}

const askedFor = 512;
const answerWithinMs = 5_000;

/** Yields what the stream holds now, oldest first. Throws `BUS_STREAM` where it is not there, or cannot be read to its end. */
export async function* readAll(
  bus: Bus,
  { stream, subjects, sinceNs, nobody = 'there is no such stream' }: ReadOptions,
): AsyncGenerator<StoredMessage> {
  try {
    const consumer = await jetstream(bus.nats).consumers.get(stream, {
      ...(subjects !== undefined && { filter_subjects: [...subjects] }),
      ...(sinceNs === undefined
        ? { deliver_policy: DeliverPolicy.All }
        : { deliver_policy: DeliverPolicy.StartTime, opt_start_time: printTime(sinceNs) }),
    });
    for (let left = (await consumer.info()).num_pending; left > 0; ) {
      const before = left;
      const batch = await consumer.fetch({ max_messages: Math.min(askedFor, left), expires: answerWithinMs });
      for await (const message of batch) {
        left -= 1;
        const { subject, data, seq, timestampNanos: timestampNs } = message;
        const { msg } = message as unknown as { readonly msg: Msg };
        yield { subject, data, seq, timestampNs, headers: new ReceivedHeaders(headerBlock(msg)) };
      }
      if (left === before) throw new Error(`nothing came of the last ${left} messages`);
    }
  } catch (cause) {
    const what = isStreamMissing(cause) ? nobody : messageOf(cause);
    throw new SwarmError('BUS_STREAM', `cannot read the stream ${stream} at ${bus.address}: ${what}`, {
      cause,
    });
  }
}
