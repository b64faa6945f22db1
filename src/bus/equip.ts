/**
 * Gives a broker what a swarm needs, so that agents need not be permitted to: the streams, and the durables.
 */
import { messageOf, SwarmError } from '../base/errors.ts';
import type { Bus } from './connection.ts';
import { ensureConsumer } from './consumer.ts';
import { checkpointsStream, deadStream, ensureStream, threadsStream } from './stream.ts';

export interface Equipment {
  /** The stream of the agents' messages. */
  readonly stream: string;
  /** Copies of each stream in a cluster. @default 1 */
  readonly replicas?: number;
  /** The filters of each durable. @default none */
  readonly durables?: ReadonlyMap<string, readonly string[]>;
}

/**
 * Creates streams and durables that are not there, gives durables the filters that are wanted, and returns what else
 * exists otherwise, in words: that is left alone. Throws `BUS_STREAM`, `BUS_PERMISSION`, or what else keeps it from looking.
 */
export async function equip(bus: Bus, wanted: Equipment): Promise<readonly string[]> {
  const { stream, replicas = 1, durables = new Map<string, readonly string[]>() } = wanted;
  const differences: string[] = [];
  const attempt = async (work: Promise<unknown>): Promise<void> => {
    try {
      await work;
    } catch (thrown) {
      const isOtherwise =
        thrown instanceof SwarmError && ['BUS_STREAM_DIFFERS', 'BUS_CONSUMER'].includes(thrown.code);
      if (!isOtherwise) throw thrown;
      differences.push(messageOf(thrown));
    }
  };
  await attempt(ensureStream(bus, { ...threadsStream, name: stream, replicas }));
  await attempt(ensureStream(bus, { ...checkpointsStream, replicas }));
  await attempt(ensureStream(bus, { ...deadStream, replicas }));
  for (const [durable, filter] of durables) {
    await attempt(ensureConsumer(bus, { stream, durable, filter, refilter: true }));
  }
  return differences;
}
