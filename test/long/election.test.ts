/** A cluster without a leader, on real servers. What one that loses its leader does to a swarm at work: broker-faults.test.ts. */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { connectBus } from '../../src/bus/connection.ts';
import { ensureConsumer } from '../../src/bus/consumer.ts';
import { ensureStream } from '../../src/bus/stream.ts';
import { equipServers } from '../../src/cli/equipping.ts';
import { configureServers } from '../../src/server/configuration.ts';
import { placesOfCluster, startNatsCluster } from '../../src/server/nats-cluster.ts';
import { failureOf, statusesDuring } from '../bus/broker.ts';
import { temporaryFolder } from '../support/folder.ts';
import { natsServerPath } from '../support/nats.ts';

const wanted = { name: 'THREADS', subjects: ['thread.>'], replicas: 3 };

test('a cluster without a leader is waited for, and told of once; in the end it is an error that says what it takes', async () => {
  await using folder = await temporaryFolder();
  const places = await placesOfCluster(join(folder.path, 'stores'), 3);
  const members = configureServers(places, () => ({ heading: ['For a test.'], users: 'anybody' }));
  await using cluster = await startNatsCluster(members, {
    path: await natsServerPath(),
    stopWithinMs: 1_000,
  });
  await equipServers(
    cluster,
    {},
    { stream: wanted.name },
    { until: new AbortController().signal, mayRestart: true },
  );
  const { url, servers } = cluster;
  const [first, second, third] = servers;
  if (first === undefined || second === undefined || third === undefined)
    throw new Error('a server is missing');
  for (const server of servers) {
    server.kill('SIGKILL');
    await server.exited;
  }
  await first.restart(); // alone it is no majority

  const { code, message } = await failureOf(connectBus({ url, leaderWithinMs: 1 }));
  expect(code).toBe('BUS_NO_JETSTREAM');
  expect(message).toContain('more than half of the servers must run');

  const statuses = await statusesDuring(async () => {
    const joining = (async () => {
      await using bus = await connectBus({ url, leaderWithinMs: 60_000 });
      const facts = await ensureStream(bus, wanted);
      await ensureConsumer(bus, { stream: wanted.name, durable: 'all', filter: 'thread.>' });
      return facts;
    })();
    await second.restart();
    expect(await joining).toMatchObject({ created: false, messages: 0 });
  });
  expect(statuses.filter(({ detail }) => detail.includes('which is waited for'))).not.toEqual([]);
});
