/**
 * Local servers that know the agents of a keyring: `swarm up --secure`.
 *
 * The keyring becomes the configuration of each server, in which each agent is a user by its NKey. As the keyring changes
 * it is written anew and the servers told to read it (SIGHUP): who may do what it could before stays connected. A keyring
 * that cannot be read, or has another operator, changes nothing.
 */
import { unwatchFile, watchFile } from 'node:fs';
import { busOptionsOf, inboxPrefixOf, loadKey } from '../agent/self.ts';
import type { Settings } from '../agent/settings.ts';
import { messageOf, SwarmError } from '../base/errors.ts';
import { permissionsOf, servicesOf } from '../bus/permissions.ts';
import type { SigningKey } from '../identity/key.ts';
import { type Keyring, loadKeyring } from '../identity/keyring.ts';
import { printNkey } from '../identity/nkey.ts';
import { configureServers, type ServerUser, type ServerUsers } from '../server/configuration.ts';
import type { ConfiguredServer, NatsCluster, ServerPlace } from '../server/nats-cluster.ts';
import type { NatsServer } from '../server/nats-server.ts';
import { equipServers, type Waiting } from './equipping.ts';
import { type Output, printable } from './output.ts';

const lookEveryMs = 500;
const reloadWithinMs = 10_000;
const applyAgainMs = 10_000;

/** What the servers are told of a keyring. */
interface Told {
  readonly operator: string;
  /** The operator's own. */
  readonly key: SigningKey;
  readonly users: ServerUsers;
  /** The filters of each durable. */
  readonly durables: ReadonlyMap<string, readonly string[]>;
  /** Agents with a key that counts, and no NKey to log in with. */
  readonly without: readonly string[];
}

interface SecuringParts {
  readonly settings: Settings;
  readonly places: readonly ServerPlace[];
  readonly out: Output;
}

export class Securing {
  /** Each goes by the keyring as it was read last. */
  readonly servers: readonly ConfiguredServer[];
  readonly #parts: SecuringParts;
  readonly #listeners = new Set<(line: string) => void>();
  #told: Told;
  /** Whether the servers go by what they were told, all of it. */
  #isApplied = false;
  #work: Promise<void> = Promise.resolve();

  private constructor(parts: SecuringParts, told: Told) {
    this.#parts = parts;
    this.#told = told;
    const heading = headingFor(parts.settings.keyring);
    this.servers = configureServers(parts.places, () => ({ heading, users: this.#told.users }));
    this.#tellOfTheLockedOut();
  }

  /**
   * Reads keys and keyring, for servers at `places`. Throws `KEYRING_INVALID` where the keyring names no operator, `USAGE`
   * where that is not us, and what loading them throws.
   */
  static async prepare(options: SecuringParts): Promise<Securing> {
    const { settings, out } = options;
    const { key, warnings } = await loadKey(settings);
    for (const warning of warnings) out.warn(warning);
    const { keyring } = await loadKeyring(settings.keyring);
    return new Securing(options, tell(keyring, settings, key));
  }

  #tellOfTheLockedOut(): void {
    const { settings, out } = this.#parts;
    for (const name of this.#told.without) {
      out.warn(`${name} has no NKey in ${settings.keyring}, and cannot log in; \`swarm keys add\` its line`);
    }
  }

  /** To be told each line that a server logs. */
  onLog(line: string): void {
    for (const listener of this.#listeners) listener(line);
  }

  /** Creates streams and durables on the running servers, and from now on follows the keyring until the signal aborts. */
  async serve(cluster: NatsCluster, until: AbortSignal): Promise<void> {
    await this.#equip(cluster, { until, mayRestart: true });
    this.#isApplied = true;
    const { keyring } = this.#parts.settings;
    const look = (): void => {
      this.#work = this.#work.then(() => this.#follow(cluster, until)); // rejects nothing
    };
    const lookAgain = setInterval(() => {
      if (!this.#isApplied) look(); // what failed may have been a full disk, or a cluster without a leader
    }, applyAgainMs).unref();
    watchFile(keyring, { interval: lookEveryMs, persistent: false }, look);
    const stop = (): void => {
      clearInterval(lookAgain);
      unwatchFile(keyring, look);
    };
    until.addEventListener('abort', stop, { once: true });
    look(); // it may have changed while the servers started
  }

  async #follow(cluster: NatsCluster, until: AbortSignal): Promise<void> {
    const { settings, out } = this.#parts;
    try {
      const { key } = await loadKey(settings); // the operator, too, may have a new one
      const { keyring } = await loadKeyring(settings.keyring);
      const told = tell(keyring, settings, key);
      if (this.#isApplied && isSame(told, this.#told)) return;
      this.#isApplied = false;
      this.#told = told;
      this.#tellOfTheLockedOut();
      await Promise.all(this.servers.map((server) => server.writeConfigFile()));
      await Promise.all(cluster.servers.map((server) => this.#reload(server, until)));
      await this.#equip(cluster, { until, mayRestart: false });
      this.#isApplied = true;
      out.note(`${settings.keyring} has changed, and the server goes by it.`);
    } catch (thrown) {
      if (until.aborted) return;
      out.warn(
        `${settings.keyring} has changed, and the server goes on as far as it could: ${messageOf(thrown)}`,
      );
    }
  }

  /** Resolves once the server says that it has read its configuration, or is gone; throws what it says against it. */
  async #reload(server: NatsServer, until: AbortSignal): Promise<void> {
    // Anchored, for a client can have words of its own in the server's log.
    const answer = new RegExp(
      `^\\[${server.pid}\\] \\S+ \\S+ \\[(?:INF|ERR)\\] (?:Reloaded server configuration|Failed to reload server configuration: (.*))`,
    );
    await new Promise<void>((resolve, reject) => {
      const end = (problem?: string): void => {
        clearTimeout(timer);
        this.#listeners.delete(listen);
        until.removeEventListener('abort', leave);
        if (problem === undefined) resolve();
        else
          reject(new SwarmError('SERVER_START', `nats-server does not take its configuration: ${problem}`));
      };
      const listen = (line: string): void => {
        const found = answer.exec(line);
        if (found !== null) end(found[1]);
      };
      const leave = (): void => end('it is being stopped');
      const timer = setTimeout(() => end(`no answer in ${reloadWithinMs / 1000} s`), reloadWithinMs);
      this.#listeners.add(listen);
      until.addEventListener('abort', leave, { once: true });
      void server.exited.then(() => end()); // it reads the file when it is started again
      server.kill('SIGHUP');
    });
  }

  async #equip(cluster: NatsCluster, waiting: Waiting): Promise<void> {
    const { settings, out } = this.#parts;
    const { key, operator, durables } = this.#told;
    const { nkey } = busOptionsOf(settings, key, operator);
    const login = { name: operator, ...(nkey && { nkey }) };
    const differences = await equipServers(cluster, login, { stream: settings.stream, durables }, waiting);
    for (const difference of differences) out.warn(difference);
  }
}

/** Returns what the servers are told of `keyring`; throws `KEYRING_INVALID` or `USAGE` unless `key` is the operator's. */
function tell(keyring: Keyring, { keyring: path, stream, envFile }: Settings, key: SigningKey): Told {
  const { operator, agents } = keyring;
  if (operator === undefined) {
    throw new SwarmError(
      'KEYRING_INVALID',
      `${path} names no operator; \`swarm keys add "$(swarm keys show)" --operator\` makes it the agent of your env file`,
    );
  }
  const me = keyring.find(key.publicKey);
  const nkey = printNkey(key.derive('can-swarm/nkey/v1').publicKey);
  if (me?.agent.name !== operator || me.key.revoked !== undefined || me.key.nkey !== nkey) {
    throw new SwarmError(
      'USAGE',
      `the operator in ${path} is ${operator}, and ${envFile} has no key that counts as its; name the operator's env file with --env`,
    );
  }
  const logins = agents.map((agent) => {
    const counting = agent.keys.filter(({ revoked }) => revoked === undefined);
    return {
      agent,
      counts: counting.length > 0,
      nkeys: new Set(counting.flatMap((each) => each.nkey ?? [])),
    };
  });
  const usersOf = (isOperator: boolean): ServerUser[] =>
    logins
      .filter(({ agent }) => (agent.name === operator) === isOperator)
      .flatMap(({ agent: { name, publish, durables }, nkeys }) => {
        const rights = { name, publish, durables, inboxPrefix: inboxPrefixOf(name), isOperator };
        const comment = isOperator ? `${name}, the operator` : name;
        return [...nkeys].map((user) => ({ comment, nkey: user, ...permissionsOf(rights, stream) }));
      });
  const without = logins.filter(({ counts, nkeys }) => counts && nkeys.size === 0);
  return {
    operator,
    key,
    users: { operators: usersOf(true), agents: usersOf(false), services: servicesOf(stream) },
    durables: new Map(agents.flatMap(({ durables }) => Object.entries(durables))),
    without: without.map(({ agent }) => agent.name),
  };
}

function isSame(one: Told, other: Told): boolean {
  const text = ({ users, durables }: Told): string => JSON.stringify([users, ...durables]);
  return text(one) === text(other);
}

function headingFor(keyring: string): string[] {
  return [
    `Who may connect, and what each may do. Written by \`swarm up --secure\` from the keyring ${printable(keyring)},`,
    'and anew whenever that changes: change the keyring, with `swarm keys`, and not this file.',
    '',
    'Each agent logs in by signing with its own key. It may publish what the keyring lets it say (thread.…), the',
    'checkpoints of its log, what it gives up (dead.…), and requests to JetStream: to read streams and its durables,',
    'and to ack ($JS.ACK.…). Answers come to an inbox that nobody else may subscribe to. Only the operator may create,',
    'change or delete ($JS.API.>), in an account of its own: an agent may have an answer sent to any subject, and in',
    'the account of the agents nothing but the services below would hear of it.',
  ];
}
