import { join } from 'node:path';
import { expect, test } from 'vitest';
import { connectBus } from '../../src/bus/connection.ts';
import { ensureConsumer } from '../../src/bus/consumer.ts';
import { updateKeyring, withAgent, withOperator } from '../../src/identity/keyring-edit.ts';
import { natsServerPath, testServer } from '../support/nats.ts';
import { newFolder, saveAgent, start, swarm } from './swarm.ts';

interface Found {
  readonly code: number | null;
  readonly levels: Readonly<Record<string, string>>;
  readonly says: Readonly<Record<string, string>>;
}

async function doctor(folder: string, url: string, ...args: string[]): Promise<Found> {
  const { code, stdout } = await swarm(folder, ['doctor', '--url', url, '--json', ...args]);
  const { checks }: { checks: { name: string; level: string; says: string }[] } = JSON.parse(stdout);
  return {
    code,
    levels: Object.fromEntries(checks.map(({ name, level }) => [name, level])),
    says: Object.fromEntries(checks.map(({ name, says }) => [name, says])),
  };
}

test('all is well where all is there, but for a server that syncs late', async () => {
  const folder = newFolder();
  await saveAgent(folder, 'planner');
  await using server = await testServer({ monitorPort: 0 });
  expect((await swarm(folder, ['pub', 'thread.t.planner', '1', '--url', server.url])).code).toBe(0);
  const { code, levels, says } = await doctor(folder, server.url, '--monitor', String(server.monitorUrl));
  expect(levels).toEqual({
    keys: 'ok',
    disk: expect.stringMatching(/^(?:ok|warning)$/),
    broker: 'ok',
    settings: 'warning',
    streams: 'ok',
    clock: 'ok',
    'round trip': 'ok',
  });
  expect(says.settings).toMatch(/^sync_interval is 120 s: .*docs\/operations\.md/);
  expect(says['round trip']).toMatch(/^published, delivered, logged and verified in \d+ ms$/);
  expect(code).toBe(0);
  await using bus = await connectBus({ url: server.url });
  expect((await bus.manager.streams.info('THREADS')).state.consumer_count).toBe(0);

  await using other = await testServer({ monitorPort: 0 });
  const wrong = await doctor(folder, server.url, '--monitor', String(other.monitorUrl), '--no-round-trip');
  expect(wrong.says.settings).toContain('name one server alone with --url');
  const closed = await doctor(folder, server.url, '--monitor', 'http://127.0.0.1:1', '--no-round-trip');
  expect([closed.levels.settings, closed.levels['round trip'], closed.code]).toEqual([
    'unknown',
    undefined,
    0,
  ]);
});

test('a stream that is not there is not made by looking', async () => {
  const folder = newFolder();
  await saveAgent(folder, 'planner');
  await using server = await testServer();
  const { code, levels } = await doctor(folder, server.url);
  expect([levels.streams, levels['round trip'], code]).toEqual(['warning', 'unknown', 0]);
  await using bus = await connectBus({ url: server.url });
  await expect(bus.manager.streams.info('THREADS')).rejects.toThrow('stream not found');
});

test('what is not as it must be is named, and the exit code is 1', async () => {
  const folder = newFolder();
  await saveAgent(folder, 'planner');
  await saveAgent(folder, 'other', 'other.env');
  await using server = await testServer();
  await using bus = await connectBus({ url: server.url });
  await bus.manager.streams.add({ name: 'THREADS', subjects: ['thread.>'] });
  const { code, levels, says } = await doctor(folder, server.url);
  expect([levels.streams, levels['round trip'], code]).toEqual(['failed', 'failed', 1]);
  expect(says.streams).toContain('duplicate_window: 120s, wanted 30s');
  await updateKeyring(join(folder, 'swarm.keys.json'), (keyring) => {
    const { keys = [] } = keyring.named('planner') ?? {};
    return withAgent(keyring, {
      name: 'planner',
      keys,
      durables: { lost: 'thread.>', behind: 'thread.t.>' },
    });
  });
  await ensureConsumer(bus, { stream: 'THREADS', durable: 'behind', filter: 'thread.t.>' });
  expect((await swarm(folder, ['doctor', '--url', server.url])).stdout).toMatch(
    /^warning {2}durable +lost is not there yet.*\nok {7}durable +behind: 0 not handed out, 0 not acked$/m,
  );
});

test('where no broker answers, what can be looked at here is said, and the exit code is 3', async () => {
  const folder = newFolder();
  await saveAgent(folder, 'planner');
  const { code, levels, says } = await doctor(folder, 'nats://127.0.0.1:1');
  expect([levels.keys, levels.broker, code]).toEqual(['ok', 'failed', 3]);
  expect(says.broker).toContain('start one with `swarm up`');
  const nobody = await doctor(newFolder(), 'nats://127.0.0.1:1');
  expect(nobody.levels.keys).toBe('failed');
});

test('at a broker that knows the agents, each sees what it may', async () => {
  const folder = newFolder();
  await saveAgent(folder, 'boss');
  await saveAgent(folder, 'planner', 'planner.env');
  await updateKeyring(join(folder, 'swarm.keys.json'), (keyring) => withOperator(keyring, 'boss'));
  const server = ['--server', await natsServerPath(), '--port', '0', '--no-monitor', '--json'];
  const running = start(folder, ['up', '--secure', ...server]);
  let printed = '';
  running.child.stdout?.on('data', (text: string) => {
    printed += text;
  });
  await running.says('Ctrl-C stops it');
  const { url } = JSON.parse(printed);
  const boss = await doctor(folder, url);
  expect([boss.says['round trip'], boss.code]).toEqual([expect.stringMatching(/^published, delivered/), 0]);
  const planner = await doctor(folder, url, '--env', 'planner.env');
  expect([planner.says['round trip'], planner.code]).toEqual([
    expect.stringMatching(/^published, logged and verified in .* only the operator may create/),
    0,
  ]);
  running.signal('SIGINT');
  await running.ended;
});
