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

/**
 * Two servers of a new cluster that are quicker than the third found one of two, and leave it out until it is started
 * again (seen with 2.10.27, one start in five on a busy machine).
 */
const restartAfterMs = 10_000;

/** With what a cluster answers that has no leader yet, for itself or for a stream. */
const isEarly: ReadonlySet<ErrorCode> = new Set(['BUS_NO_JETSTREAM', 'BUS_STREAM', 'BUS_CONSUMER']);

export interface Waiting {
  /** Waits no longer once this is aborted. */
  readonly until: AbortSignal;
  /** Whether nobody uses the servers yet. */
  readonly mayRestart: boolean;
}

/**
 * Creates what is missing, a copy of each stream on every server, and returns what `equip` returns. A cluster is waited
 * for until it has leaders, at most a minute. Throws what `connectBus` and `equip` throw, and the signal's reason.
 */
export async function equipServers(
  cluster: NatsCluster,
  options: BusOptions,
  wanted: Omit<Equipment, 'replicas'>,
  { until, mayRestart }: Waiting,
): Promise<readonly string[]> {
  const started = performance.now();
  let isRestarted = !mayRestart;
  for (;;) {
    until.throwIfAborted();
    try {
      return await equipOnce(cluster, options, wanted);
    } catch (thrown) {
      const mayPass = thrown instanceof SwarmError && isEarly.has(thrown.code) && cluster.servers.length > 1;
      const passedMs = performance.now() - started;
      if (!mayPass || passedMs > leadersWithinMs) throw thrown;
      if (!isRestarted && passedMs > restartAfterMs) {
        isRestarted = true;
        for (const server of cluster.servers) await server.restart();
      } else await sleep(pauseMs);
    }
  }
}

async function equipOnce(
  { url, servers }: NatsCluster,
  options: BusOptions,
  wanted: Omit<Equipment, 'replicas'>,
): Promise<readonly string[]> {
  await using bus = await connectBus({ ...options, url, leaderWithinMs: 0 });
  return await equip(bus, { ...wanted, replicas: servers.length });
}
