import { afterAll, beforeAll, expect, test } from 'vitest';
import { parseSubject } from '../../src/base/subject.ts';
import { type Bus, connectBus } from '../../src/bus/connection.ts';
import { findSent } from '../../src/bus/find.ts';
import { EncodedHeaders, encodeHeaders, type HeaderValues } from '../../src/bus/headers.ts';
import { Publisher } from '../../src/bus/publisher.ts';
import { isStoredAsSent, readStored } from '../../src/bus/read-message.ts';
import type { NatsServer } from '../../src/server/nats-server.ts';
import { testServer } from '../support/nats.ts';
import { failureOf, fresh, newStream, publishMany, sentAs } from './broker.ts';

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
  const where = { stream: stream.name, sinceNs };
  const found = await findSent(bus, { ...where, message: sentAs('wanted', stream.subject, 'x') });
  expect(found?.seq).toBe(seq);
  expect(found?.timestampNs).toBeGreaterThan(sinceNs);
  expect(found?.timestampNs).toBeLessThan(now() + 1_000_000_000n);
  expect(await findSent(bus, { ...where, message: sentAs('another', stream.subject, 'x') })).toBeUndefined();
  const { streams, consumers } = await bus.manager.getAccountInfo();
  expect([streams > 0, consumers]).toEqual([true, 0]); // it leaves nothing behind
});

test('a message of another subject, or from before, is not found', async () => {
  const stream = await newStream(bus);
  await using publisher = new Publisher(bus, { stream: stream.name });
  await publisher.publish(stream.subject, Buffer.from('x'), fresh(5_000, 'a'));
  const other = parseSubject(stream.subject.replace('planner', 'coder'));
  const where = { stream: stream.name, message: sentAs('a', stream.subject, 'x') };
  expect(await findSent(bus, { ...where, message: sentAs('a', other, 'x'), sinceNs: 0n })).toBeUndefined();
  expect(await findSent(bus, { ...where, sinceNs: now() + 60_000_000_000n })).toBeUndefined();
  expect(await findSent(bus, { ...where, sinceNs: 0n })).toMatchObject({ seq: 1 });
});

test('a message under the same id is another one by its words, or by a header', async () => {
  const stream = await newStream(bus);
  await using publisher = new Publisher(bus, { stream: stream.name });
  const headers = { From: 'planner' };
  await publisher.publish(stream.subject, Buffer.from('x'), { ...fresh(5_000, 'a'), headers });
  const found = (data: string, having: HeaderValues): ReturnType<typeof findSent> => {
    const message = { ...sentAs('a', stream.subject, data), headers: encodeHeaders('a', having) };
    return findSent(bus, { stream: stream.name, message, sinceNs: 0n });
  };
  expect(await found('x', headers)).toMatchObject({ seq: 1 });
  expect(await found('x', {})).toMatchObject({ seq: 1 }); // more headers do no harm
  expect(await found('y', headers)).toBeUndefined();
  expect(await found('x', { From: 'coder' })).toBeUndefined();
  expect(await found('x', { From: ['planner', 'planner'] })).toBeUndefined();
  expect(await found('x', { ...headers, To: 'coder' })).toBeUndefined();
});

test('a copy under a doctored id is not the message', async () => {
  const stream = await newStream(bus);
  const { forClient } = new EncodedHeaders(Buffer.from('NATS/1.0\r\nNats-Msg-Id: a \r\n\r\n'));
  await bus.nats.request(stream.subject, 'x', { timeout: 2_000, headers: forClient });
  expect(
    await findSent(bus, {
      stream: stream.name,
      message: sentAs('a', stream.subject, 'x'),
      sinceNs: 0n,
    }),
  ).toBeUndefined();
});

test('a stream that is not there cannot be searched', async () => {
  const search = findSent(bus, { stream: 'NONE', message: sentAs('a', 'thread.a.b', 'x'), sinceNs: 0n });
  expect(await failureOf(search)).toMatchObject({
    code: 'BUS_STREAM',
    message: expect.stringMatching(/^cannot read the stream NONE at .*: there is no such stream$/),
  });
});

test('a message is read where the broker says that it is, and told from others there', async () => {
  const stream = await newStream(bus);
  await using publisher = new Publisher(bus, { stream: stream.name });
  const sinceNs = now() - 5_000_000n; // the broker's clock is not finer than ours by more
  await publisher.publish(stream.subject, Buffer.from('x'), fresh(5_000, 'a'));
  await publisher.publish(stream.subject, Buffer.from('x'), fresh(5_000, 'a '));
  const message = sentAs('a', stream.subject, 'x');
  const [first, second] = [
    await readStored(bus, { stream: stream.name, seq: 1 }),
    await readStored(bus, { stream: stream.name, seq: 2 }),
  ];
  if (first === undefined || second === undefined) throw new Error('it is not there');
  expect(first.timestampNs).toBeGreaterThan(sinceNs);
  expect(await findSent(bus, { stream: stream.name, message, sinceNs })).toEqual({
    seq: 1,
    timestampNs: first.timestampNs,
  });
  expect(isStoredAsSent(first, message)).toBe(true);
  expect(isStoredAsSent(first, sentAs('b', stream.subject, 'x'))).toBe(false);
  expect(isStoredAsSent(second, message)).toBe(false); // a blank makes it another id
  expect(await readStored(bus, { stream: stream.name, seq: 3 })).toBeUndefined();
  expect(await failureOf(readStored(bus, { stream: 'NONE', seq: 1 }))).toMatchObject({
    code: 'BUS_STREAM',
  });
});
