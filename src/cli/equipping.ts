/**
 * Streams and durables on servers that have just been started.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type ErrorCode, SwarmError } from '../base/errors.ts';
import { type BusOptions, connectBus } from '../bus/connection.ts';
import { type Equipment, equip } from '../bus/equip.ts';
import type { NatsCluster } from '../server/nats-cluster.ts';

const leadersWithinMs = 60_000;
const pauseMs = 500;

/** With what a cluster answers that has no leader yet, for itself or for a stream. */
const isEarly: ReadonlySet<ErrorCode> = new Set(['BUS_NO_JETSTREAM', 'BUS_STREAM', 'BUS_CONSUMER']);

/**
 * Creates what is missing, a copy of each stream on every server, and returns what `equip` returns. A cluster is waited
 * for until it has leaders, at most a minute. Throws what `connectBus` and `equip` throw.
 */
export async function equipServers(
  cluster: NatsCluster,
  options: BusOptions,
  wanted: Omit<Equipment, 'replicas'>,
): Promise<readonly string[]> {
  const deadline = performance.now() + leadersWithinMs;
  for (;;) {
    try {
      return await equipOnce(cluster, options, wanted);
    } catch (thrown) {
      const mayPass = thrown instanceof SwarmError && isEarly.has(thrown.code) && cluster.servers.length > 1;
      if (!mayPass || performance.now() > deadline) throw thrown;
      await sleep(pauseMs);
    }
  }
}

async function equipOnce(
  { url, servers }: NatsCluster,
  options: BusOptions,
  wanted: Omit<Equipment, 'replicas'>,
): Promise<readonly string[]> {
  await using bus = await connectBus({ ...options, url });
  return await equip(bus, { ...wanted, replicas: servers.length });
}
