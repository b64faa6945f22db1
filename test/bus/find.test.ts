import { afterAll, beforeAll, expect, test } from 'vitest';
import { parseSubject } from '../../src/base/subject.ts';
import { type Bus, connectBus } from '../../src/bus/connection.ts';
import { findById } from '../../src/bus/find.ts';
import { EncodedHeaders } from '../../src/bus/headers.ts';
import { Publisher } from '../../src/bus/publisher.ts';
import { readStored } from '../../src/bus/read-message.ts';
import type { NatsServer } from '../../src/server/nats-server.ts';
import { testServer } from '../support/nats.ts';
import { failureOf, fresh, newStream, publishMany } from './broker.ts';

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

const now = (): bigint => BigInt(Date.now()) * 1_000_000n;

test('a message is found by its id among thousands, with the time at which it was stored', async () => {
  const stream = await newStream(bus);
  await using publisher = new Publisher(bus, { stream: stream.name });
  const sinceNs = now();
  await publishMany(bus, stream, 1_500);
  const { seq } = await publisher.publish(stream.subject, Buffer.from('x'), fresh(5_000, 'wanted'));
  await publishMany(bus, stream, 1_500);
  const where = { stream: stream.name, subject: stream.subject, sinceNs };
  const found = await findById(bus, { ...where, id: 'wanted' });
  expect(found?.seq).toBe(seq);
  expect(found?.timestampNs).toBeGreaterThan(sinceNs);
  expect(found?.timestampNs).toBeLessThan(now() + 1_000_000_000n);
  expect(await findById(bus, { ...where, id: 'another' })).toBeUndefined();
  const { streams, consumers } = await bus.manager.getAccountInfo();
  expect([streams > 0, consumers]).toEqual([true, 0]); // it leaves nothing behind
});

test('a message of another subject, or from before, is not found', async () => {
  const stream = await newStream(bus);
  await using publisher = new Publisher(bus, { stream: stream.name });
  await publisher.publish(stream.subject, Buffer.from('x'), fresh(5_000, 'a'));
  const other = parseSubject(stream.subject.replace('planner', 'coder'));
  const where = { stream: stream.name, id: 'a' };
  expect(await findById(bus, { ...where, subject: other, sinceNs: 0n })).toBeUndefined();
  expect(
    await findById(bus, { ...where, subject: stream.subject, sinceNs: now() + 60_000_000_000n }),
  ).toBeUndefined();
  expect(await findById(bus, { ...where, subject: stream.subject, sinceNs: 0n })).toMatchObject({ seq: 1 });
});

test('a copy under a doctored id is not the message', async () => {
  const stream = await newStream(bus);
  const { forClient } = new EncodedHeaders(Buffer.from('NATS/1.0\r\nNats-Msg-Id: a \r\n\r\n'));
  await bus.nats.request(stream.subject, 'x', { timeout: 2_000, headers: forClient });
  expect(
    await findById(bus, { stream: stream.name, subject: stream.subject, id: 'a', sinceNs: 0n }),
  ).toBeUndefined();
});

test('a stream that is not there cannot be searched', async () => {
  const search = findById(bus, { stream: 'NONE', subject: 'thread.a.b', id: 'a', sinceNs: 0n });
  expect(await failureOf(search)).toMatchObject({
    code: 'BUS_STREAM',
    message: expect.stringMatching(/^cannot read the stream NONE at .*: there is no such stream$/),
  });
});

test('a message is read where the broker says that it is, and only it under its own id', async () => {
  const stream = await newStream(bus);
  await using publisher = new Publisher(bus, { stream: stream.name });
  const sinceNs = now() - 5_000_000n; // the broker's clock is not finer than ours by more
  await publisher.publish(stream.subject, Buffer.from('x'), fresh(5_000, 'a'));
  await publisher.publish(stream.subject, Buffer.from('y'), fresh(5_000, 'a '));
  const where = { stream: stream.name, seq: 1, id: 'a' };
  const found = await readStored(bus, where);
  expect(found?.seq).toBe(1);
  expect(found?.timestampNs).toBeGreaterThan(sinceNs);
  const same = await findById(bus, { ...where, subject: stream.subject, sinceNs });
  expect(same).toEqual(found);
  expect(await readStored(bus, { ...where, id: 'b' })).toBeUndefined();
  expect(await readStored(bus, { ...where, seq: 2 })).toBeUndefined(); // a blank makes it another id
  expect(await readStored(bus, { ...where, seq: 3 })).toBeUndefined();
  expect(await failureOf(readStored(bus, { ...where, stream: 'NONE' }))).toMatchObject({
    code: 'BUS_STREAM',
  });
});
