/**
 * Local nats-servers that work by a configuration file: one alone, or a cluster, for trying and testing what one machine
 * can show of it, which is everything but the loss of the machine.
 *
 * Each server of a cluster has a store and a name of its own below one folder, so that the cluster is the same one when it is started
 * again. The ports between them are free ones each time. They are taken by the servers a moment after they were found
 * free; should another program be faster, the start fails, and says so.
 */
import { randomBytes } from 'node:crypto';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { type NatsServer, type StartOptions, startNatsServer } from './nats-server.ts';
import type { StoreAccount } from './store.ts';

/** A server's place: where it keeps its data, and whom else it talks to. */
export interface ServerPlace {
  readonly storeDir: string;
  /** Absent for a server that stands alone. */
  readonly cluster?: {
    readonly serverName: string;
    readonly port: number;
    /** The ports of all servers. */
    readonly ports: readonly number[];
    /** By which they know each other: who comes in as a server may do everything. */
    readonly password: string;
  };
}

/** Returns places for `size` servers below `storeDir`, with free ports between them. */
export async function placesOfCluster(storeDir: string, size: number): Promise<readonly ServerPlace[]> {
  const ports = await freePorts(size);
  const password = randomBytes(24).toString('hex');
  return ports.map((port, index) => {
    const serverName = `n${index + 1}`;
    return { storeDir: join(storeDir, serverName), cluster: { serverName, port, ports, password } };
  });
}

export interface ConfiguredServer {
  readonly place: ServerPlace;
  /** Its configuration, which says so once it is written. */
  readonly configFile: string;
  /** Writes it as it should be now; while nobody else is at work in the store. */
  readonly writeConfigFile: () => Promise<void>;
  /** Where by that its streams are. */
  readonly account: StoreAccount;
}

/** Running servers. */
export interface NatsCluster extends AsyncDisposable {
  readonly servers: readonly NatsServer[];
  /** For clients: every server, with commas. */
  readonly url: string;
  /** Ends all servers. */
  stop(): Promise<void>;
}

/** Returns a server that runs already as what it is: the only one. */
export function clusterOfOne(server: NatsServer): NatsCluster {
  return clusterOf([server]);
}

/**
 * Starts the servers of `members`, on `port` and the ones after it, and resolves once all accept connections.
 * Those of a cluster then take seconds to agree on leaders, before which JetStream does not answer. Throws
 * `SERVER_START`, and then none of them runs.
 */
export async function startNatsCluster(
  members: readonly ConfiguredServer[],
  options: Omit<StartOptions, 'storeDir' | 'configFile' | 'writeConfigFile' | 'jetstream' | 'store'> = {},
): Promise<NatsCluster> {
  const { port = 0, monitorPort, ...rest } = options;
  const nth = (first: number, index: number): number => (first === 0 ? 0 : first + index);
  const starts = members.map(({ place, configFile, writeConfigFile, account }, index) =>
    startNatsServer({
      ...rest,
      storeDir: place.storeDir,
      configFile,
      writeConfigFile,
      jetstream: 'configured',
      store: { account, isClustered: place.cluster !== undefined },
      port: nth(port, index),
      ...(monitorPort !== undefined && { monitorPort: nth(monitorPort, index) }),
    }),
  );
  const started = await Promise.allSettled(starts);
  const cluster = clusterOf(started.flatMap((start) => (start.status === 'fulfilled' ? start.value : [])));
  const failed = started.find((start) => start.status === 'rejected');
  if (failed === undefined) return cluster;
  await cluster.stop();
  throw failed.reason;
}

function clusterOf(servers: readonly NatsServer[]): NatsCluster {
  const stop = async (): Promise<void> => {
    await Promise.all(servers.map((server) => server.stop()));
  };
  return {
    servers,
    url: servers.map((server) => server.url).join(','),
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

async function freePorts(count: number): Promise<number[]> {
  const listening = await Promise.all(
    Array.from(
      { length: count },
      () =>
        new Promise<ReturnType<typeof createServer>>((resolve, reject) => {
          const server = createServer();
          server.once('error', reject);
          server.listen(0, '127.0.0.1', () => resolve(server));
        }),
    ),
  );
  const ports = listening.map((server) => {
    const address = server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  });
  await Promise.all(listening.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
