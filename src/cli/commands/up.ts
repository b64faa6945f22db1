/**
 * `swarm up`: a NATS server on this machine, or a cluster of them, for as long as the command runs.
 */
import type { Command } from '@commander-js/extra-typings';
import { InvalidArgumentError } from 'commander';
import { readSettings } from '../../agent/settings.ts';
import { messageOf, SwarmError } from '../../base/errors.ts';
import { configureServers } from '../../server/configuration.ts';
import { findNatsServer } from '../../server/find.ts';
import {
  clusterOfOne,
  type NatsCluster,
  placesOfCluster,
  type ServerPlace,
  startNatsCluster,
} from '../../server/nats-cluster.ts';
import { type StartOptions, startNatsServer } from '../../server/nats-server.ts';
import { equipServers } from '../equipping.ts';
import type { Invocation } from '../invocation.ts';
import { given, parsePort } from '../options.ts';
import type { Output } from '../output.ts';
import { Securing } from '../secure.ts';

export function define(command: Command, { out, interruption }: Invocation): void {
  command
    .description(
      `Run a NATS server with JetStream on 127.0.0.1 until Ctrl-C. It is the one that SWARM_NATS_SERVER names, one that is
installed, or one fetched from Debian's packages into .swarm. There are no passwords: whoever can run a program on this
machine can connect, but only keys in the keyring are listened to.

With --secure only agents of the keyring can connect, each with its own key, and the server itself lets each publish only
where the keyring says. It is run by the keyring's operator, creates the streams, and the durables that the keyring lists,
and follows the keyring as it changes.

With --cluster several servers run as one, each message on all of them: for trying and testing, since they share a machine.`,
    )
    .option('--secure', 'let in the agents of the keyring and nobody else')
    .option('--env <file>', "with --secure: the file with the operator's key (SWARM_ENV, else .env)")
    .option('--keyring <file>', 'with --secure: whom to let in (SWARM_KEYRING, else swarm.keys.json)')
    .option('--cluster <n>', 'run 3 or 5 servers as a cluster, on --port and the next ones', parseClusterSize)
    .option('--port <port>', 'for clients; 0 is a free one', parsePort, 4222)
    .option('--store <folder>', 'where JetStream keeps its messages', '.swarm/jetstream')
    .option('--monitor-port <port>', 'for monitoring over HTTP; 0 is a free one', parsePort, 8222)
    .option('--no-monitor', 'no monitoring')
    .option('--server <file>', 'the nats-server program')
    .option('--json', 'print url, monitoring and store as one JSON object')
    .addHelpText(
      'after',
      `
Examples:
  $ swarm up
  $ swarm up --secure --env boss.env
  $ swarm up --cluster 3
  $ swarm up --port 0 --no-monitor --store /var/tmp/swarm`,
    )
    .action(async ({ store, server: program, secure, env, keyring, cluster: size, json, ...ports }) => {
      if (secure !== true && (env !== undefined || keyring !== undefined)) {
        throw new SwarmError('USAGE', '--env and --keyring say who is let in, and only --secure asks');
      }
      const places = size === undefined ? [{ storeDir: store }] : await placesOfCluster(store, size);
      const securing =
        secure === true
          ? await Securing.prepare({ settings: await readSettings(given({ env, keyring })), places, out })
          : undefined;
      const { path, version } = await findNatsServer({
        download: true,
        note: (line) => out.note(line),
        ...(program !== undefined && { named: { path: program, by: '--server' } }),
      });
      const interrupted = interruption.take();
      const said: string[] = [];
      const options = {
        path,
        port: ports.port,
        storeDir: store,
        ...(ports.monitor && { monitorPort: ports.monitorPort }),
        onLog: (line: string) => {
          if (said.push(line) > 5) said.shift();
          securing?.onLog(line);
        },
      };
      await using cluster = await start(options, places, securing);
      if (securing !== undefined) await securing.serve(cluster, interrupted);
      else if (size !== undefined)
        await equipServers(cluster, {}, await readSettings(), { until: interrupted, mayRestart: true }); // an agent would ask for one copy
      tellWhere(cluster, { store, version, asJson: json === true }, out);
      const what = size === undefined ? `nats-server ${version} is` : `${size} of nats-server ${version} are`;
      out.note(`${what} running; Ctrl-C stops ${size === undefined ? 'it' : 'them'}.`);
      const exit = await endOf(cluster, interrupted, out);
      if (exit !== undefined) {
        throw new SwarmError(
          'SERVER_EXITED',
          `nats-server ended by itself (${exit}); its last words:\n${said.join('\n') || '(none)'}`,
        );
      }
      out.note('Stopping nats-server…');
      await cluster.stop();
      out.note('Stopped. What it keeps is in the store.');
    });
}

/** Starts servers at `places`: one on its own is configured by its arguments alone. */
async function start(
  options: StartOptions & { storeDir: string },
  places: readonly ServerPlace[],
  securing: Securing | undefined,
): Promise<NatsCluster> {
  try {
    if (securing !== undefined) return await startNatsCluster(securing.servers, options);
    if (places.length === 1) return clusterOfOne(await startNatsServer(options));
    const heading = ['One of several servers of `swarm up --cluster`, written anew each time.'];
    const servers = configureServers(places, () => ({ heading, users: 'anybody' }));
    return await startNatsCluster(servers, options);
  } catch (cause) {
    const problem = problemOf(messageOf(cause), options);
    if (problem === undefined) throw cause;
    throw new SwarmError('SERVER_START', problem, { cause });
  }
}

interface Where {
  readonly store: string;
  readonly version: string;
  readonly asJson: boolean;
}

function tellWhere({ url, servers }: NatsCluster, { store, version, asJson }: Where, out: Output): void {
  const [first] = servers;
  if (asJson) {
    const monitoring = first?.monitorUrl ?? null;
    const each = servers.map(({ url, monitorUrl, pid }) => ({ url, monitoring: monitorUrl ?? null, pid }));
    out.json({ url, monitoring, store, version, pid: first?.pid, servers: each });
    return;
  }
  out.data(`url         ${url}`);
  out.data(`store       ${store}`);
  const monitoring = servers.flatMap(({ monitorUrl }) => monitorUrl ?? []);
  if (monitoring.length > 0) out.data(`monitoring  ${monitoring.join(' ')}`);
}

/** Returns why a server did not start, with the option that is the way out; `undefined` where none is. */
function problemOf(message: string, { port, storeDir }: StartOptions): string | undefined {
  const taken = /:(\d+): bind: address already in use/.exec(message)?.[1];
  if (taken !== undefined) {
    const way =
      taken === String(port)
        ? 'use what runs there if it is a NATS server, or choose another port with --port (0 is a free one)'
        : 'choose another port for monitoring with --monitor-port (0 is a free one), or go without (--no-monitor)';
    return `port ${taken} is in use; ${way}`;
  }
  if (message.includes('another one is at work in')) {
    return `another nats-server is at work in ${storeDir}; use that one, or choose another folder with --store`;
  }
  const unwritable = /^nats-server cannot start: (.*); choose a folder for its data/s.exec(message)?.[1];
  return unwritable && `${unwritable}; choose another folder for its data with --store`;
}

/** Returns how the last of the servers ended by itself; `undefined` once they are to be stopped. */
async function endOf(
  { servers }: NatsCluster,
  interrupted: AbortSignal,
  out: Output,
): Promise<string | undefined> {
  const stopped = new Promise<undefined>((resolve) => {
    if (interrupted.aborted) resolve(undefined);
    interrupted.addEventListener('abort', () => resolve(undefined), { once: true });
  });
  let left = servers.length;
  const ended = new Promise<string>((resolve) => {
    for (const { url, exited } of servers) {
      void exited.then(({ code, signal }) => {
        const exit = signal ?? `exit code ${code}`;
        left -= 1;
        if (left === 0) resolve(exit);
        else if (!interrupted.aborted)
          out.warn(`the server at ${url} ended by itself (${exit}); ${left} go on`);
      });
    }
  });
  return await Promise.race([ended, stopped]);
}

function parseClusterSize(text: string): number {
  if (text === '3' || text === '5') return Number(text);
  throw new InvalidArgumentError('A cluster has 3 or 5 servers here.');
}
