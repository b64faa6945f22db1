import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { AckPolicy, ReplayPolicy } from '@nats-io/jetstream';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Bus, connectBus } from '../../src/bus/connection.ts';
import { consumerDifferences, openConsumer } from '../../src/bus/consumer.ts';
import type { Deliveries } from '../../src/bus/deliveries.ts';
import { EncodedHeaders } from '../../src/bus/headers.ts';
import { type BusMessage, parseDelivery } from '../../src/bus/message.ts';
import { ensureStream } from '../../src/bus/stream.ts';
import { parseTime } from '../../src/bus/time.ts';
import type { NatsServer } from '../../src/server/nats-server.ts';
import { temporaryFolder } from '../support/folder.ts';
import { testServer } from '../support/nats.ts';
import { failureOf, freeze, newStream, publishMany, serverWith, statusesDuring } from './broker.ts';

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

const wait = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const textOf = ({ data }: BusMessage): string => Buffer.from(data).toString();

async function next(deliveries: Deliveries): Promise<BusMessage> {
  const { value } = await deliveries.next();
  if (value === undefined) throw new Error('the deliveries ended');
  return value;
}

/** Returns the next message, or `undefined` if none comes in `ms`. A message that comes later is lost. */
async function nextWithin(deliveries: Deliveries, ms: number): Promise<BusMessage | undefined> {
  return await Promise.race([next(deliveries), wait(ms).then(() => undefined)]);
}

describe('a delivery', () => {
  test('says where and when the stream keeps it, to the nanosecond', async () => {
    const stream = await newStream(bus);
    await publishMany(bus, stream, 3);
    await using deliveries = await openConsumer(bus, {
      stream: stream.name,
      durable: 'd',
      filter: 'thread.>',
    });
    for (const seq of [1, 2, 3]) {
      const message = await next(deliveries);
      const stored = await bus.manager.streams.getMessage(stream.name, { seq });
      expect(message.timestampNs).toBe(parseTime(stored?.timestamp ?? ''));
      expect(message.subject).toBe(stream.subject);
      expect(textOf(message)).toBe(String(seq - 1));
      expect(message.delivery).toMatchObject({
        stream: stream.name,
        consumer: 'd',
        seq,
        attempt: 1,
        pending: 3 - seq,
      });
      await message.ack();
    }
  });

  test.each([
    ['$JS.ACK.S.c.2.17.30.1730216238594927800.4', 1],
    ['$JS.ACK.domain.ACCOUNT.S.c.2.17.30.1730216238594927800.4', 1],
    ['$JS.ACK._.ACCOUNT.S.c.2.17.30.1730216238594927800.4.token', 1],
    ['$JS.ACK.S.c.2.17.30.1730216238594927800', 0],
    ['$JS.ACK.S.c.2.17.30.x.4', 0],
    ['$JS.ACK.S.c.2.-1.30.1730216238594927800.4', 0],
    ['_INBOX.S.c.2.17.30.1730216238594927800.4.5.6', 0],
    ['', 0],
  ])('is read from %j', (reply, is) => {
    const timestampNs = 1_730_216_238_594_927_800n;
    const expected = { stream: 'S', consumer: 'c', attempt: 2, seq: 17, timestampNs, pending: 4 };
    expect(parseDelivery(reply)).toEqual(is === 1 ? expected : undefined);
  });
});

describe('what becomes of a message', () => {
  test('acknowledged, it is done with before the promise resolves', async () => {
    const stream = await newStream(bus);
    await publishMany(bus, stream, 500);
    await using deliveries = await openConsumer(bus, { stream: stream.name, durable: 'd', filter: '>' });
    const acks: Promise<void>[] = [];
    for (let n = 0; n < 500; n++) acks.push((await next(deliveries)).ack());
    await Promise.all(acks);
    const info = await bus.manager.consumers.info(stream.name, 'd');
    expect(info).toMatchObject({ num_ack_pending: 0, num_pending: 0, ack_floor: { stream_seq: 500 } });
  });

  test('not acknowledged, it comes again after the ack wait, as attempt 2', async () => {
    const stream = await newStream(bus);
    await publishMany(bus, stream, 1);
    await using deliveries = await openConsumer(bus, {
      stream: stream.name,
      durable: 'd',
      filter: '>',
      ackWaitMs: 300,
    });
    expect(deliveries.ackWaitMs).toBe(300);
    expect((await next(deliveries)).attempt).toBe(1);
    const again = await next(deliveries);
    expect(again).toMatchObject({ seq: 1, attempt: 2 });
    await again.ack();
    expect(await nextWithin(deliveries, 600)).toBeUndefined();
  });

  test('refused for now, it comes again when asked for, and not earlier', async () => {
    const stream = await newStream(bus);
    await publishMany(bus, stream, 1);
    await using deliveries = await openConsumer(bus, { stream: stream.name, durable: 'd', filter: '>' });
    for (const delayMs of [0, 200, 400]) {
      const message = await next(deliveries);
      const refusedAt = performance.now();
      await message.nak(delayMs);
      const again = await next(deliveries);
      const afterMs = performance.now() - refusedAt;
      expect(again.attempt).toBe(message.attempt + 1);
      expect(afterMs).toBeGreaterThan(delayMs - 10);
      expect(afterMs).toBeLessThan(delayMs + 10_000); // not after the ack wait, of 30 s
      await again.nak();
    }
  });

  test('terminated, it never comes again', async () => {
    const stream = await newStream(bus);
    await publishMany(bus, stream, 1);
    await using deliveries = await openConsumer(bus, {
      stream: stream.name,
      durable: 'd',
      filter: '>',
      ackWaitMs: 200,
    });
    await (await next(deliveries)).term('bad-signature');
    expect(await nextWithin(deliveries, 600)).toBeUndefined();
    expect((await bus.manager.consumers.info(stream.name, 'd')).num_ack_pending).toBe(0);
  });

  test('worked on, it does not come again as long as one says so', async () => {
    const stream = await newStream(bus);
    await publishMany(bus, stream, 1);
    await using deliveries = await openConsumer(bus, {
      stream: stream.name,
      durable: 'd',
      filter: '>',
      ackWaitMs: 400,
    });
    const message = await next(deliveries);
    let came = false;
    const second = next(deliveries).finally(() => {
      came = true;
    });
    for (let n = 0; n < 6; n++) {
      await wait(200);
      message.working();
    }
    expect(came).toBe(false);
    expect((await second).attempt).toBe(2); // not any more
  });
});

describe('a sequence of deliveries', () => {
  test('begins where it is told to', async () => {
    const stream = await newStream(bus);
    await publishMany(bus, stream, 3);
    await using all = await openConsumer(bus, { stream: stream.name, durable: 'all', filter: '>' });
    await using late = await openConsumer(bus, {
      stream: stream.name,
      durable: 'late',
      filter: '>',
      deliver: 'new',
    });
    await publishMany(bus, stream, 1);
    expect((await next(all)).seq).toBe(1);
    expect((await next(late)).seq).toBe(4);
  });

  test('holds only what its filters let through', async () => {
    const stream = await newStream(bus);
    await publishMany(bus, { ...stream, subject: `${stream.subject}.a` as typeof stream.subject }, 1);
    await publishMany(bus, { ...stream, subject: `${stream.subject}.b` as typeof stream.subject }, 1);
    await publishMany(bus, { ...stream, subject: `${stream.subject}.c` as typeof stream.subject }, 1);
    const filter = [`${stream.subject}.c`, `${stream.subject}.a`];
    await using deliveries = await openConsumer(bus, { stream: stream.name, durable: 'd', filter });
    expect([(await next(deliveries)).seq, (await next(deliveries)).seq]).toEqual([1, 3]);
    await using same = await openConsumer(bus, {
      stream: stream.name,
      durable: 'd',
      filter: filter.toReversed(),
    });
    expect(same.name).toBe('d');
  });

  test('is shared by all who open the same durable, each message going to one', async () => {
    const stream = await newStream(bus);
    const open = (): Promise<Deliveries> =>
      openConsumer(bus, { stream: stream.name, durable: 'd', filter: '>', prefetch: 5 });
    const readers = await Promise.all([open(), open(), open()]);
    const seen: number[][] = readers.map(() => []);
    const reading = readers.map(async (reader, index) => {
      for await (const message of reader) {
        seen[index]?.push(message.seq);
        await message.ack();
      }
    });
    await publishMany(bus, stream, 600);
    while (seen.flat().length < 600) await wait(5);
    await Promise.all(readers.map((reader) => reader.stop()));
    await Promise.all(reading);
    expect(seen.flat().toSorted((a, b) => a - b)).toEqual(Array.from({ length: 600 }, (_, n) => n + 1));
    for (const mine of seen) expect(mine.length).toBeGreaterThan(0);
  });

  test('gives each message once to a slow reader, though many wait for longer than the ack wait', async () => {
    const stream = await newStream(bus);
    await publishMany(bus, stream, 25);
    await using deliveries = await openConsumer(bus, {
      stream: stream.name,
      durable: 'd',
      filter: '>',
      ackWaitMs: 400,
      prefetch: 25,
    });
    const seen: string[] = [];
    for (let n = 0; n < 25; n++) {
      const message = await next(deliveries);
      seen.push(`${message.seq}/${message.attempt}`);
      await wait(50);
      await message.ack();
    }
    expect(seen).toEqual(Array.from({ length: 25 }, (_, n) => `${n + 1}/1`));
  });

  test('is not disturbed by strangers who write to its inbox', async () => {
    const stream = await newStream(bus);
    await using stranger = await connectBus({ url: server.url });
    const inboxes = new Set<string>();
    stranger.subscribe(
      '$JS.API.CONSUMER.MSG.NEXT.>',
      ({ reply }) => inboxes.add(reply ?? ''),
      () => undefined,
    );
    await stranger.roundTripMs();
    await using deliveries = await openConsumer(bus, { stream: stream.name, durable: 'd', filter: '>' });
    while (inboxes.size === 0) await wait(5);
    for (const inbox of inboxes) {
      stranger.tell(inbox, 'hello');
      stranger.tell(inbox, 'hello', 'nowhere');
      stranger.tell(inbox, 'hello', '$JS.ACK.S.c.x.y.z.t.p');
      const { forClient } = new EncodedHeaders(Buffer.from('NATS/1.0 409\r\n\u0001 bad: name\r\n\r\n'));
      stranger.nats.publish(inbox, 'hello', { headers: forClient });
    }
    await stranger.roundTripMs();
    await publishMany(bus, stream, 1);
    expect(textOf(await next(deliveries))).toBe('0');
  });

  test('takes no deliveries of another consumer, which a stranger has sent to its inbox', async () => {
    const stream = await newStream(bus);
    await using stranger = await connectBus({ url: server.url });
    const inboxes = new Set<string>();
    stranger.subscribe(
      '$JS.API.CONSUMER.MSG.NEXT.>',
      ({ reply }) => inboxes.add(reply ?? ''),
      () => undefined,
    );
    await stranger.roundTripMs();
    const ours = { stream: stream.name, durable: 'ours', filter: `${stream.subject}.ours` };
    await using deliveries = await openConsumer(bus, ours);
    while (inboxes.size === 0) await wait(5);
    await stranger.manager.consumers.add(stream.name, { durable_name: 'theirs', ack_policy: 'explicit' });
    await publishMany(bus, stream, 1);
    for (const inbox of inboxes)
      stranger.tell(`$JS.API.CONSUMER.MSG.NEXT.${stream.name}.theirs`, '{"batch":1,"no_wait":true}', inbox);
    await stranger.roundTripMs();
    await bus.nats.request(`${stream.subject}.ours`, 'for us');
    expect(textOf(await next(deliveries))).toBe('for us');
  });

  test('is not torn by messages of no headers and no data: each comes once, in order', async () => {
    const { name, subject } = await newStream(bus);
    for (let n = 0; n < 1_000; n += 1) bus.nats.publish(subject, n % 3 === 0 ? '' : String(n));
    await bus.nats.flush();
    await using deliveries = await openConsumer(bus, {
      stream: name,
      durable: 'd',
      filter: '>',
      prefetch: 64,
    });
    for (let seq = 1; seq <= 1_000; seq += 1) {
      const message = await next(deliveries);
      expect([message.seq, message.attempt]).toEqual([seq, 1]);
      void message.ack();
    }
    const info = await bus.manager.consumers.info(name, 'd');
    expect(info.num_redelivered).toBe(0);
  });

  test('never holds more than was asked for, and reads on with a prefetch of one', async () => {
    const stream = await newStream(bus);
    await publishMany(bus, stream, 50);
    await using deliveries = await openConsumer(bus, {
      stream: stream.name,
      durable: 'd',
      filter: '>',
      prefetch: 1,
    });
    await wait(50);
    expect((await bus.manager.consumers.info(stream.name, 'd')).num_ack_pending).toBe(1);
    for (let seq = 1; seq <= 50; seq++) {
      const message = await next(deliveries);
      expect(message.seq).toBe(seq);
      await message.ack();
    }
  });

  test('gives back at the end what nobody has read, and others get it at once', async () => {
    const stream = await newStream(bus);
    await publishMany(bus, stream, 20);
    const open = (): Promise<Deliveries> =>
      openConsumer(bus, { stream: stream.name, durable: 'd', filter: '>' });
    const first = await open();
    const inHand = await next(first);
    await wait(50);
    await first.stop();
    expect(await first.next()).toEqual({ done: true, value: undefined });
    await using second = await open();
    const rest: number[] = [];
    while (rest.length < 19) rest.push((await next(second)).seq);
    expect(rest.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 19 }, (_, n) => n + 2));
    await inHand.ack(); // still possible
  });

  test('ends when a loop over it is left, and for whoever waits for the next', async () => {
    const stream = await newStream(bus);
    await publishMany(bus, stream, 2);
    const deliveries = await openConsumer(bus, { stream: stream.name, durable: 'd', filter: '>' });
    for await (const message of deliveries) {
      await message.ack();
      if (message.seq === 2) break;
    }
    expect(await deliveries.next()).toEqual({ done: true, value: undefined });
    const other = await openConsumer(bus, { stream: stream.name, durable: 'd', filter: '>' });
    const waiting = other.next();
    await other.stop();
    expect(await waiting).toEqual({ done: true, value: undefined });
  });

  test('without a name leaves nothing behind', async () => {
    const stream = await newStream(bus);
    const deliveries = await openConsumer(bus, { stream: stream.name, filter: '>' });
    expect((await bus.manager.streams.info(stream.name)).state.consumer_count).toBe(1);
    await deliveries.stop();
    expect((await bus.manager.streams.info(stream.name)).state.consumer_count).toBe(0);
  });
});

describe('a durable that exists otherwise is refused, with every difference', () => {
  test('another filter and another kind', async () => {
    const stream = await newStream(bus);
    await bus.manager.consumers.add(stream.name, {
      durable_name: 'd',
      filter_subject: stream.subject,
      ack_policy: AckPolicy.All,
      max_deliver: 5,
    });
    const { code, message } = await failureOf(
      openConsumer(bus, { stream: stream.name, durable: 'd', filter: 'thread.>' }),
    );
    expect(code).toBe('BUS_CONSUMER');
    expect(message).toBe(
      `consumer d of stream ${stream.name} exists otherwise: filter: ${stream.subject}, wanted thread.>; ack_policy: all, wanted explicit; max_deliver: 5, wanted unlimited. Use another name, or delete it (nats consumer rm ${stream.name} d)`,
    );
  });

  test.each([
    [{ deliver_subject: 'x' }, 'kind: push, wanted pull'],
    [{ max_batch: 5 }, 'max_batch: 5, wanted unlimited'],
    [{ headers_only: true }, 'headers_only: on, wanted off'],
    [{ inactive_threshold: 5e9 }, 'inactive_threshold: 5s, wanted none'],
    [{ filter_subject: 'a.b' }, 'filter: a.b, wanted >'],
    [{ backoff: [1e9, 5e9] }, 'backoff: 1s 5s, wanted none'],
    [{ replay_policy: ReplayPolicy.Original }, 'replay_policy: original, wanted instant'],
    [{ pause_until: '2999-01-01T00:00:00Z' }, 'pause_until: 2999-01-01T00:00:00Z, wanted none'],
    [{ filter_subjects: ['b.c', 'a.b'] }, 'filter: a.b b.c, wanted >'],
  ])('%j', (changed, difference) => {
    const wanted = { durable_name: 'd', ack_policy: AckPolicy.Explicit };
    expect(consumerDifferences(wanted, wanted)).toEqual([]);
    const past = { ...wanted, pause_until: '2001-01-01T00:00:00Z', max_ack_pending: 1 };
    expect(consumerDifferences(wanted, past)).toEqual([]); // it hands out again; one after another is no fault
    expect(consumerDifferences(wanted, { ...wanted, ...changed })).toEqual([difference]);
  });

  test.each(['', 'a.b', 'a b', '*', 'x'.repeat(65)])('the name %j is none', async (durable) => {
    const opening = openConsumer(bus, { stream: 'S', durable, filter: '>' });
    expect(await failureOf(opening)).toMatchObject({ code: 'USAGE' });
  });

  test('there is no such stream', async () => {
    const { code, message } = await failureOf(
      openConsumer(bus, { stream: 'NONE', durable: 'd', filter: '>' }),
    );
    expect(code).toBe('BUS_CONSUMER');
    expect(message).toContain('there is no such stream');
  });

  test('the server does not permit reading', async () => {
    await using closed = await serverWith(
      'authorization { users: [{ user: a, password: b, permissions: { publish: { deny: "$JS.API.CONSUMER.MSG.NEXT.>" } } }] }',
    );
    await using other = await connectBus({ url: `nats://a:b@127.0.0.1:${closed.port}` });
    const { name } = await newStream(other);
    await using deliveries = await openConsumer(other, { stream: name, durable: 'd', filter: '>' });
    const { code, message } = await failureOf(deliveries.next());
    expect(code).toBe('BUS_PERMISSION');
    expect(message).toContain(`$JS.API.CONSUMER.MSG.NEXT.${name}.d`);
  });
});

describe('a sequence of deliveries survives', () => {
  test('a server that is killed and restarted', async () => {
    await using mortal = await testServer();
    await using other = await connectBus({ url: mortal.url, reconnectWaitMs: 20 });
    const stream = await newStream(other);
    await publishMany(other, stream, 2_000);
    const deliveries = await openConsumer(other, {
      stream: stream.name,
      durable: 'd',
      filter: '>',
      ackWaitMs: 1_000,
    });
    const seen = new Set<number>();
    let killed = false;
    const reading = (async () => {
      for await (const message of deliveries) {
        seen.add(message.seq);
        // What the server forgot of it when it was killed, it delivers again.
        message.ack().catch(() => undefined);
        if (message.seq === 700 && !killed) {
          killed = true;
          mortal.kill('SIGKILL');
          await mortal.exited;
          await mortal.restart();
        }
      }
    })();
    const isDone = async (): Promise<boolean> => {
      const info = await other.manager.consumers.info(stream.name, 'd').catch(() => undefined);
      return info?.num_pending === 0 && info.num_ack_pending === 0;
    };
    while (seen.size < 2_000 || !(await isDone())) await wait(50);
    await deliveries.stop();
    await reading;
    await publishMany(other, stream, 1);
    await using again = await openConsumer(other, { stream: stream.name, durable: 'd', filter: '>' });
    expect((await next(again)).seq).toBe(2_001);
  });

  test('a consumer that is deleted: it goes on where all was acknowledged, and says so', async () => {
    const stream = await newStream(bus);
    await publishMany(bus, stream, 10);
    const first = await openConsumer(bus, { stream: stream.name, durable: 'd', filter: '>' });
    for (let n = 0; n < 4; n++) await (await next(first)).ack();
    await first.stop();
    await using deliveries = await openConsumer(bus, {
      stream: stream.name,
      durable: 'd',
      filter: '>',
      prefetch: 1,
    });
    const heard = await statusesDuring(async () => {
      const inHand = await next(deliveries);
      await bus.manager.consumers.delete(stream.name, 'd');
      const seen: number[] = [];
      while (!seen.includes(10)) {
        const message = await next(deliveries);
        seen.push(message.seq);
        if (message.delivery.attempt > 1) continue; // handed out before the consumer was lost
        await message.ack();
      }
      const started = performance.now();
      expect(await failureOf(inHand.ack())).toMatchObject({ code: 'BUS_UNCONFIRMED' });
      expect(performance.now() - started).toBeLessThan(1_000); // it does not ask, which takes seconds
      expect(seen.filter((seq) => seq < 5)).toEqual([]);
      expect(seen).toEqual(expect.arrayContaining([5, 6, 7, 8, 9, 10]));
    });
    expect(heard.map(({ detail }) => detail).join()).toContain(
      `consumer d of stream ${stream.name} was lost`,
    );
  });

  test('a broker that has lost everything, once there is a stream again', async () => {
    await using folder = await temporaryFolder();
    const storeDir = join(folder.path, 'store');
    await using mortal = await testServer({ storeDir });
    await using other = await connectBus({ url: mortal.url, reconnectWaitMs: 20 });
    const stream = await newStream(other);
    await publishMany(other, stream, 5);
    await using deliveries = await openConsumer(other, { stream: stream.name, durable: 'd', filter: '>' });
    for (let n = 0; n < 5; n++) await (await next(deliveries)).ack();
    mortal.kill('SIGKILL');
    await mortal.exited;
    await rm(join(storeDir, 'jetstream'), { recursive: true });
    const reconnected = new Promise<void>((resolve) => {
      other.listen({ reconnected: resolve });
    });
    await mortal.restart();
    await reconnected;
    await ensureStream(other, { name: stream.name, subjects: [`${stream.subject}`] });
    await publishMany(other, stream, 2);
    expect([(await next(deliveries)).seq, (await next(deliveries)).seq]).toEqual([1, 2]);
  });

  test('a frozen server: an acknowledgement waits and is confirmed', async () => {
    await using frozen = await testServer({ stopWithinMs: 0 });
    await using other = await connectBus({ url: frozen.url });
    const stream = await newStream(other);
    await publishMany(other, stream, 2);
    await using deliveries = await openConsumer(other, {
      stream: stream.name,
      durable: 'd',
      filter: '>',
      prefetch: 1,
    });
    const message = await next(deliveries);
    await freeze(frozen);
    const acked = message.ack();
    await wait(500);
    frozen.kill('SIGCONT');
    await acked;
    expect((await next(deliveries)).seq).toBe(2);
  });

  test('but not the end of the connection', async () => {
    const other = await connectBus({ url: server.url });
    const stream = await newStream(other);
    await publishMany(other, stream, 1);
    const deliveries = await openConsumer(other, { stream: stream.name, durable: 'd', filter: '>' });
    const message = await next(deliveries);
    const waiting = failureOf(deliveries.next());
    await other.close();
    expect(await waiting).toMatchObject({ code: 'BUS_CLOSED' });
    expect(await failureOf(deliveries.next())).toMatchObject({ code: 'BUS_CLOSED' });
    expect(await failureOf(message.ack())).toMatchObject({ code: 'BUS_CLOSED' });
    message.working();
    await deliveries.stop();
  });
});

test('an acknowledgement that the broker does not confirm in time is given up', async () => {
  await using frozen = await testServer({ stopWithinMs: 0 });
  await using other = await connectBus({ url: frozen.url });
  const stream = await newStream(other);
  await publishMany(other, stream, 1);
  await using deliveries = await openConsumer(other, {
    stream: stream.name,
    durable: 'd',
    filter: '>',
    ackWaitMs: 300,
  });
  const message = await next(deliveries);
  await freeze(frozen);
  expect(await failureOf(message.ack())).toMatchObject({ code: 'BUS_UNCONFIRMED' });
  frozen.kill('SIGCONT');
});
