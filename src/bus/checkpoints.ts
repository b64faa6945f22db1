/**
 * Checkpoints of logs in the stream CHECKPOINTS: kept by one agent, read by whoever verifies.
 *
 * They are no messages of the swarm: signed notes, each proving itself, without Swarm headers and on no log.
 */
import { type Consumer, DeliverPolicy, jetstream } from '@nats-io/jetstream';
import { sha256Hex } from '../base/encoding.ts';
import { messageOf, SwarmError } from '../base/errors.ts';
import type { Bus } from './connection.ts';
import { readNext } from './read-message.ts';
import { isPermissionRefused } from './requirements.ts';
import { checkpointsStream, ensureStream, isStreamMissing } from './stream.ts';

const askedFor = 512;
const answerWithinMs = 5_000;

/** Resolves once the stream has the checkpoint `text` of the agent `name`. Throws what the client throws. */
export async function sendCheckpoint(bus: Bus, name: string, text: string): Promise<void> {
  await jetstream(bus.nats, { timeout: answerWithinMs }).publish(`checkpoint.${name}`, text, {
    msgID: sha256Hex(text),
  });
}

/** Creates the stream, of `replicas` copies, unless it is there; throws what `ensureStream` throws. */
export async function ensureCheckpoints(bus: Bus, replicas: number): Promise<void> {
  await ensureStream(bus, { ...checkpointsStream, replicas });
}

/**
 * Yields every checkpoint that the stream holds now, oldest first, with the subject it was sent on. Throws `BUS_STREAM`
 * where there is no such stream, or it cannot be read to its end.
 */
export async function* readCheckpoints(bus: Bus): AsyncGenerator<{ subject: string; text: string }> {
  const { name } = checkpointsStream;
  try {
    const { state } = await bus.manager.streams.info(name);
    if (state.messages === 0) return;
    const consumer = await readerOf(bus, name);
    if (consumer === undefined) return yield* readOneByOne(bus, name, state.last_seq);
    for (let last = 0; last < state.last_seq; ) {
      const before = last;
      for await (const message of await consumer.fetch({ max_messages: askedFor, expires: answerWithinMs })) {
        last = message.seq;
        yield { subject: message.subject, text: message.string() };
        if (last >= state.last_seq) return;
      }
      if (last === before) throw new Error(`nothing came after message ${last} of ${state.last_seq}`);
    }
  } catch (cause) {
    const what = isStreamMissing(cause) ? 'no agent has kept a checkpoint there yet' : messageOf(cause);
    throw new SwarmError('BUS_STREAM', `cannot read the stream ${name} at ${bus.address}: ${what}`, {
      cause,
    });
  }
}

/** Returns a consumer of the whole stream; `undefined` where we may not create one. */
async function readerOf(bus: Bus, name: string): Promise<Consumer | undefined> {
  try {
    return await jetstream(bus.nats).consumers.get(name, { deliver_policy: DeliverPolicy.All });
  } catch (thrown) {
    if (isPermissionRefused(thrown)) return undefined;
    throw thrown;
  }
}

async function* readOneByOne(
  bus: Bus,
  stream: string,
  last: number,
): AsyncGenerator<{ subject: string; text: string }> {
  for (let seq = 1; seq <= last; ) {
    const message = await readNext(bus, { stream, subject: '>', seq });
    if (message === undefined) return;
    yield { subject: message.subject, text: message.data.toString('utf8') };
    seq = message.seq + 1;
  }
}
