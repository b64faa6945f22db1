import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { printEnvelope } from '../../src/agent/envelope.ts';
import { busStatus } from '../../src/base/events.ts';
import { readCheckpoints } from '../../src/bus/checkpoints.ts';
import { connectBus } from '../../src/bus/connection.ts';
import { findSent } from '../../src/bus/find.ts';
import { encodeHeaders } from '../../src/bus/headers.ts';
import { updateKeyring, withAgent, withOperator, withoutAgent } from '../../src/identity/keyring-edit.ts';
import { failureOf } from '../bus/broker.ts';
import { natsServerPath } from '../support/nats.ts';
import { SecuredPlace } from './secured.ts';
import { newFolder, type Running, start, swarm } from './swarm.ts';

const place = new SecuredPlace();
let broker: Running;

beforeAll(async () => {
  await place.add('boss');
  await place.add('planner');
  await place.add('listener', { durables: { listener: 'thread.>', pair: ['thread.a.>', 'thread.b.>'] } });
  await place.add('braggart', { publish: ['>'] });
  await updateKeyring(place.keyring, (keyring) => withOperator(keyring, 'boss'));
  broker = await place.up('--env', 'boss.env');
});

afterAll(async () => {
  broker.signal('SIGINT');
  await broker.ended;
});

describe('agents of the keyring', () => {
  test('talk through durables that are there for them, with what else they need of the broker', async () => {
    await using listener = await place.joinAs('listener');
    await using planner = await place.joinAs('planner');
    const heard = new Promise<unknown>((resolve) => {
      void listener.handle('thread.>', { durable: 'listener' }, async ({ payload }) => resolve(payload));
    });
    const { seq, record } = await planner.publish('thread.t1.planner', { n: 1 });
    expect(await heard).toEqual({ n: 1 });
    await planner.close();

    await using bus = await place.busOf('planner');
    const message = (id: string) => ({
      subject: 'thread.t1.planner',
      headers: encodeHeaders(id, printEnvelope(record)),
      data: Buffer.from('{"n":1}'),
    });
    const sinceNs = record.header.tsNs - 1_000_000_000n;
    const asked = { stream: 'THREADS', message: message(record.leaf), sinceNs };
    expect(await findSent(bus, asked)).toMatchObject({ seq });
    expect(await findSent(bus, { ...asked, message: message('0'.repeat(64)) })).toBeUndefined();
    expect(await findSent(bus, { ...asked, sinceNs: sinceNs + 60_000_000_000n })).toBeUndefined();
    const checkpoints: string[] = [];
    for await (const { subject } of readCheckpoints(bus)) checkpoints.push(subject);
    expect(checkpoints).toContain('checkpoint.planner');
    await using operator = await place.busOf('boss');
    const { config } = await operator.manager.consumers.info('THREADS', 'pair');
    expect(config.filter_subjects).toEqual(['thread.a.>', 'thread.b.>']);
  });

  test('are told who can give them a durable that they do not have', async () => {
    await using planner = await place.joinAs('planner');
    const handling = planner.handle('thread.>', { durable: 'planner' }, async () => undefined);
    expect(await failureOf(handling)).toMatchObject({
      code: 'BUS_PERMISSION',
      message: expect.stringContaining('`swarm keys add --durable`'),
    });
  });
});

test('the operator replays into a stream of its own, with its own key', async () => {
  const replay = ['replay', place.logOf('planner'), '--to', place.url];
  const asPlanner = await swarm(place.folder, replay, { env: { SWARM_ENV: 'planner.env' } });
  expect(asPlanner).toMatchObject({ code: 3, stderr: expect.stringContaining('Permissions Violation') });
  const asBoss = await swarm(place.folder, replay, { env: { SWARM_ENV: 'boss.env' } });
  expect(asBoss).toMatchObject({
    code: 0,
    stdout: expect.stringContaining('stream REPLAY holds 1 messages'),
  });
});

test('the configuration can be read by a person, and names every agent', () => {
  const text = readFileSync(join(place.folder, '.swarm/jetstream/nats-server.conf'), 'utf8');
  expect(text).toContain('# Who may connect, and what each may do.');
  for (const who of ['boss, the operator', 'planner', 'listener'])
    expect(text).toContain(`      # ${who}\n      {\n`);
  expect(text).toContain('"thread.*.planner"\n');
  expect(text).not.toContain('">"');
});

test('a second one in the same store is refused, and leaves the configuration of the first as it is', async () => {
  const file = join(place.folder, '.swarm/jetstream/nats-server.conf');
  const before = readFileSync(file, 'utf8');
  const [boss] = JSON.parse(readFileSync(place.keyring, 'utf8')).agents;
  writeFileSync(
    join(place.folder, 'alone.json'),
    JSON.stringify({ version: 1, operator: 'boss', agents: [boss] }),
  );
  const server = ['--server', await natsServerPath(), '--port', '0', '--no-monitor'];
  const second = await swarm(place.folder, [
    'up',
    '--secure',
    '--env',
    'boss.env',
    '--keyring',
    'alone.json',
    ...server,
  ]);
  expect(second).toMatchObject({
    code: 3,
    stderr: expect.stringContaining('another nats-server is at work'),
  });
  expect(readFileSync(file, 'utf8')).toBe(before);
});

describe('as the keyring changes', () => {
  test('newcomers get in, who leaves is put out, and the others stay connected', async () => {
    const planner = await place.busOf('planner');
    const braggart = await place.busOf('braggart');
    const said: string[] = [];
    const stop = busStatus.subscribe(({ status }) => said.push(status));
    const late = place.add('late', { durables: { late: 'thread.*.planner' } });
    await late;
    await broker.says(`swarm.keys.json has changed`);
    await using bus = await place.busOf('late');
    expect(await bus.manager.consumers.info('THREADS', 'late')).toMatchObject({ name: 'late' });
    expect([planner.session, braggart.session, said]).toEqual([1, 1, ['connected']]);

    await updateKeyring(place.keyring, (keyring) => {
      const { name = '', keys: known = [] } = keyring.named('late') ?? {};
      return withAgent(keyring, { name, keys: known, durables: { late: 'thread.*.boss' } });
    });
    await expect
      .poll(async () => (await bus.manager.consumers.info('THREADS', 'late')).config.filter_subject, {
        timeout: 20_000,
      })
      .toBe('thread.*.boss');

    const lost = new Promise((resolve) => braggart.listen({ disconnected: () => resolve(true) }));
    await updateKeyring(place.keyring, (keyring) => withoutAgent(keyring, 'braggart'));
    expect(await lost).toBe(true);
    expect(await planner.roundTripMs()).toBeGreaterThanOrEqual(0);
    expect([planner.session, planner.isConnected]).toEqual([1, true]);
    stop();
    await planner.close();
    await braggart.close();
  });

  test('a keyring that cannot be read, or leaves no operator, changes nothing', async () => {
    const good = readFileSync(place.keyring, 'utf8');
    writeFileSync(place.keyring, '{"version": 1');
    await broker.says('swarm.keys.json is not valid JSON');
    writeFileSync(place.keyring, good.replace('"operator": "boss"', '"operator": "planner"'));
    await broker.says('the operator in swarm.keys.json is planner');
    writeFileSync(place.keyring, good);
    await sleep(1_500);
    await using bus = await place.busOf('planner');
    expect(bus.isConnected).toBe(true);
  });
});

test('the name of a keyring says nothing to the server, whatever is in it', async () => {
  const odd = new SecuredPlace();
  await odd.add('boss');
  await updateKeyring(odd.keyring, (keyring) => withOperator(keyring, 'boss'));
  const named = 'keys\nmax_payload: 64\r\nmax_payload: 64\n#.json';
  renameSync(odd.keyring, join(odd.folder, named));
  const running = await odd.up('--env', 'boss.env', '--keyring', named);
  {
    await using bus = await odd.busOf('boss');
    expect(bus.maxPayload).toBe(1_048_576);
  }
  const text = readFileSync(join(odd.folder, '.swarm/jetstream/nats-server.conf'), 'utf8');
  expect(text).toContain('from the keyring keys\\nmax_payload: 64\\r\\nmax_payload: 64\\n#.json,\n');
  running.signal('SIGINT');
  await running.ended;
});

test('what a store has stays when it is started with --secure, and when it is started without', async () => {
  const other = new SecuredPlace();
  await other.add('boss');
  await updateKeyring(other.keyring, (keyring) => withOperator(keyring, 'boss'));
  const messages: number[] = [];
  for (const secure of [false, true, false]) {
    const args = ['up', '--server', await natsServerPath(), '--port', '0', '--no-monitor', '--json'];
    const running = secure
      ? await other.up('--env', 'boss.env')
      : start(other.folder, [...args, '--store', '.swarm/jetstream']);
    let printed = '';
    running.child.stdout?.on('data', (text: string) => {
      printed += text;
    });
    await running.says('Ctrl-C stops it');
    const url = secure ? other.url : JSON.parse(printed).url;
    {
      await using boss = await other.joinAs('boss', { url });
      await boss.publish('thread.t.boss', 'said');
      await using bus = secure ? await other.busOf('boss') : await connectBus({ url });
      messages.push((await bus.manager.streams.info('THREADS')).state.messages);
    }
    running.signal('SIGINT');
    await running.ended;
  }
  expect(messages).toEqual([1, 2, 3]);
});

test('it is the operator who runs it', async () => {
  const server = ['--server', await natsServerPath(), '--port', '0', '--no-monitor', '--store', 'other'];
  const byPlanner = await swarm(place.folder, ['up', '--secure', '--env', 'planner.env', ...server]);
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
  await using planner = await place.joinAs('planner');
  await planner.publish('thread.a.planner', 'for two');
  const sub = async (...args: string[]): Promise<{ code: number | null; stderr: string }> =>
    await swarm(place.folder, ['sub', '--count', '1', '--env', 'listener.env', ...args], {
      env: { NATS_URL: place.url },
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

describe('a keyring that changes', () => {
  /** A broker of its own, with all that it says. */
  async function another(): Promise<{ own: SecuredPlace; running: Running }> {
    const own = new SecuredPlace();
    await own.add('boss');
    await own.add('planner');
    await updateKeyring(own.keyring, (keyring) => withOperator(keyring, 'boss'));
    const running = await own.up('--env', 'boss.env');
    onTestFinished(async () => {
      running.signal('SIGINT');
      await running.ended;
    });
    return { own, running };
  }

  test('has the operator’s new key count, and the revoked one no longer', async () => {
    const { own, running } = await another();
    const thief = await own.clientOf('boss');
    const old = own.keyOf('boss').publicKey;
    expect(await swarm(own.folder, ['keys', 'new', '--force', '--env', 'boss.env'])).toMatchObject({
      code: 0,
    });
    expect(await swarm(own.folder, ['keys', 'revoke', old, '--from', 'a'.repeat(64)])).toMatchObject({
      code: 0,
    });
    await running.says('the server goes by it');
    await expect.poll(() => thief.isClosed()).toBe(true);
    await expect(own.clientOf('boss')).rejects.toThrow(/Authorization/i);
    await updateKeyring(own.keyring, (keyring) => withoutAgent(keyring, 'planner'));
    const comesIn = (): Promise<boolean> =>
      own.clientOf('planner').then(
        (client) => client.close().then(() => true),
        () => false,
      );
    await expect.poll(comesIn).toBe(false);
  });

  test('is followed once what kept the server from it is gone', async () => {
    const { own, running } = await another();
    const file = join(own.folder, '.swarm/jetstream/nats-server.conf');
    rmSync(file);
    mkdirSync(file);
    await own.add('late');
    await running.says('the server goes on as far as it could');
    await expect(own.clientOf('late')).rejects.toThrow();
    rmSync(file, { recursive: true });
    await running.says('the server goes by it');
    await (await own.clientOf('late')).close();
  });
});
