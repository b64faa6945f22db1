/** What becomes of a message that the broker refuses, or does not answer for. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { jetstream } from '@nats-io/jetstream';
import { connect } from '@nats-io/transport-node';
import { describe, expect, onTestFinished, test } from 'vitest';
import { Outbox } from '../../src/agent/outbox.ts';
import { systemClock } from '../../src/base/clock.ts';
import { parseSubject } from '../../src/base/subject.ts';
import { connectBus } from '../../src/bus/connection.ts';
import { openPublisher } from '../../src/bus/publisher.ts';
import { PublishError } from '../../src/bus/refusal.ts';
import { ensureStream, threadsStream } from '../../src/bus/stream.ts';
import { SigningKey } from '../../src/identity/key.ts';
import { openLog } from '../../src/log/writer.ts';
import type { NatsServer } from '../../src/server/nats-server.ts';
import { agentsIn, type Place } from '../support/agents.ts';
import { cableTo } from '../support/cable.ts';
import { linesOf, temporaryFolder } from '../support/log.ts';
import { testServer } from '../support/nats.ts';

describe('a publish that the broker refuses', () => {
  test('for want of room is rejected, and a BUS.UNSENT names it', async () => {
    await using server = await testServer();
    const place = await agentsIn(temporaryFolder(), server.url, ['planner']);
    await using planner = await place.join('planner');
    await planner.publish('thread.t.planner', 1);
    const admin = await connect({ servers: server.url });
    const streams = (await jetstream(admin).jetstreamManager()).streams;
    await streams.update('THREADS', { max_msgs: 1 });
    await admin.close();
    await expect(planner.publish('thread.t.planner', 2)).rejects.toMatchObject({
      code: 'BUS_REFUSED',
      message: expect.stringContaining('maximum messages exceeded'),
    });
    const [, refused, unsent] = place.records();
    expect(unsent?.header).toMatchObject({
      kind: 'BUS.UNSENT',
      cause: refused?.leaf,
      reason: 'stream-full',
      payloadHash: refused?.header.payloadHash,
    });
    expect(unsent?.payload?.toString()).toBe('2');
    expect(await place.verify({ requirePayloads: true })).toMatchObject({ verified: 3, bad: 0 });
  });

  test('for want of a permission is rejected alone: what is sent beside it arrives', async () => {
    const folder = temporaryFolder();
    const configFile = join(folder, 'nats.conf');
    writeFileSync(
      configFile,
      `authorization { users: [ { user: planner, password: secret, permissions: {
        publish: ["$JS.>", "thread.allowed.>"], subscribe: [">"] } }, { user: admin, password: secret } ] }`,
    );
    await using server = await testServer({ configFile });
    const withUser = (user: string): string => server.url.replace('//', `//${user}:secret@`);
    const place = await agentsIn(folder, withUser('planner'), ['planner']);
    await using planner = await place.join('planner');
    const results = await Promise.allSettled([
      planner.publish('thread.allowed.planner', 1),
      planner.publish('thread.forbidden.planner', 2),
      planner.publish('thread.allowed.planner', 3),
    ]);
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    expect(results[1]).toMatchObject({ reason: { code: 'BUS_PERMISSION' } });
    const unsent = place.records().filter(({ header }) => header.kind === 'BUS.UNSENT');
    expect(unsent.map(({ header }) => [header.subject, header.reason])).toEqual([
      ['thread.forbidden.planner', 'not-permitted'],
    ]);
  });
});

describe('a publish that the broker answers too late', () => {
  test('is said anew, names the record before it as its cause, and is handled once under one id', async () => {
    await using server = await testServer();
    const place = await agentsIn(temporaryFolder(), server.url, ['planner', 'listener']);
    const duplicateWindowMs = 2_000; // a record is fresh for one second
    await using planner = await place.join('planner', { duplicateWindowMs });
    await using listener = await place.join('listener', { duplicateWindowMs });
    server.kill('SIGSTOP');
    const published = planner.publish('thread.t.planner', 'late');
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    server.kill('SIGCONT');
    const { record } = await published;
    const first = place.records()[0];
    expect(record.leaf).not.toBe(first?.leaf);
    expect(record.header.cause).toBe(first?.leaf);
    const subscription = listener.subscribe('thread.t.>', { durable: 'd' });
    const message = await subscription.next();
    expect(message).toMatchObject({ payload: 'late', id: `${first?.header.signer}/${first?.leaf}` });
    await message?.ack();
    const next = await Promise.race([
      subscription.next(),
      new Promise((resolve) => setTimeout(resolve, 300, 'none')),
    ]);
    expect(next).toBe('none');
    expect(await place.verify()).toMatchObject({ bad: 0 });
  });

  test('is sent again under its own id once a killed server is back, and not said anew', async () => {
    await using server = await testServer();
    const place = await agentsIn(temporaryFolder(), server.url, ['planner']);
    await using planner = await place.join('planner');
    await planner.publish('thread.t.planner', 'before');
    const pending = Promise.all([1, 2, 3, 4, 5].map((n) => planner.publish('thread.t.planner', n)));
    server.kill('SIGKILL');
    await server.exited;
    await server.restart();
    const seqs = (await pending).map(({ seq }) => seq);
    expect(new Set(seqs).size).toBe(5);
    expect(place.records().filter(({ header }) => header.kind === 'BUS.PUBLISH')).toHaveLength(6);
  });
});

test('a publish just before the swarm closes is waited for, also while it is only being logged', async () => {
  await using server = await testServer();
  const place = await agentsIn(temporaryFolder(), server.url, ['planner']);
  const planner = await place.join('planner');
  const published = planner.publish('thread.t.planner', 'in time');
  await planner.close();
  await expect(published).resolves.toMatchObject({ seq: 1 });
});

test('a publish while the broker is away for long is said anew once it is back', async () => {
  await using server = await testServer();
  const place = await agentsIn(temporaryFolder(), server.url, ['planner']);
  await using planner = await place.join('planner', { duplicateWindowMs: 2_000 });
  server.kill('SIGKILL');
  await server.exited;
  const published = planner.publish('thread.t.planner', 'patience');
  await new Promise((resolve) => setTimeout(resolve, 2_500));
  await server.restart();
  const { seq, record } = await published;
  const [first] = place.records();
  expect([seq, record.header.cause]).toEqual([1, first?.leaf]);
});

describe('a clock that is not the broker’s', () => {
  const second = 1_000_000_000n;
  const wait = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
  /** A clock that can be set. */
  function clockSetBy(start: bigint): { clock: () => bigint; step(ns: bigint): void } {
    const real = systemClock();
    let offset = start;
    return {
      clock: () => real() + offset,
      step: (ns) => {
        offset += ns;
      },
    };
  }

  test('and goes behind it does not make a publish count that every receiver finds stale', async () => {
    await using server = await testServer();
    const place = await agentsIn(temporaryFolder(), server.url, ['planner', 'listener']);
    const duplicateWindowMs = 4_000; // a record is fresh for two seconds
    const { clock } = clockSetBy((-3n * second) / 2n);
    await using planner = await place.join('planner', { duplicateWindowMs, clock });
    server.kill('SIGKILL');
    await server.exited;
    const published = planner.publish('thread.t.planner', 'late');
    await wait(700); // the planner's clock says that it is fresh for more than a second still, the broker's that it is not
    await server.restart();
    const { record } = await published;
    const [first] = place.records();
    expect(record.header.cause).toBe(first?.leaf);
    await using listener = await place.join('listener', { duplicateWindowMs });
    const message = await listener.subscribe('thread.t.>', { durable: 'd' }).next();
    expect(message?.record.leaf).toBe(record.leaf);
    await message?.ack();
    expect(place.records().filter(({ header }) => header.kind === 'BUS.REJECT')).toEqual([]);
  });

  test.each([
    ['forward', 60n * second],
    ['back', -60n * second],
  ])('because it steps %s while a publish waits does not make it count either', async (_, step) => {
    await using server = await testServer();
    const place = await agentsIn(temporaryFolder(), server.url, ['planner']);
    const duplicateWindowMs = 4_000;
    const { clock, step: stepClock } = clockSetBy(0n);
    await using planner = await place.join('planner', { duplicateWindowMs, clock });
    server.kill('SIGKILL');
    await server.exited;
    const failed = expect(planner.publish('thread.t.planner', 'late')).rejects.toMatchObject({
      code: 'BUS_CLOCK',
    });
    stepClock(step);
    await wait(2_500);
    await server.restart();
    await failed;
    const kinds = place.records().map(({ header }) => [header.kind, header.reason]);
    expect(kinds).toEqual([
      ['BUS.PUBLISH', undefined],
      ['BUS.UNSENT', 'clock'],
    ]);
    stepClock(-step);
    await expect(planner.publish('thread.t.planner', 'in time')).resolves.toMatchObject({ seq: 1 });
  });

  test('because it stepped while nothing was said fails the next publish, which receivers refuse', async () => {
    await using server = await testServer();
    const place = await agentsIn(temporaryFolder(), server.url, ['planner']);
    const { clock, step } = clockSetBy(0n);
    await using planner = await place.join('planner', { clock });
    step(60n * second);
    await expect(planner.publish('thread.t.planner', 1)).rejects.toMatchObject({ code: 'BUS_CLOCK' });
    step(-60n * second);
    await expect(planner.publish('thread.t.planner', 2)).resolves.toMatchObject({ seq: 2 });
    const [refused, unsent] = place.records(); // the stream has a copy, which is stale
    expect(unsent?.header).toMatchObject({ kind: 'BUS.UNSENT', cause: refused?.leaf, reason: 'clock' });
    expect(await planner.reconcile()).toMatchObject({ differences: [], counted: { unsent: 1, stale: 1 } });
  });
});

test('leaving while the broker is away says nothing anew, and logs what was certainly not sent', async () => {
  await using server = await testServer();
  const place = await agentsIn(temporaryFolder(), server.url, ['planner']);
  const planner = await place.join('planner', { duplicateWindowMs: 1_000 });
  server.kill('SIGKILL');
  await server.exited;
  const failed = expect(planner.publish('thread.t.planner', 1)).rejects.toMatchObject({ code: 'BUS_CLOSED' });
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  await planner.close();
  await failed;
  const [published, ...rest] = place.records();
  expect(rest.map(({ header }) => [header.kind, header.cause, header.reason])).toEqual([
    ['BUS.UNSENT', published?.leaf, 'closed'],
  ]);
});

describe('where it is open whether the stream has a message', () => {
  /** A server whose one user may publish on `allowed` alone; it can be told otherwise and restarted. */
  async function strictServer(
    allowed: string,
  ): Promise<{ server: NatsServer; url: string; allow(allowed: string): void }> {
    const configFile = join(temporaryFolder(), 'nats.conf');
    const allow = (subjects: string): void =>
      writeFileSync(
        configFile,
        `authorization { users: [ { user: planner, password: secret, permissions: {
          publish: { ${subjects} }, subscribe: [">"] } } ] }`,
      );
    allow(allowed);
    const server = await testServer({ configFile });
    onTestFinished(() => server.stop());
    return { server, url: server.url.replace('//', '//planner:secret@'), allow };
  }
  const unsentIn = (place: Place): unknown[] =>
    place
      .records()
      .filter(({ header }) => header.kind === 'BUS.UNSENT')
      .map(({ header }) => header.reason);

  test('and the search for it goes unanswered, publish fails with BUS_UNCONFIRMED and says nothing anew', async () => {
    const { server, url } = await strictServer(
      'deny: ["$JS.API.CONSUMER.CREATE.>", "$JS.API.STREAM.MSG.GET.>"]',
    );
    const place = await agentsIn(temporaryFolder(), url, ['planner']);
    await using planner = await place.join('planner', { duplicateWindowMs: 1_000 });
    server.kill('SIGSTOP');
    const failed = expect(planner.publish('thread.t.planner', 1)).rejects.toMatchObject({
      code: 'BUS_UNCONFIRMED',
      message: expect.stringContaining('cannot be found out'),
    });
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    server.kill('SIGCONT');
    await failed;
    expect(place.records().map(({ header }) => header.kind)).toEqual(['BUS.PUBLISH']);
  });

  test('because its permission was withdrawn before the answer came, it is looked for, and found', async () => {
    const { server, url, allow } = await strictServer('allow: [">"]');
    const cable = await cableTo(server.port);
    const place = await agentsIn(temporaryFolder(), url.replace(`:${server.port}`, `:${cable.port}`), [
      'planner',
    ]);
    await using planner = await place.join('planner');
    await planner.publish('thread.t.planner', 'before');
    cable.mute(); // what the server answers is lost
    const published = planner.publish('thread.t.planner', 'in between');
    await new Promise((resolve) => setTimeout(resolve, 300));
    cable.cut();
    allow('allow: ["$JS.>"]');
    await server.restart();
    await cable.mend();
    await expect(published).resolves.toMatchObject({ seq: 2 });
    expect(unsentIn(place)).toEqual([]);
  });

  test('and its permission was withdrawn before it was sent, it is refused, and what is permitted goes on', async () => {
    const { server, url, allow } = await strictServer('allow: [">"]');
    const place = await agentsIn(temporaryFolder(), url, ['planner']);
    await using planner = await place.join('planner');
    await planner.publish('thread.t.planner', 1);
    server.kill('SIGKILL');
    await server.exited;
    const outcomes = Promise.allSettled([
      planner.publish('thread.t.planner', 2),
      planner.publish('thread.other.planner', 3),
    ]);
    allow('allow: ["$JS.>", "thread.other.>"]');
    await server.restart();
    expect(await outcomes).toMatchObject([
      { status: 'rejected', reason: { code: 'BUS_PERMISSION' } },
      { status: 'fulfilled', value: { seq: 2 } },
    ]);
    expect(unsentIn(place)).toEqual(['not-permitted']);
  });

  test('after a refusal that may concern a second copy, it is looked for, and found', async () => {
    await using server = await testServer();
    await using bus = await connectBus({ url: server.url });
    await ensureStream(bus, threadsStream);
    const publisher = openPublisher(bus, { stream: 'THREADS' });
    const path = join(temporaryFolder(), 'swarm.jsonl');
    await using log = await openLog(path, { key: SigningKey.generate() });
    // The one thing that no real server does on demand: it takes the first copy and refuses the second.
    const refusing = {
      publish: async (...parts: Parameters<typeof publisher.publish>) => {
        await publisher.publish(...parts);
        throw new PublishError('BUS_REFUSED', 'full', { reason: 'stream-full', mayBeStored: true });
      },
      measureClock: () => publisher.measureClock(),
      close: () => publisher.close(),
    };
    const freshForNs = 15_000_000_000n;
    const outbox = new Outbox({ bus, publisher: refusing, log, stream: 'THREADS', freshForNs });
    const draft = {
      subject: parseSubject('thread.t.planner'),
      kind: 'BUS.PUBLISH',
      payload: Buffer.from('1'),
    };
    await expect(outbox.send(draft)).resolves.toMatchObject({ seq: 1 });
    await outbox.close();
    expect(linesOf(path)).toHaveLength(1);
  });
});
