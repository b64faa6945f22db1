/** Publishing through freezes and lost connections. What a killed server does to a swarm: test/long/broker-faults.test.ts. */
import { expect, test } from 'vitest';
import { type Bus, connectBus } from '../../src/bus/connection.ts';
import { openConsumer } from '../../src/bus/consumer.ts';
import { findSent } from '../../src/bus/find.ts';
import { openPublisher } from '../../src/bus/publisher.ts';
import { cableTo } from '../support/cable.ts';
import { testServer } from '../support/nats.ts';
import { failureOf, freeze, fresh, newStream, sentAs } from './broker.ts';

const wait = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Returns the payloads in the stream, in its order. */
async function payloads(bus: Bus, stream: string): Promise<string[]> {
  const deliveries = await openConsumer(bus, { stream, filter: '>', maxAckPending: 10_000, prefetch: 1_000 });
  const all: string[] = [];
  for await (const { data, delivery } of deliveries) {
    all.push(Buffer.from(data).toString());
    if (delivery.pending === 0) break;
  }
  return all;
}

test('a frozen server whose connection is given up gets everything again, and keeps it once', async () => {
  await using server = await testServer({ stopWithinMs: 0 });
  await using bus = await connectBus({ url: server.url, reconnectWaitMs: 20, pingIntervalMs: 100 });
  const { name, subject } = await newStream(bus);
  await using publisher = openPublisher(bus, { stream: name, ackWithinMs: 200 });
  const before = publisher.publish(subject, Buffer.from('0'), fresh());
  await before;
  await freeze(server);
  const publishes = Array.from({ length: 500 }, (_, n) =>
    publisher.publish(subject, Buffer.from(String(n + 1)), fresh()),
  );
  while (bus.isConnected) await wait(20);
  server.kill('SIGCONT');
  await Promise.all(publishes);
  expect(bus.session).toBeGreaterThan(1);
  expect(await payloads(bus, name)).toEqual(Array.from({ length: 501 }, (_, n) => String(n)));
});

test('what was not confirmed in time is given up, and can be found afterwards', async () => {
  await using server = await testServer({ stopWithinMs: 0 });
  await using bus = await connectBus({ url: server.url });
  const { name, subject } = await newStream(bus);
  await using publisher = openPublisher(bus, { stream: name, window: 1 });
  await freeze(server);
  const sent = publisher.publish(subject, Buffer.from('sent'), fresh(300, 'sent'));
  const waiting = publisher.publish(subject, Buffer.from('waiting'), fresh(300, 'waiting'));
  const failures = await Promise.all([failureOf(sent), failureOf(waiting)]);
  server.kill('SIGCONT');
  expect(failures).toMatchObject([
    { code: 'BUS_UNCONFIRMED', reason: 'unconfirmed', mayBeStored: true },
    { code: 'BUS_UNCONFIRMED', reason: 'unconfirmed', mayBeStored: false },
  ]);
  await bus.roundTripMs();
  const found = (words: string): ReturnType<typeof findSent> =>
    findSent(bus, { stream: name, message: sentAs(words, subject, words), sinceNs: 0n });
  expect(await found('sent')).toMatchObject({ seq: 1 });
  expect(await found('waiting')).toBeUndefined();
});

test('a search that the server does not answer at first is tried again, and finds', async () => {
  await using server = await testServer();
  await using bus = await connectBus({ url: server.url });
  const { name, subject } = await newStream(bus);
  await using publisher = openPublisher(bus, { stream: name });
  await publisher.publish(subject, Buffer.from('1'), fresh(15_000, 'here'));
  await freeze(server);
  const found = findSent(bus, {
    stream: name,
    message: sentAs('here', subject, '1'),
    sinceNs: 0n,
    withinMs: 20_000,
  });
  await wait(5_500); // longer than a request waits
  server.kill('SIGCONT');
  expect(await found).toMatchObject({ seq: 1 });
});

test('what is published without a connection waits for one, and is given up if none comes', async () => {
  await using server = await testServer();
  await using bus = await connectBus({ url: server.url, reconnectWaitMs: 20 });
  const { name, subject } = await newStream(bus);
  await using publisher = openPublisher(bus, { stream: name });
  server.kill('SIGKILL');
  await server.exited;
  while (bus.isConnected) await wait(5);
  const patient = publisher.publish(subject, Buffer.from('patient'), fresh());
  const hasty = await failureOf(publisher.publish(subject, Buffer.from('hasty'), fresh(300)));
  expect(hasty).toMatchObject({ code: 'BUS_UNCONFIRMED', mayBeStored: false });
  expect(hasty.message).toContain('there was no connection');
  await server.restart();
  expect(await patient).toEqual({ seq: 1, duplicate: false });
});

test.each([
  ['fresh', 10_000, { seq: 1, duplicate: true }],
  ['stale', -1, { code: 'BUS_UNCONFIRMED', mayBeStored: true }],
])('what had to be sent twice is looked up, and counts if it was stored %s', async (_, fromMs, outcome) => {
  await using server = await testServer();
  const cable = await cableTo(server.port);
  await using bus = await connectBus({ url: `nats://127.0.0.1:${cable.port}`, reconnectWaitMs: 20 });
  const { name, subject } = await newStream(bus);
  await using publisher = openPublisher(bus, { stream: name });
  cable.mute(); // the first answer is lost
  // Receivers take it from a time on that the broker's clock has reached, or not.
  const freshFromNs = BigInt(Date.now() - fromMs) * 1_000_000n + (fromMs < 0 ? 60_000_000_000n : 0n);
  const published = publisher
    .publish(subject, Buffer.from('1'), { ...fresh(), freshFromNs })
    .catch((failure: unknown) => failure);
  await wait(200);
  cable.cut();
  await cable.mend();
  expect(await published).toMatchObject(outcome);
});
