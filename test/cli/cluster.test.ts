import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { busOptionsOf } from '../../src/agent/self.ts';
import { readSettings } from '../../src/agent/settings.ts';
import { joinSwarm, type Swarm } from '../../src/agent/swarm.ts';
import { connectBus } from '../../src/bus/connection.ts';
import { updateKeyring, withAgent, withOperator } from '../../src/identity/keyring-edit.ts';
import { verifyLog } from '../../src/verify/verify.ts';
import { agentsIn } from '../support/agents.ts';
import { natsServerPath, testServer } from '../support/nats.ts';
import { newFolder, type Running, saveAgent, start } from './swarm.ts';

interface Facts {
  readonly url: string;
  readonly servers: readonly { readonly url: string; readonly pid: number }[];
}

async function up(folder: string, ...args: string[]): Promise<{ running: Running; facts: Facts }> {
  const server = ['--server', await natsServerPath(), '--port', '0', '--no-monitor', '--json'];
  const running = start(folder, ['up', '--cluster', '3', ...server, ...args]);
  let printed = '';
  running.child.stdout?.on('data', (text: string) => {
    printed += text;
  });
  await running.says('Ctrl-C stops them');
  return { running, facts: JSON.parse(printed) };
}

/** Runs a server of nobody's that would join the cluster, and resolves once it is refused. */
async function expectNoStranger(configFile: string): Promise<void> {
  const [, port] = /listen: 127\.0\.0\.1:(\d+)/.exec(readFileSync(configFile, 'utf8')) ?? [];
  const own = join(newFolder(), 'stranger.conf');
  writeFileSync(
    own,
    `cluster { name: swarm, listen: "127.0.0.1:-1", pool_size: -1, routes: [nats://127.0.0.1:${port}] }`,
  );
  const said: string[] = [];
  const onLog = (line: string): void => void said.push(line);
  await using _ = await testServer({ configFile: own, jetstream: false, onLog });
  await expect.poll(() => said.join('\n')).toMatch(/Authorization Violation/i);
}

test('a secured cluster goes on when the leader of the stream is killed under load, and loses nothing', async () => {
  const folder = newFolder();
  const boss = await saveAgent(folder, 'boss');
  await saveAgent(folder, 'planner', 'planner.env');
  const listener = await saveAgent(folder, 'listener', 'listener.env');
  const keyring = join(folder, 'swarm.keys.json');
  await updateKeyring(keyring, (before) => {
    const { keys = [] } = before.named('listener') ?? {};
    const changed = withAgent(before, { name: 'listener', keys, durables: { listener: 'thread.>' } });
    return withOperator(changed, 'boss');
  });
  const { running, facts } = await up(folder, '--secure');
  const joinAs = (name: string): Promise<Swarm> =>
    joinSwarm({
      env: join(folder, `${name}.env`),
      url: facts.url,
      keyring,
      log: join(folder, 'logs', `${name}.jsonl`),
      state: join(folder, 'sealed'),
      environment: {},
      replicas: 3,
    });
  await using bus = await connectBus(
    busOptionsOf(await readSettings({ url: facts.url, environment: {} }), boss, 'boss'),
  );
  const streamInfo = (): ReturnType<typeof bus.manager.streams.info> => bus.manager.streams.info('THREADS');
  await expectNoStranger(join(folder, '.swarm/jetstream/n1/nats-server.conf'));
  const { config, cluster } = await streamInfo();
  expect(config.num_replicas).toBe(3);
  const leader = facts.servers[Number(cluster?.leader?.slice(1)) - 1];
  if (leader === undefined) throw new Error(`no leader ${cluster?.leader}`);

  await using hearing = await joinAs('listener');
  const heard = new Map<string, unknown>();
  await hearing.handle('thread.>', { durable: 'listener' }, async ({ id, payload }) => {
    heard.set(id, payload);
  });
  await using speaking = await joinAs('planner');
  const published: Promise<{ seq: number }>[] = [];
  for (let n = 0; n < 300; n += 1) {
    published.push(speaking.publish('thread.t1.planner', { n }));
    if (n === 100) process.kill(leader.pid, 'SIGKILL');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  const places = (await Promise.all(published)).map(({ seq }) => seq);
  expect(new Set(places).size).toBe(300);
  await running.says('ended by itself (SIGKILL); 2 go on');
  await saveAgent(folder, 'late', 'late.env');
  await running.says('the server goes by it');
  await (await joinAs('late')).close();
  await expect.poll(() => heard.size).toBe(300);
  expect((await streamInfo()).state.messages).toBe(300);
  expect(listener.publicKey).toBe(hearing.publicKey);
  await speaking.close();
  await hearing.close();
  for (const name of ['planner', 'listener']) {
    const report = await verifyLog(join(folder, 'logs', `${name}.jsonl`), { keyring: hearing.keyring });
    expect(report.findings).toEqual([]);
  }
  await bus.close();
  running.signal('SIGINT');
  expect((await running.ended).code).toBe(0);

  // The same servers, with all that they keep, on other ports.
  const again = await up(folder, '--secure');
  await using later = await connectBus(
    busOptionsOf(await readSettings({ url: again.facts.url, environment: {} }), boss, 'boss'),
  );
  expect((await later.manager.streams.info('THREADS')).state.messages).toBe(300);
  await later.close();
  again.running.signal('SIGINT');
  expect((await again.running.ended).code).toBe(0);
}, 240_000);

test('an open cluster has its streams on every server before the first agent comes', async () => {
  const folder = newFolder();
  const { running, facts } = await up(folder);
  const configurations = (): string[] =>
    [1, 2, 3].map((n) => readFileSync(join(folder, `.swarm/jetstream/n${n}/nats-server.conf`), 'utf8'));
  const before = configurations();
  const second = start(folder, [
    'up',
    '--cluster',
    '3',
    '--server',
    await natsServerPath(),
    '--port',
    '0',
    '--no-monitor',
  ]);
  expect(await second.ended).toMatchObject({
    code: 3,
    stderr: expect.stringContaining('another nats-server is at work'),
  });
  expect(configurations()).toEqual(before);

  await using bus = await connectBus({ url: facts.url });
  for (const name of ['THREADS', 'CHECKPOINTS', 'DEAD']) {
    const { config, cluster } = await bus.manager.streams.info(name);
    expect([config.num_replicas, cluster?.replicas?.length]).toEqual([3, 2]);
  }
  await bus.manager.streams.delete('DEAD');
  const place = await agentsIn(newFolder(), facts.url, ['planner']);
  await using planner = await place.join('planner', { replicas: 3 });
  await planner.publish('thread.t.planner', 'hopeless');
  const message = await planner.subscribe('thread.>', { durable: 'planner' }).next();
  await message?.dead('hopeless');
  expect((await bus.manager.streams.info('DEAD')).config.num_replicas).toBe(3);
  await planner.close();
  await bus.close();
  running.signal('SIGINT');
  expect((await running.ended).code).toBe(0);
});
