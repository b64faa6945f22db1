/** When a stream is quiet, and when it only seems so. */
import { AckPolicy } from '@nats-io/jetstream';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parseSubject } from '../../src/base/subject.ts';
import { type Bus, connectBus } from '../../src/bus/connection.ts';
import { openConsumer } from '../../src/bus/consumer.ts';
import type { Deliveries } from '../../src/bus/deliveries.ts';
import type { BusMessage } from '../../src/bus/message.ts';
import { awaitQuiet } from '../../src/bus/quiet.ts';
import type { NatsServer } from '../../src/server/nats-server.ts';
import { testServer } from '../support/nats.ts';
import { failureOf, newStream, publishMany } from './broker.ts';

let server: NatsServer;
let bus: Bus;
beforeAll(async () => {
  server = await testServer();
  bus = await connectBus({ url: server.url });
});
afterAll(async () => {
  await bus.close();
  await server.stop();
});

async function next(deliveries: Deliveries): Promise<BusMessage> {
  const { value } = await deliveries.next();
  if (value === undefined) throw new Error('the deliveries ended');
  return value;
}

/** Returns what is said to be left in the stream of `name`. */
async function leftIn(name: string, ...durables: string[]): Promise<string> {
  const failure = await failureOf(awaitQuiet(bus, { stream: name, durables, withinMs: 150 }));
  expect(failure.code).toBe('NOT_QUIET');
  return failure.message.replace('the agents are still at work after 0.15 s: ', '');
}

test('not before each message is acked, one given back included', async () => {
  const stream = await newStream(bus);
  await publishMany(bus, stream, 2);
  await using deliveries = await openConsumer(bus, {
    stream: stream.name,
    durable: 'worker',
    filter: stream.subject,
  });
  const [first, second] = [await next(deliveries), await next(deliveries)];
  expect(await leftIn(stream.name, 'worker')).toBe('worker has not finished 2');
  await first.ack();
  await second.nak(400);
  expect(await leftIn(stream.name, 'worker')).toBe('worker has not finished 1');
  await (await next(deliveries)).ack();
  await awaitQuiet(bus, { stream: stream.name, durables: ['worker'], withinMs: 5_000 });
});

test('not while something was never handed out; what no filter takes does not count', async () => {
  const stream = await newStream(bus);
  const add = (name: string, filters: string[]): Promise<unknown> =>
    bus.manager.consumers.add(stream.name, {
      durable_name: name,
      ack_policy: AckPolicy.Explicit,
      filter_subjects: filters,
    });
  await add('idle', [`${stream.subject}.a`, `${stream.subject}.b`]);
  await publishMany(bus, stream, 2);
  await awaitQuiet(bus, { stream: stream.name, durables: ['idle'], withinMs: 5_000 });
  await publishMany(bus, { ...stream, subject: parseSubject(`${stream.subject}.b`) }, 1);
  expect(await leftIn(stream.name, 'idle')).toBe('idle has not been handed all');
});

test('not where one was looked at before the other, at work, said something to it', async () => {
  const stream = await newStream(bus);
  const [toOne, toOther] = ['one', 'other'].map((end) => parseSubject(`${stream.subject}.${end}`));
  if (toOne === undefined || toOther === undefined) throw new Error('two subjects');
  const open = (durable: string, filter: string): Promise<Deliveries> =>
    openConsumer(bus, { stream: stream.name, durable, filter });
  await using one = await open('one', toOne);
  await using other = await open('other', toOther);
  await publishMany(bus, { ...stream, subject: toOther }, 1);
  const atWork = await next(other);
  /** The bus, on which the other's work is done just before the other is looked at. */
  const { consumers, streams } = bus.manager;
  const info = async (name: string, durable: string): ReturnType<typeof consumers.info> => {
    if (durable === 'other') {
      await publishMany(bus, { ...stream, subject: toOne }, 1);
      await atWork.ack();
    }
    return await consumers.info(name, durable);
  };
  const watched = { manager: { streams, consumers: { info } } } as unknown as Bus;
  const looked = awaitQuiet(watched, { stream: stream.name, durables: ['one', 'other'], withinMs: 0 });
  expect((await failureOf(looked)).message).toContain('more is said');
  expect(await leftIn(stream.name, 'one', 'other')).toBe('one has not finished 1');
  await (await next(one)).ack();
  await awaitQuiet(bus, { stream: stream.name, durables: ['one', 'other'], withinMs: 5_000 });
});

test('a broker that does not say is an error', async () => {
  const failure = await failureOf(awaitQuiet(bus, { stream: 'none', durables: [], withinMs: 100 }));
  expect(failure).toMatchObject({ code: 'BUS_STREAM', message: expect.stringContaining('stream none') });
});
