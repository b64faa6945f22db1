/**
 * `swarm up`: a NATS server on this machine, for as long as the command runs.
 */
import type { Command } from '@commander-js/extra-typings';
import { readSettings } from '../../agent/settings.ts';
import { messageOf, SwarmError } from '../../base/errors.ts';
import { findNatsServer } from '../../server/find.ts';
import { type NatsServer, type StartOptions, startNatsServer } from '../../server/nats-server.ts';
import type { Invocation } from '../invocation.ts';
import { given, parsePort } from '../options.ts';
import { SecureBroker } from '../secure.ts';

export function define(command: Command, { out, interruption }: Invocation): void {
  command
    .description(
      `Run a NATS server with JetStream on 127.0.0.1 until Ctrl-C. It is the one that SWARM_NATS_SERVER names, one that is
installed, or one fetched from Debian's packages into .swarm. There are no passwords: whoever can run a program on this
machine can connect, but only keys in the keyring are listened to.

With --secure only agents of the keyring can connect, each with its own key, and the server itself lets each publish only
where the keyring says. It is run by the keyring's operator, creates the streams, and the durables that the keyring lists,
and follows the keyring as it changes.`,
    )
    .option('--secure', 'let in the agents of the keyring and nobody else')
    .option('--env <file>', "with --secure: the file with the operator's key (SWARM_ENV, else .env)")
    .option('--keyring <file>', 'with --secure: whom to let in (SWARM_KEYRING, else swarm.keys.json)')
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
  $ swarm up --port 0 --no-monitor --store /var/tmp/swarm`,
    )
    .action(async ({ port, store, monitor, monitorPort, server: program, secure, env, keyring, json }) => {
      if (secure !== true && (env !== undefined || keyring !== undefined)) {
        throw new SwarmError('USAGE', '--env and --keyring say who is let in, and only --secure asks');
      }
      const broker =
        secure === true
          ? await SecureBroker.prepare({
              settings: await readSettings(given({ env, keyring })),
              folder: store,
              replicas: 1,
              out,
            })
          : undefined;
      const { path, version } = await findNatsServer({
        download: true,
        note: (line) => out.note(line),
        ...(program !== undefined && { named: { path: program, by: '--server' } }),
      });
      const interrupted = interruption.take();
      const said: string[] = [];
      await using server = await start({
        path,
        port,
        storeDir: store,
        ...(monitor && { monitorPort }),
        ...(broker !== undefined && { configFile: broker.configFile }),
        onLog: (line) => {
          if (said.push(line) > 5) said.shift();
          broker?.onLog(line);
        },
      });
      await broker?.serve([server], interrupted);
      const { url, monitorUrl, pid } = server;
      if (json === true) {
        out.json({ url, monitoring: monitorUrl ?? null, store, version, pid });
      } else {
        out.data(`url         ${url}`);
        out.data(`store       ${store}`);
        if (monitorUrl !== undefined) out.data(`monitoring  ${monitorUrl}`);
      }
      out.note(`nats-server ${version} is running; Ctrl-C stops it.`);
      const exit = await endOf(server, interrupted);
      if (exit !== undefined) {
        throw new SwarmError(
          'SERVER_EXITED',
          `nats-server ended by itself (${exit}); its last words:\n${said.join('\n') || '(none)'}`,
        );
      }
      out.note('Stopping nats-server…');
      await server.stop();
      out.note('Stopped. What it keeps is in the store.');
    });
}

async function start(options: StartOptions): Promise<NatsServer> {
  try {
    return await startNatsServer(options);
  } catch (cause) {
    const problem = problemOf(messageOf(cause), options);
    if (problem === undefined) throw cause;
    throw new SwarmError('SERVER_START', problem, { cause });
  }
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

/** Returns how `server` ended by itself; `undefined` once it is to be stopped. */
async function endOf(server: NatsServer, interrupted: AbortSignal): Promise<string | undefined> {
  const stopped = new Promise<undefined>((resolve) => {
    if (interrupted.aborted) resolve(undefined);
    interrupted.addEventListener('abort', () => resolve(undefined), { once: true });
  });
  const exit = await Promise.race([server.exited, stopped]);
  return exit && (exit.signal === null ? `exit code ${exit.code}` : exit.signal);
}
