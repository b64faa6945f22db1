/**
 * A local broker that knows the agents of a keyring: `swarm up --secure`.
 *
 * The keyring becomes the server's configuration, in which each agent is a user by its NKey. As the keyring changes the
 * file is written anew and the server told to read it (SIGHUP): who may do what it could before stays connected. A keyring
 * that cannot be read, or leaves nobody to operate the broker, changes nothing.
 */
import { unwatchFile, watchFile } from 'node:fs';
import { join } from 'node:path';
import { busOptionsOf, inboxPrefixOf, loadKey } from '../agent/self.ts';
import type { Settings } from '../agent/settings.ts';
import { makeFolder, writeFileDurably } from '../base/durable.ts';
import { messageOf, SwarmError } from '../base/errors.ts';
import { connectBus } from '../bus/connection.ts';
import { equip } from '../bus/equip.ts';
import { permissionsOf } from '../bus/permissions.ts';
import type { SigningKey } from '../identity/key.ts';
import { type Keyring, loadKeyring } from '../identity/keyring.ts';
import { printNkey } from '../identity/nkey.ts';
import { printConfiguration, type ServerUser } from '../server/configuration.ts';
import type { NatsServer } from '../server/nats-server.ts';
import type { Output } from './output.ts';

const lookEveryMs = 500;
const reloadWithinMs = 10_000;

export interface SecureOptions {
  readonly settings: Settings;
  /** The folder that gets the configuration file. */
  readonly folder: string;
  /** Copies of each stream. */
  readonly replicas: number;
  readonly out: Output;
}

/** What the keyring lets the broker be told. */
interface Told {
  readonly keyring: Keyring;
  readonly operator: string;
  readonly text: string;
  /** Agents with a key that counts, and no NKey to log in with. */
  readonly without: readonly string[];
}

export class SecureBroker {
  /** The path of the configuration. */
  readonly configFile: string;
  readonly #options: SecureOptions;
  readonly #key: SigningKey;
  readonly #servers: NatsServer[] = [];
  readonly #reloads = new Set<(line: string) => void>();
  #told: Told;
  #work: Promise<void> = Promise.resolve();

  private constructor(options: SecureOptions, key: SigningKey, told: Told) {
    this.#options = options;
    this.#key = key;
    this.#told = told;
    this.configFile = join(options.folder, 'nats-server.conf');
  }

  /**
   * Writes the configuration. Throws `KEYRING_INVALID` where nobody is operator, `USAGE` where we are not, and what loading
   * keys and keyring throws.
   */
  static async prepare(options: SecureOptions): Promise<SecureBroker> {
    const { settings, out } = options;
    const { key, warnings } = await loadKey(settings);
    for (const warning of warnings) out.warn(warning);
    const told = tell((await loadKeyring(settings.keyring)).keyring, settings, key);
    const broker = new SecureBroker(options, key, told);
    await broker.#write();
    return broker;
  }

  /** To be told each line that the servers log. */
  onLog(line: string): void {
    for (const listener of this.#reloads) listener(line);
  }

  /** Creates streams and durables on the running `servers`, and from now on follows the keyring until the signal aborts. */
  async serve(servers: readonly NatsServer[], until: AbortSignal): Promise<void> {
    this.#servers.push(...servers);
    await this.#equip();
    const { keyring } = this.#options.settings;
    const look = (): void => {
      this.#work = this.#work.then(() => this.#follow()); // rejects nothing
    };
    watchFile(keyring, { interval: lookEveryMs, persistent: false }, look);
    until.addEventListener('abort', () => unwatchFile(keyring, look), { once: true });
    look(); // it may have changed while the server started
  }

  async #follow(): Promise<void> {
    const { settings, out } = this.#options;
    try {
      const told = tell((await loadKeyring(settings.keyring)).keyring, settings, this.#key);
      if (told.text === this.#told.text) return;
      this.#told = told;
      await this.#write();
      await Promise.all(this.#servers.map((server) => this.#reload(server)));
      await this.#equip();
      out.note(`${settings.keyring} has changed: the server has read ${this.configFile} again.`);
    } catch (thrown) {
      out.warn(`the server goes on as it was, although the keyring has changed: ${messageOf(thrown)}`);
    }
  }

  async #write(): Promise<void> {
    const { folder, settings, out } = this.#options;
    for (const name of this.#told.without) {
      out.warn(`${name} has no NKey in ${settings.keyring}, and cannot log in; \`swarm keys add\` its line`);
    }
    await makeFolder(folder);
    await writeFileDurably(this.configFile, this.#told.text);
  }

  /** Resolves once the server says that it has read its configuration; throws what it says against it. */
  async #reload(server: NatsServer): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const end = (settle: () => void): void => {
        clearTimeout(timer);
        this.#reloads.delete(listen);
        settle();
      };
      const listen = (line: string): void => {
        if (!line.startsWith(`[${server.pid}] `)) return;
        if (line.includes('Reloaded server configuration')) end(resolve);
        else if (line.includes('[ERR] Failed to reload server configuration')) {
          end(() => reject(new Error(line.replace(/^.*\[ERR\] /, ''))));
        }
      };
      const late = `no answer within ${reloadWithinMs / 1000} s`;
      const timer = setTimeout(() => end(() => reject(new Error(late))), reloadWithinMs);
      this.#reloads.add(listen);
      server.kill('SIGHUP');
    });
  }

  async #equip(): Promise<void> {
    const { settings, replicas, out } = this.#options;
    const { keyring, operator } = this.#told;
    const url = this.#servers.map((server) => server.url).join(',');
    const { nkey } = busOptionsOf(settings, this.#key, operator);
    await using bus = await connectBus({ url, name: operator, ...(nkey !== undefined && { nkey }) });
    const durables = new Map(keyring.agents.flatMap((agent) => Object.entries(agent.durables)));
    for (const difference of await equip(bus, { stream: settings.stream, replicas, durables })) {
      out.warn(difference);
    }
  }
}

/** Returns what the broker is told of `keyring`; throws `KEYRING_INVALID` or `USAGE` unless `key` is the operator's. */
function tell(keyring: Keyring, { keyring: path, stream, envFile }: Settings, key: SigningKey): Told {
  const { operator } = keyring;
  if (operator === undefined) {
    throw new SwarmError(
      'KEYRING_INVALID',
      `${path} names no operator; \`swarm keys add "$(swarm keys show)" --operator\` makes the agent whose env file you have the operator`,
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
  const users: ServerUser[] = [];
  const without: string[] = [];
  for (const { name, publish, durables, keys } of keyring.agents) {
    const isOperator = name === operator;
    const rights = { name, publish, durables, inboxPrefix: inboxPrefixOf(name), isOperator };
    const permissions = permissionsOf(rights, stream);
    const counting = keys.filter(({ revoked }) => revoked === undefined);
    const nkeys = new Set(counting.flatMap((each) => each.nkey ?? []));
    if (counting.length > 0 && nkeys.size === 0) without.push(name);
    const comment = isOperator ? `${name}, the operator` : name;
    for (const user of nkeys) users.push({ comment, nkey: user, ...permissions });
  }
  return { keyring, operator, without, text: printConfiguration(headingFor(path), users) };
}

function headingFor(path: string): string[] {
  return [
    `Who may connect, and what each may do. Written by \`swarm up --secure\` from the keyring ${path},`,
    'and anew whenever that changes: change the keyring, with `swarm keys`, and not this file.',
    '',
    'Each agent logs in by signing with its own key. It may publish what the keyring lets it say (thread.…), the',
    'checkpoints of its log, what it gives up (dead.…), and requests to JetStream: to read streams and its durables,',
    'and to ack ($JS.ACK.…). Only the operator may create, change or delete ($JS.API.>). Answers come to an inbox',
    'that nobody else may subscribe to.',
  ];
}
