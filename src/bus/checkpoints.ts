/**
 * Checkpoints of logs in the stream CHECKPOINTS: kept by one agent, read by whoever verifies.
 *
 * They are no messages of the swarm: signed notes, each proving itself, without Swarm headers and on no log.
 */
import { jetstream } from '@nats-io/jetstream';
import { sha256Hex } from '../base/encoding.ts';
import type { Bus } from './connection.ts';
import { readMessages } from './stored.ts';
import { checkpointsStream, ensureStream } from './stream.ts';

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
  const missing = 'no agent has kept a checkpoint there yet';
  const { name: stream } = checkpointsStream;
  for await (const { subject, data } of readMessages(bus, { stream, missing })) {
    yield { subject, text: Buffer.from(data).toString('utf8') };
  }
}
