/**
 * All that a stream holds now, in its order, without a word to the broker about what became of it.
 */
import { DeliverPolicy, type JsMsg, jetstream } from '@nats-io/jetstream';
import type { Msg } from '@nats-io/transport-node';
import { messageOf, SwarmError } from '../base/errors.ts';
import type { Bus } from './connection.ts';
import { headerBlock, ReceivedHeaders } from './headers.ts';
import { isStreamMissing } from './stream.ts';

export interface StoredMessage {
  readonly seq: number;
  readonly subject: string;
  readonly headers: ReceivedHeaders;
  /** A view into a larger buffer: copy what is kept for long. */
  readonly data: Uint8Array;
}

const askedFor = 512;
const quietMs = 5_000;

/**
 * Yields what the stream held when it was asked, oldest first. Throws `BUS_STREAM` where there is no such stream
 * (`missing` says what that means), or it cannot be read to its end.
 */
export async function* readStream(
  bus: Bus,
  name: string,
  missing = 'there is none',
): AsyncGenerator<StoredMessage> {
  try {
    const { state } = await bus.manager.streams.info(name);
    if (state.messages === 0) return;
    const consumer = await jetstream(bus.nats).consumers.get(name, { deliver_policy: DeliverPolicy.All });
    for (let last = 0; last < state.last_seq; ) {
      const before = last;
      for await (const message of await consumer.fetch({ max_messages: askedFor, expires: quietMs })) {
        last = message.seq;
        yield { seq: last, subject: message.subject, headers: headersOf(message), data: message.data };
        if (last >= state.last_seq) return;
      }
      if (last === before) throw new Error(`nothing came after message ${last} of ${state.last_seq}`);
    }
  } catch (cause) {
    const what = isStreamMissing(cause) ? missing : messageOf(cause);
    throw new SwarmError('BUS_STREAM', `cannot read the stream ${name} at ${bus.address}: ${what}`, {
      cause,
    });
  }
}

/** The client keeps the message as it came beneath its own. */
function headersOf(message: JsMsg): ReceivedHeaders {
  return new ReceivedHeaders(headerBlock((message as unknown as { readonly msg: Msg }).msg));
}
