import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect, type NatsConnection } from '@nats-io/transport-node';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { busOptionsOf } from '../../src/agent/self.ts';
import { readSettings } from '../../src/agent/settings.ts';
import { joinSwarm, type Swarm, type SwarmOptions } from '../../src/agent/swarm.ts';
import { busStatus } from '../../src/base/events.ts';
import { readCheckpoints } from '../../src/bus/checkpoints.ts';
import { type Bus, connectBus } from '../../src/bus/connection.ts';
import { findById } from '../../src/bus/find.ts';
import { isPermissionRefused } from '../../src/bus/requirements.ts';
import { saveIdentity } from '../../src/identity/envfile.ts';
import { parseHandover, printHandover } from '../../src/identity/handover.ts';
import { SigningKey } from '../../src/identity/key.ts';
import type { Durables } from '../../src/identity/keyring.ts';
import { updateKeyring, withAgent, withOperator, withoutAgent } from '../../src/identity/keyring-edit.ts';
import { printNkey } from '../../src/identity/nkey.ts';
import { failureOf } from '../bus/broker.ts';
import { natsServerPath } from '../support/nats.ts';
import { newFolder, type Running, start, swarm } from './swarm.ts';

const folder = newFolder();
const keyringFile = join(folder, 'swarm.keys.json');
const keys = new Map<string, SigningKey>();
let broker: Running;
let url = '';

/** Makes an agent with an env file, in the keyring. */
async function add(name: string, rights: { publish?: string[]; durables?: Durables } = {}): Promise<void> {
  const key = SigningKey.generate();
  keys.set(name, key);
  await saveIdentity(join(folder, `${name}.env`), key);
  const { record, checkpoint, nkey } = parseHandover(printHandover(name, key));
  await updateKeyring(keyringFile, (keyring) =>
    withAgent(keyring, { name, ...rights, keys: [{ record, checkpoint, nkey }] }),
  );
}

/** Starts a broker, and returns its url once it runs. */
async function up(...args: string[]): Promise<{ running: Running; url: string }> {
  const server = ['--server', await natsServerPath(), '--port', '0', '--no-monitor', '--json'];
  const running = start(folder, ['up', '--secure', ...server, ...args]);
  let printed = '';
  running.child.stdout?.on('data', (text: string) => {
    printed += text;
  });
  await running.says('Ctrl-C stops it');
  return { running, url: JSON.parse(printed).url };
}

beforeAll(async () => {
  await add('boss');
  await add('planner');
  await add('listener', { durables: { listener: 'thread.>', pair: ['thread.a.>', 'thread.b.>'] } });
  await add('braggart', { publish: ['>'] });
  await updateKeyring(keyringFile, (keyring) => withOperator(keyring, 'boss'));
  ({ running: broker, url } = await up('--env', 'boss.env'));
}, 60_000);

afterAll(async () => {
  broker.signal('SIGINT');
  await broker.ended;
});

function joinAs(name: string, options: SwarmOptions = {}): Promise<Swarm> {
  const place = { url, keyring: keyringFile, state: join(folder, 'sealed'), environment: {} };
  const log = join(folder, 'logs', `${name}.jsonl`);
  return joinSwarm({ env: join(folder, `${name}.env`), log, ...place, ...options });
}

/** Returns the project's own connection of an agent. */
async function busOf(name: string): Promise<Bus> {
  return await connectBus(busOptionsOf(await readSettings({ url, environment: {} }), keys.get(name), name));
}

/** Returns a connection with the key of an agent and nothing of the project's own manners. */
async function clientOf(name: string): Promise<NatsConnection> {
  const { nkey } = busOptionsOf(await readSettings({ url }), keys.get(name), name);
  if (nkey === undefined) throw new Error(`no key of ${name}`);
  return await connect({
    servers: url,
    inboxPrefix: nkey.inboxPrefix,
    reconnect: false,
    authenticator: (nonce) => ({
      nkey: nkey.user,
      sig: Buffer.from(nkey.sign(Buffer.from(nonce ?? ''))).toString('base64url'),
    }),
  });
}

describe('agents of the keyring', () => {
  test('talk through durables that are there for them, with what else they need of the broker', async () => {
    await using listener = await joinAs('listener');
    await using planner = await joinAs('planner');
    const heard = new Promise<unknown>((resolve) => {
      void listener.handle('thread.>', { durable: 'listener' }, async ({ payload }) => resolve(payload));
    });
    const { seq, record } = await planner.publish('thread.t1.planner', { n: 1 });
    expect(await heard).toEqual({ n: 1 });
    await planner.close();

    await using bus = await busOf('planner');
    const asked = {
      stream: 'THREADS',
      subject: 'thread.t1.planner',
      sinceNs: record.header.tsNs - 1_000_000_000n,
    };
    expect(await findById(bus, { ...asked, id: record.leaf })).toMatchObject({ seq });
    expect(await findById(bus, { ...asked, id: '0'.repeat(64) })).toBeUndefined();
    const later = { ...asked, id: record.leaf, sinceNs: asked.sinceNs + 60_000_000_000n };
    expect(await findById(bus, later)).toBeUndefined();
    const checkpoints: string[] = [];
    for await (const { subject } of readCheckpoints(bus)) checkpoints.push(subject);
    expect(checkpoints).toContain('checkpoint.planner');
  }, 60_000);

  test('are told who can give them a durable that they do not have', async () => {
    await using planner = await joinAs('planner');
    const handling = planner.handle('thread.>', { durable: 'planner' }, async () => undefined);
    expect(await failureOf(handling)).toMatchObject({
      code: 'BUS_PERMISSION',
      message: expect.stringContaining('`swarm keys add --durable`'),
    });
  });
});

const api = '$JS.API';

/** What an agent may try with its own key, and a client of its own making. */
const attacks: Readonly<Record<string, { as: string; on: string; with?: object }>> = {
  "speaks on another agent's subject": { as: 'planner', on: 'thread.t1.listener' },
  'speaks below the subject of another': { as: 'planner', on: 'thread.t1.listener.planner' },
  'purges the stream': { as: 'planner', on: `${api}.STREAM.PURGE.THREADS` },
  'purges the stream, and may say everything': { as: 'braggart', on: `${api}.STREAM.PURGE.THREADS` },
  'deletes the stream': { as: 'planner', on: `${api}.STREAM.DELETE.THREADS` },
  'changes the stream': { as: 'planner', on: `${api}.STREAM.UPDATE.THREADS`, with: { name: 'THREADS' } },
  'makes a stream': { as: 'planner', on: `${api}.STREAM.CREATE.MINE`, with: { name: 'MINE' } },
  'deletes a message': { as: 'planner', on: `${api}.STREAM.MSG.DELETE.THREADS`, with: { seq: 1 } },
  'deletes the durable of another': { as: 'planner', on: `${api}.CONSUMER.DELETE.THREADS.listener` },
  'deletes its own durable': { as: 'listener', on: `${api}.CONSUMER.DELETE.THREADS.listener` },
  'changes its own durable': { as: 'listener', on: `${api}.CONSUMER.CREATE.THREADS.listener.thread.>` },
  'has a consumer deliver elsewhere': {
    as: 'planner',
    on: `${api}.CONSUMER.CREATE.THREADS`,
    with: { stream_name: 'THREADS', config: { deliver_subject: `${api}.STREAM.PURGE.THREADS` } },
  },
  'reads the durable of another': { as: 'planner', on: `${api}.CONSUMER.MSG.NEXT.THREADS.listener` },
  'acks what another was handed': {
    as: 'planner',
    on: '$JS.ACK.THREADS.listener.1.1.1.1764000000000000000.0',
  },
  'keeps a checkpoint as another': { as: 'planner', on: 'checkpoint.listener' },
  'gives up what it never heard': { as: 'planner', on: 'dead.thread.t1.boss' },
  'answers a request of another': { as: 'planner', on: '_INBOX_listener.x' },
  'asks the system': { as: 'braggart', on: '$SYS.REQ.SERVER.PING' },
};

describe('the server refuses an agent that', () => {
  test.each(Object.entries(attacks))('%s', async (_, { as, on, with: body = {} }) => {
    const client = await clientOf(as);
    const thrown = await failureOf(client.request(on, JSON.stringify(body), { timeout: 5_000 }));
    expect([isPermissionRefused(thrown), thrown.message]).toEqual([true, expect.stringContaining(on)]);
    await client.close();
  });

  test.each(['>', 'thread.>', '_INBOX_listener.>', '_INBOX.>', '$JS.>'])('listens on %s', async (subject) => {
    const client = await clientOf('planner');
    const refused = new Promise<unknown>((resolve) => {
      client.subscribe(subject, { callback: (error) => resolve(error) });
    });
    expect(isPermissionRefused(await refused)).toBe(true);
    await client.close();
  });

  test('or somebody who has no key of an agent', async () => {
    const stranger = SigningKey.generate();
    const settings = await readSettings({ url, environment: {} });
    const nobody = await failureOf(connectBus({ url }));
    expect(nobody).toMatchObject({
      code: 'BUS_AUTH',
      message: expect.stringContaining('use the key of an agent'),
    });
    const unknown = await failureOf(connectBus(busOptionsOf(settings, stranger, 'planner')));
    expect(unknown).toMatchObject({
      code: 'BUS_AUTH',
      message: expect.stringMatching(
        /refused this agent's key, as the NATS user U[A-Z2-7]{55} \(.*swarm keys add/,
      ),
    });
    const wrong = { ...busOptionsOf(settings, stranger, 'planner').nkey, inboxPrefix: '_INBOX_planner' };
    const user = printNkey((keys.get('planner') as SigningKey).derive('can-swarm/nkey/v1').publicKey);
    const forged = { user, sign: wrong.sign ?? (() => new Uint8Array()), inboxPrefix: wrong.inboxPrefix };
    expect(await failureOf(connectBus({ url, nkey: forged }))).toMatchObject({ code: 'BUS_AUTH' });
    const password = connectBus({ url: url.replace('nats://', 'nats://boss:boss@') });
    expect(await failureOf(password)).toMatchObject({ code: 'BUS_AUTH' });
  });
});

test('after all that, the stream has what the agents said', async () => {
  await using bus = await busOf('boss');
  const { state } = await bus.manager.streams.info('THREADS');
  expect(state.messages).toBe(1);
  const { config } = await bus.manager.consumers.info('THREADS', 'pair');
  expect(config.filter_subjects).toEqual(['thread.a.>', 'thread.b.>']);
});

test('the configuration can be read by a person, and names every agent', () => {
  const text = readFileSync(join(folder, '.swarm/jetstream/nats-server.conf'), 'utf8');
  expect(text).toContain('# Who may connect, and what each may do.');
  for (const who of ['boss, the operator', 'planner', 'listener'])
    expect(text).toContain(`    # ${who}\n    {\n`);
  expect(text).toContain('"thread.*.planner"\n');
  expect(text).not.toContain('">"');
});

describe('as the keyring changes', () => {
  test('newcomers get in, who leaves is put out, and the others stay connected', async () => {
    const planner = await busOf('planner');
    const braggart = await busOf('braggart');
    const said: string[] = [];
    const stop = busStatus.subscribe(({ status }) => said.push(status));
    const late = add('late', { durables: { late: 'thread.*.planner' } });
    await late;
    await broker.says(`swarm.keys.json has changed`);
    await using bus = await busOf('late');
    expect(await bus.manager.consumers.info('THREADS', 'late')).toMatchObject({ name: 'late' });
    expect([planner.session, braggart.session, said]).toEqual([1, 1, ['connected']]);

    await updateKeyring(keyringFile, (keyring) => {
      const { name = '', keys: known = [] } = keyring.named('late') ?? {};
      return withAgent(keyring, { name, keys: known, durables: { late: 'thread.*.boss' } });
    });
    await expect
      .poll(async () => (await bus.manager.consumers.info('THREADS', 'late')).config.filter_subject, {
        timeout: 20_000,
      })
      .toBe('thread.*.boss');

    const lost = new Promise((resolve) => braggart.listen({ disconnected: () => resolve(true) }));
    await updateKeyring(keyringFile, (keyring) => withoutAgent(keyring, 'braggart'));
    expect(await lost).toBe(true);
    expect(await planner.roundTripMs()).toBeGreaterThanOrEqual(0);
    expect([planner.session, planner.isConnected]).toEqual([1, true]);
    stop();
    await planner.close();
    await braggart.close();
  }, 60_000);

  test('a keyring that cannot be read, or leaves no operator, changes nothing', async () => {
    const good = readFileSync(keyringFile, 'utf8');
    writeFileSync(keyringFile, '{"version": 1');
    await broker.says('swarm.keys.json is not valid JSON');
    writeFileSync(keyringFile, good.replace('"operator": "boss"', '"operator": "planner"'));
    await broker.says('the operator in swarm.keys.json is planner');
    writeFileSync(keyringFile, good);
    await sleep(1_500);
    await using bus = await busOf('planner');
    expect(bus.isConnected).toBe(true);
  }, 30_000);
});

test('it is the operator who runs it', async () => {
  const server = ['--server', await natsServerPath(), '--port', '0', '--no-monitor', '--store', 'other'];
  const byPlanner = await swarm(folder, ['up', '--secure', '--env', 'planner.env', ...server]);
  expect(byPlanner).toMatchObject({
    code: 2,
    stderr: expect.stringContaining(
      'the operator in swarm.keys.json is boss, and planner.env has no key that counts',
    ),
  });
  const other = newFolder();
  const made = await swarm(other, ['keys', 'new', '--name', 'boss', '--durable', 'worker=thread.*.planner']);
  expect(made.stderr).toContain('Its durables: worker=thread.*.planner');
  expect(await swarm(other, ['up', '--secure', ...server])).toMatchObject({
    code: 3,
    stderr: expect.stringContaining('names no operator; `swarm keys add "$(swarm keys show)" --operator`'),
  });
  const line = made.stdout.trim();
  const named = await swarm(other, ['keys', 'add', line, '--operator']);
  expect(named.stderr).toContain('It is the operator.');
  expect((await swarm(other, ['keys', 'list'])).stdout).toMatch(/\toperator worker=thread\.\*\.planner\n$/);
});

test('swarm sub takes durable and filter from the keyring, each by the other, and warns of nothing', async () => {
  await using planner = await joinAs('planner');
  await planner.publish('thread.a.planner', 'for two');
  const sub = async (...args: string[]): Promise<{ code: number | null; stderr: string }> =>
    await swarm(folder, ['sub', '--count', '1', '--env', 'listener.env', ...args], {
      env: { NATS_URL: url },
    });
  expect(await sub('--durable', 'pair')).toMatchObject({
    code: 0,
    stderr: 'Listening on thread.a.>, thread.b.> as pair; Ctrl-C ends.\n',
  });
  expect(await sub('thread.>')).toMatchObject({
    code: 0,
    stderr: 'Listening on thread.> as listener; Ctrl-C ends.\n',
  });
  expect(await sub('--durable', 'absent')).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('the durable absent is not one that the keyring lists for us'),
  });
  const refused = await sub('thread.c.>');
  expect(refused).toMatchObject({ code: 3, stderr: expect.stringContaining('swarm keys add --durable') });
  expect(refused.stderr).not.toContain('warning');
});
