/** Agents with keys of their own, and `swarm up --secure` that lets in nobody else: for a person, for us, for an attacker. */
import { join } from 'node:path';
import { connect, type NatsConnection } from '@nats-io/transport-node';
import { busOptionsOf } from '../../src/agent/self.ts';
import { readSettings } from '../../src/agent/settings.ts';
import { joinSwarm, type Swarm, type SwarmOptions } from '../../src/agent/swarm.ts';
import { type Bus, connectBus } from '../../src/bus/connection.ts';
import { saveIdentity } from '../../src/identity/envfile.ts';
import { parseHandover, printHandover } from '../../src/identity/handover.ts';
import { SigningKey } from '../../src/identity/key.ts';
import type { Durables } from '../../src/identity/keyring.ts';
import { updateKeyring, withAgent } from '../../src/identity/keyring-edit.ts';
import { natsServerPath } from '../support/nats.ts';
import { newFolder, type Running, start } from './swarm.ts';

export class SecuredPlace {
  readonly folder: string = newFolder();
  readonly keyring: string = join(this.folder, 'swarm.keys.json');
  readonly #keys = new Map<string, SigningKey>();
  #url = '';

  /** Where the broker is that was started last. */
  get url(): string {
    return this.#url;
  }

  keyOf(name: string): SigningKey {
    const key = this.#keys.get(name);
    if (key === undefined) throw new Error(`no agent ${name}`);
    return key;
  }

  /** Makes an agent with an env file, in the keyring. */
  async add(name: string, rights: { publish?: string[]; durables?: Durables } = {}): Promise<void> {
    const key = SigningKey.generate();
    this.#keys.set(name, key);
    await saveIdentity(join(this.folder, `${name}.env`), key);
    const { record, checkpoint, nkey } = parseHandover(printHandover(name, key));
    await updateKeyring(this.keyring, (keyring) =>
      withAgent(keyring, { name, ...rights, keys: [{ record, checkpoint, nkey }] }),
    );
  }

  /** Starts a broker, and resolves once it runs. */
  async up(...args: string[]): Promise<Running> {
    const server = ['--server', await natsServerPath(), '--port', '0', '--no-monitor', '--json'];
    const running = start(this.folder, ['up', '--secure', ...server, ...args]);
    let printed = '';
    running.child.stdout?.on('data', (text: string) => {
      printed += text;
    });
    await running.says('Ctrl-C stops it');
    this.#url = JSON.parse(printed).url;
    return running;
  }

  joinAs(name: string, options: SwarmOptions = {}): Promise<Swarm> {
    const { url, keyring, folder } = this;
    return joinSwarm({
      env: join(folder, `${name}.env`),
      environment: {},
      url,
      log: this.logOf(name),
      keyring,
      state: join(folder, 'sealed'),
      ...options,
    });
  }

  /** Returns the path of an agent's log. */
  logOf(name: string): string {
    return join(this.folder, 'logs', `${name}.jsonl`);
  }

  /** Returns the project's own connection of an agent. */
  async busOf(name: string): Promise<Bus> {
    const settings = await readSettings({ url: this.url, environment: {} });
    return await connectBus(busOptionsOf(settings, this.keyOf(name), name));
  }

  /** Returns a connection with the key of an agent and nothing of the project's own manners. */
  async clientOf(name: string): Promise<NatsConnection> {
    const settings = await readSettings({ url: this.url, environment: {} });
    const { nkey } = busOptionsOf(settings, this.keyOf(name), name);
    if (nkey === undefined) throw new Error(`no key of ${name}`);
    return await connect({
      servers: this.url,
      inboxPrefix: nkey.inboxPrefix,
      reconnect: false,
      authenticator: (nonce) => ({
        nkey: nkey.user,
        sig: Buffer.from(nkey.sign(Buffer.from(nonce ?? ''))).toString('base64url'),
      }),
    });
  }
}
