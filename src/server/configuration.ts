/**
 * A nats-server's configuration file, for a person to read as much as for the server.
 *
 * It says who may connect and what each may do, and can be written anew and read again while the server runs. Ports and
 * names are arguments of the process. The store is not: a server that reads here nothing of JetStream, or finds the store
 * both here and among its arguments, does not survive the reading.
 */
import { join } from 'node:path';
import { writeFileDurably } from '../base/durable.ts';
import { messageOf, SwarmError } from '../base/errors.ts';
import type { ConfiguredServer, ServerPlace } from './nats-cluster.ts';
import { globalAccount, streamsAccount } from './store.ts';

/** A user whom the server knows by an NKey. */
export interface ServerUser {
  /** Who that is, in a line. */
  readonly comment: string;
  /** "U…" */
  readonly nkey: string;
  /** Subjects that it may publish on, wildcards allowed; nothing else. */
  readonly publish: readonly string[];
  /** Subjects that it may subscribe to; nothing else. */
  readonly subscribe: readonly string[];
}

/** Something that those in the account without streams may ask of the one that has them. */
export interface ServerService {
  /** Wildcards allowed. */
  readonly subject: string;
  /** Whether one request may have many answers. */
  readonly answersOften: boolean;
}

/** Users in two accounts: the streams are in one, and in the other only what `services` ask of them. */
export interface ServerUsers {
  readonly operators: readonly ServerUser[];
  readonly agents: readonly ServerUser[];
  readonly services: readonly ServerService[];
}

interface Configuration {
  /** Lines of comment at the top. */
  readonly heading: readonly string[];
  readonly place: ServerPlace;
  readonly users: ServerUsers | 'anybody';
}

/**
 * Returns a server for each place, whose configuration is `nats-server.conf` in its store: what `current` returns whenever
 * that is written. Nothing is written yet, for the store may be another's.
 */
export function configureServers(
  places: readonly ServerPlace[],
  current: () => Omit<Configuration, 'place'>,
): readonly ConfiguredServer[] {
  const account = current().users === 'anybody' ? globalAccount : streamsAccount;
  return places.map((place) => {
    const configFile = join(place.storeDir, 'nats-server.conf');
    const writeConfigFile = async (): Promise<void> => {
      const text = printConfiguration({ place, ...current() });
      try {
        await writeFileDurably(configFile, text, { mode: 0o600 });
      } catch (cause) {
        throw new SwarmError('SERVER_START', `cannot write ${configFile}: ${messageOf(cause)}`, { cause });
      }
    };
    return { place, configFile, account, writeConfigFile };
  });
}

/**
 * Returns a configuration in which `users` may connect and nobody else. Throws a `RangeError` where there is no operator:
 * a nats-server without users would let everybody in.
 */
export function printConfiguration({ heading, place, users }: Configuration): string {
  if (users !== 'anybody' && users.operators.length === 0)
    throw new RangeError('a configuration without users lets everybody in');
  return `${heading.map((line) => `# ${line}`.trimEnd()).join('\n')}

jetstream {
  store_dir: ${JSON.stringify(place.storeDir)}
}
${place.cluster === undefined ? '' : printCluster(place.cluster)}${users === 'anybody' ? '' : printAccounts(users)}`;
}

function printCluster({ serverName, port, ports, password }: NonNullable<ServerPlace['cluster']>): string {
  return `
server_name: ${serverName}

cluster {
  name: swarm
  listen: 127.0.0.1:${port}
  authorization { user: server, password: "${password}" } # made anew at each start
  routes: [${ports.map((each) => `nats://server:${password}@127.0.0.1:${each}`).join(', ')}]
  pool_size: -1 # one connection for each pair is enough here
}
`;
}

function printAccounts({ operators, agents, services }: ServerUsers): string {
  const exported = services.map(
    ({ subject, answersOften }) =>
      `{ service: "${subject}"${answersOften ? ', response_type: stream' : ''} }`,
  );
  const imported = services.map(
    ({ subject }) => `{ service: { account: ${streamsAccount}, subject: "${subject}" } }`,
  );
  return `
authorization {
  timeout: 10 # seconds that a client may take to prove itself
}

accounts {
  # The streams, and who may create, change and delete them.
  ${streamsAccount} {
    jetstream: enabled
    exports: ${printList(exported)}
    users: ${printList(operators.map(printUser))}
  }

  # Everybody else, and what they may ask of it.
  AGENTS {
    imports: ${printList(imported)}
    users: ${printList(agents.map(printUser))}
  }
}
`;
}

function printUser({ comment, nkey, publish, subscribe }: ServerUser): string {
  const quoted = (subjects: readonly string[]): string =>
    printList(
      subjects.map((subject) => `"${subject}"`),
      '          ',
    );
  return `# ${comment}
      {
        nkey: ${nkey}
        permissions: {
          publish: { allow: ${quoted(publish)} }
          subscribe: { allow: ${quoted(subscribe)} }
        }
      }`;
}

function printList(items: readonly string[], indent = '    '): string {
  return `[\n${items.map((item) => `${indent}  ${item}\n`).join('')}${indent}]`;
}
