import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseSubject } from '../../src/base/subject.ts';
import { type Bus, connectBus } from '../../src/bus/connection.ts';
import { openConsumer } from '../../src/bus/consumer.ts';
import { openPublisher, Publisher } from '../../src/bus/publisher.ts';
import { type BrokerError, isPassing, PublishError, reasonOf } from '../../src/bus/refusal.ts';
import type { NatsServer } from '../../src/server/nats-server.ts';
import { temporaryFolder } from '../support/folder.ts';
import { testServer } from '../support/nats.ts';
import { failureOf, freeze, fresh, newStream, serverWith } from './broker.ts';

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

const data = Buffer.from('{"n":1}');

describe('publish', () => {
  test('resolves with the place in the stream, in the order of the calls', async () => {
    const { name, subject } = await newStream(bus);
    await using publisher = openPublisher(bus, { stream: name, window: 7 });
    const results = await Promise.all(
      Array.from({ length: 500 }, () => publisher.publish(subject, data, fresh())),
    );
    expect(results).toEqual(results.map((_, index) => ({ seq: index + 1, duplicate: false })));
    expect(publisher.pending).toBe(0);
  });

  test('sends payload and headers untouched, the id among them', async () => {
    const { name, subject } = await newStream(bus);
    await using publisher = openPublisher(bus, { stream: name });
    const payload = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
    const headers = { 'Swarm-Record': '{"a":"b"}', traceparent: '00-1-2-01' };
    await publisher.publish(subject, payload, { ...fresh(5_000, 'the-id'), headers });
    await publisher.publish(subject, Buffer.alloc(0), fresh());
    const deliveries = await openConsumer(bus, { stream: name, filter: subject });
    const { value: first } = await deliveries.next();
    const { value: second } = await deliveries.next();
    expect(Buffer.from(first?.data ?? [])).toEqual(payload);
    expect(first?.headers.names()).toEqual(['Nats-Msg-Id', 'Swarm-Record', 'traceparent']);
    expect(first?.headers.messageId).toBe('the-id');
    expect(first?.headers.values('Swarm-Record')).toEqual(['{"a":"b"}']);
    expect(second?.data.length).toBe(0);
    await deliveries.stop();
  });

  test('of an id that the stream has already resolves with where it has it', async () => {
    const { name, subject } = await newStream(bus);
    await using publisher = openPublisher(bus, { stream: name });
    const options = fresh();
    expect(await publisher.publish(subject, data, options)).toEqual({ seq: 1, duplicate: false });
    await publisher.publish(subject, data, fresh());
    expect(await publisher.publish(subject, data, options)).toEqual({ seq: 1, duplicate: true });
  });

  test('of more than the server takes is refused before anything is sent', async () => {
    const { name, subject } = await newStream(bus);
    await using publisher = openPublisher(bus, { stream: name });
    const tooLarge = await failureOf(publisher.publish(subject, Buffer.alloc(bus.maxPayload), fresh()));
    expect(tooLarge).toMatchObject({
      code: 'BUS_PAYLOAD_TOO_LARGE',
      reason: 'too-large',
      mayBeStored: false,
    });
    expect(tooLarge.message).toMatch(
      /headers and payload are 10486\d\d bytes, the server takes 1048576; send less/,
    );
    const largest = Buffer.alloc(bus.maxPayload - 'NATS/1.0\r\nNats-Msg-Id: x\r\n\r\n'.length);
    expect(await publisher.publish(subject, largest, fresh(15_000, 'x'))).toMatchObject({ seq: 1 });
  });

  test('of large messages keeps what is under way within bounds, and all arrive', async () => {
    const { name, subject } = await newStream(bus);
    await using publisher = openPublisher(bus, { stream: name });
    const large = Buffer.alloc(1_000_000);
    const results = await Promise.all(
      Array.from({ length: 50 }, () => publisher.publish(subject, large, fresh())),
    );
    expect(results.map(({ seq }) => seq)).toEqual(results.map((_, index) => index + 1));
  });

  test('of something that is not fresh any more sends nothing', async () => {
    const { name, subject } = await newStream(bus);
    await using publisher = openPublisher(bus, { stream: name });
    expect(await failureOf(publisher.publish(subject, data, fresh(-1)))).toMatchObject({
      code: 'BUS_UNCONFIRMED',
      reason: 'unconfirmed',
      mayBeStored: false,
    });
    expect((await bus.manager.streams.info(name)).state.messages).toBe(0);
  });
});

describe('a refusal says why, in words and in a word', () => {
  test('the stream is full', async () => {
    const { name, subject } = await newStream(bus, { maxMessages: 3 });
    await using publisher = openPublisher(bus, { stream: name });
    const outcomes = await Promise.allSettled(
      Array.from({ length: 5 }, () => publisher.publish(subject, data, fresh())),
    );
    expect(outcomes.map(({ status }) => status)).toEqual([
      ...Array.from({ length: 3 }, () => 'fulfilled'),
      ...Array.from({ length: 2 }, () => 'rejected'),
    ]);
    const failure = outcomes
      .map((outcome) => (outcome.status === 'rejected' ? outcome.reason : undefined))
      .at(-1);
    expect(failure).toBeInstanceOf(PublishError);
    expect(failure).toMatchObject({
      code: 'BUS_REFUSED',
      message: `${subject} was refused: maximum messages exceeded`,
      reason: 'stream-full',
      brokerCode: 10077,
      mayBeStored: false,
    });
    expect((await bus.manager.streams.info(name)).state).toMatchObject({ messages: 3, first_seq: 1 });
  });

  test('there is no such stream', async () => {
    await using publisher = openPublisher(bus, { stream: 'NONE' });
    expect(await failureOf(publisher.publish(parseSubject('thread.none.a'), data, fresh()))).toMatchObject({
      code: 'BUS_REFUSED',
      message: 'thread.none.a was refused: there is no stream NONE',
      reason: 'no-stream',
      mayBeStored: false,
    });
  });

  test('the stream does not hold such subjects', async () => {
    const { name, subject } = await newStream(bus);
    await using publisher = openPublisher(bus, { stream: name });
    const stray = publisher.publish(parseSubject('elsewhere.a'), data, fresh());
    const good = publisher.publish(subject, data, fresh());
    expect(await failureOf(stray)).toMatchObject({
      code: 'BUS_REFUSED',
      reason: 'not-in-stream',
      mayBeStored: false,
    });
    expect(await good).toMatchObject({ seq: 1 });
  });

  test('another stream took it', async () => {
    const { subject } = await newStream(bus);
    const { name } = await newStream(bus);
    await using publisher = openPublisher(bus, { stream: name });
    expect(await failureOf(publisher.publish(subject, data, fresh()))).toMatchObject({
      code: 'BUS_REFUSED',
      reason: 'other-stream',
      mayBeStored: true,
    });
  });

  test('the server does not permit the subject: that publish fails at once, and no other', async () => {
    await using closed = await serverWith(
      'authorization { users: [{ user: a, password: b, permissions: { publish: { deny: "thread.*.secret" } } }] }',
    );
    await using other = await connectBus({ url: `nats://a:b@127.0.0.1:${closed.port}` });
    const { name, subject } = await newStream(other);
    const secret = parseSubject(subject.replace('planner', 'secret'));
    await using publisher = openPublisher(other, { stream: name, ackWithinMs: 12_000 });
    const started = performance.now();
    const outcomes = await Promise.allSettled(
      Array.from({ length: 300 }, (_, n) => publisher.publish(n % 3 === 0 ? secret : subject, data, fresh())),
    );
    expect(performance.now() - started).toBeLessThan(10_000); // before anything would be sent again
    expect(outcomes.map(({ status }) => status)).toEqual(
      outcomes.map((_, n) => (n % 3 === 0 ? 'rejected' : 'fulfilled')),
    );
    expect(outcomes[0]).toMatchObject({
      reason: {
        code: 'BUS_PERMISSION',
        message: `the server does not permit publishing on ${secret}`,
        reason: 'not-permitted',
        mayBeStored: false,
      },
    });
  });

  test('the server does not permit the inbox any more: nothing could ever be confirmed', async () => {
    await using folder = await temporaryFolder();
    const configFile = join(folder.path, 'server.conf');
    const config = (permissions: string): string =>
      `authorization { users: [{ user: a, password: b, permissions: {${permissions}} }] }`;
    await writeFile(configFile, config(''));
    await using changing = await testServer({ configFile });
    const url = `nats://a:b@127.0.0.1:${changing.port}`;
    await using other = await connectBus({ url, inboxPrefix: 'mine', reconnectWaitMs: 20 });
    const { name, subject } = await newStream(other);
    await using publisher = new Publisher(other, { stream: name });
    await publisher.publish(subject, data, fresh());
    await writeFile(configFile, config('subscribe: { deny: "mine.>" }'));
    const reconnected = new Promise<void>((resolve) => {
      other.listen({ reconnected: resolve });
    });
    await changing.restart();
    await reconnected;
    const failure = await failureOf(publisher.publish(subject, data, fresh()));
    expect(failure).toMatchObject({ code: 'BUS_PERMISSION', reason: 'not-permitted' });
    expect(failure.message).toContain('choose another inboxPrefix');
  });
});

test('while JetStream is down publishes wait, and go on when it is back', async () => {
  await using folder = await temporaryFolder();
  const configFile = join(folder.path, 'server.conf');
  const on = `jetstream { store_dir: "${folder.path}/store" }`;
  await writeFile(configFile, on);
  await using switched = await testServer({ configFile, jetstream: false });
  await using other = await connectBus({ url: switched.url, reconnectWaitMs: 20 });
  const { name, subject } = await newStream(other);
  await using publisher = openPublisher(other, { stream: name, ackWithinMs: 200 });
  await writeFile(configFile, '');
  await switched.restart();
  const published = publisher.publish(subject, data, fresh());
  await new Promise((resolve) => setTimeout(resolve, 400));
  expect(publisher.pending).toBe(1);
  await writeFile(configFile, on);
  await switched.restart();
  expect(await published).toEqual({ seq: 1, duplicate: false });
});

describe('close', () => {
  test('waits for what is under way, and takes nothing more', async () => {
    const { name, subject } = await newStream(bus);
    const publisher = openPublisher(bus, { stream: name });
    const all = Array.from({ length: 3_000 }, () => publisher.publish(subject, data, fresh()));
    await publisher.close();
    expect((await Promise.all(all)).at(-1)).toEqual({ seq: 3_000, duplicate: false });
    expect(await failureOf(publisher.publish(subject, data, fresh()))).toMatchObject({
      code: 'BUS_CLOSED',
      mayBeStored: false,
    });
    await publisher.close();
  });

  test('gives up what the broker does not answer in time', async () => {
    await using frozen = await testServer({ stopWithinMs: 0 });
    await using other = await connectBus({ url: frozen.url });
    const { name, subject } = await newStream(other);
    const publisher = openPublisher(other, { stream: name, window: 1 });
    await freeze(frozen);
    const failures = [1, 2].map(() => failureOf(publisher.publish(subject, data, fresh())));
    await new Promise((resolve) => setImmediate(resolve));
    await publisher.close(50);
    const [sent, waiting] = await Promise.all(failures);
    expect(sent).toMatchObject({ code: 'BUS_CLOSED', reason: 'closed', mayBeStored: true });
    expect(waiting).toMatchObject({ code: 'BUS_CLOSED', reason: 'closed', mayBeStored: false });
  });

  test('of the connection rejects what it had not sent or heard of', async () => {
    const other = await connectBus({ url: server.url });
    const { name, subject } = await newStream(other);
    const publisher = openPublisher(other, { stream: name, window: 1 });
    const failures = Array.from({ length: 2_000 }, () =>
      publisher.publish(subject, data, fresh()).catch((e) => e),
    );
    await other.close();
    const outcomes = await Promise.all(failures);
    expect(outcomes.at(-1)).toMatchObject({ code: 'BUS_CLOSED' });
    expect(await failureOf(publisher.publish(subject, data, fresh()))).toMatchObject({ code: 'BUS_CLOSED' });
    expect(
      await failureOf(openPublisher(other, { stream: name }).publish(subject, data, fresh())),
    ).toMatchObject({
      code: 'BUS_CLOSED',
    });
  });
});

const brokerError = (err_code: number, description = ''): BrokerError => ({
  code: 500,
  err_code,
  description,
});

test.each([
  [brokerError(10077, 'maximum bytes exceeded'), 'stream-full'],
  [brokerError(10077, 'maximum messages per subject exceeded'), 'stream-full'],
  [brokerError(10077, 'no space left on device'), 'store-failed'],
  [brokerError(10054), 'too-large'],
  [brokerError(10109), 'stream-sealed'],
  [brokerError(10047), 'server-full'],
  [brokerError(10002), 'account-full'],
  [brokerError(19999), 'broker-19999'],
])('%j is recorded as %s and does not pass', (error, reason) => {
  expect(reasonOf(error)).toBe(reason);
  expect(isPassing(error)).toBe(false);
});

test.each([10008, 10009, 10118, 10158, 10167])('the broker error %d passes', (code) => {
  expect(isPassing(brokerError(code))).toBe(true);
});
