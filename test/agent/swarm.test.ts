/** The promises of docs/architecture.md, on a real nats-server. */

import { jetstream } from '@nats-io/jetstream';
import { connect } from '@nats-io/transport-node';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Message } from '../../src/agent/message.ts';
import type { NatsServer } from '../../src/server/nats-server.ts';
import { agentsIn, type Place } from '../support/agents.ts';
import { temporaryFolder } from '../support/log.ts';
import { testServer } from '../support/nats.ts';

let server: NatsServer;
let place: Place;
let threads = 0;
/** Tests share a broker, so each has a thread of its own. */
let thread: string;

beforeAll(async () => {
  server = await testServer();
  return () => server.stop();
});

beforeEach(async () => {
  place = await agentsIn(temporaryFolder(), server.url, ['planner', 'listener']);
  threads += 1;
  thread = `t${threads}`;
});

describe('a message', () => {
  test('is on the log before it leaves and before it is heard, and the second record names the first', async () => {
    await using planner = await place.join('planner');
    await using listener = await place.join('listener');
    const subject = `thread.${thread}.planner`;
    const { seq, record } = await planner.publish(subject, { hello: 'world', n: 1 });
    for await (const message of listener.subscribe(`thread.${thread}.>`, { durable: `d-${thread}` })) {
      expect(message.payload).toEqual({ hello: 'world', n: 1 });
      expect(message).toMatchObject({
        subject,
        threadId: thread,
        attempt: 1,
        seq,
        sender: { name: 'planner' },
      });
      expect(place.records().map(({ header }) => header.kind)).toEqual(['BUS.PUBLISH', 'BUS.DELIVER']);
      await message.ack();
      break;
    }
    const [published, delivered] = place.records();
    expect(published?.leaf).toBe(record.leaf);
    expect(delivered?.header).toMatchObject({
      cause: record.leaf,
      delivery: { stream: 'THREADS', seq, consumer: `d-${thread}`, attempt: 1 },
    });
    expect(await place.verify()).toMatchObject({ verified: 2, bad: 0, counted: { unresolved: 0 } });
  });

  test('is plain JSON to any other NATS client', async () => {
    await using planner = await place.join('planner');
    const { seq } = await planner.publish(`thread.${thread}.planner`, { hello: 'world', n: 1 });
    const plain = await connect({ servers: server.url });
    const stored = await (await jetstream(plain).jetstreamManager()).streams.getMessage('THREADS', { seq });
    await plain.close();
    expect(stored?.json()).toEqual({ hello: 'world', n: 1 });
  });

  test('of bytes arrives as these bytes', async () => {
    await using planner = await place.join('planner');
    await using listener = await place.join('listener');
    const bytes = Buffer.from([0, 0xff, 0x0a, 0x22]);
    await planner.publish(`thread.${thread}.planner`, bytes);
    const subscription = listener.subscribe(`thread.${thread}.*`, { durable: `d-${thread}` });
    const message = await subscription.next();
    expect(Buffer.from(message?.payload as Uint8Array)).toEqual(bytes);
    await message?.ack();
  });

  test('that is not acked comes again as another DELIVER with a higher attempt', async () => {
    await using planner = await place.join('planner');
    await using listener = await place.join('listener');
    await planner.publish(`thread.${thread}.planner`, 'again');
    const subscription = listener.subscribe(`thread.${thread}.>`, { durable: `d-${thread}` });
    await (await subscription.next())?.nak();
    const second = await subscription.next();
    expect(second?.attempt).toBe(2);
    await second?.ack();
    const attempts = place.records().map(({ header }) => header.delivery?.attempt);
    expect(attempts).toEqual([undefined, 1, 2]);
    expect(await place.verify()).toMatchObject({ bad: 0 });
  });
});

describe('a handler', () => {
  test('that publishes names the delivery it handles as the cause, however deep it awaits', async () => {
    await using planner = await place.join('planner');
    await using listener = await place.join('listener');
    const handling = await listener.handle(
      `thread.${thread}.planner`,
      { durable: `d-${thread}`, concurrency: 4 },
      async (message: Message) => {
        await new Promise((resolve) => setTimeout(resolve, 5));
        await listener.publish(`thread.${thread}.listener`, { answers: message.payload });
      },
    );
    await Promise.all([1, 2, 3, 4, 5].map((n) => planner.publish(`thread.${thread}.planner`, n)));
    await until(
      () => place.records().filter(({ header }) => header.subject.endsWith('.listener')).length === 5,
    );
    await handling.stop();
    const records = place.records();
    const byLeaf = new Map(records.map((record) => [record.leaf, record]));
    for (const record of records.filter(({ header }) => header.subject.endsWith('.listener'))) {
      const cause = byLeaf.get(record.header.cause ?? record.leaf);
      expect(cause?.header.kind).toBe('BUS.DELIVER');
      expect(record.payload?.toString()).toBe(`{"answers":${cause?.payload}}`);
    }
  });

  test('that throws has its message again, later; the others go on', async () => {
    await using planner = await place.join('planner');
    await using listener = await place.join('listener');
    const seen: [unknown, number][] = [];
    const errors: unknown[] = [];
    const handling = await listener.handle(
      `thread.${thread}.>`,
      { durable: `d-${thread}`, onError: (error) => errors.push(error) },
      (message) => {
        seen.push([message.payload, message.attempt]);
        if (message.payload === 'bad' && message.attempt === 1) throw new Error('not yet');
      },
    );
    await planner.publish(`thread.${thread}.planner`, 'bad');
    await planner.publish(`thread.${thread}.planner`, 'good');
    await until(() => seen.length === 3);
    await handling.stop();
    expect(seen).toEqual([
      ['bad', 1],
      ['good', 1],
      ['bad', 2],
    ]);
    expect(errors).toHaveLength(1);
  });

  test('finishes its message when the swarm closes, and the ack arrives', async () => {
    await using planner = await place.join('planner');
    const listener = await place.join('listener');
    let finished = false;
    let started = (): void => {};
    const atWork = new Promise<void>((resolve) => {
      started = resolve;
    });
    await listener.handle(`thread.${thread}.>`, { durable: `d-${thread}` }, async () => {
      started();
      await new Promise((resolve) => setTimeout(resolve, 200));
      finished = true;
    });
    await planner.publish(`thread.${thread}.planner`, 1);
    await atWork;
    await listener.close();
    expect(finished).toBe(true);
    await using again = await place.join('listener');
    await planner.publish(`thread.${thread}.planner`, 2);
    const next = await again.subscribe(`thread.${thread}.>`, { durable: `d-${thread}` }).next();
    expect(next?.payload).toBe(2);
  });
});

test('a handler that publishes while the swarm closes is let finish, its answer sent and its message acked', async () => {
  await using planner = await place.join('planner');
  const listener = await place.join('listener');
  const errors: unknown[] = [];
  let started = (): void => {};
  const atWork = new Promise<void>((resolve) => {
    started = resolve;
  });
  const options = { durable: `d-${thread}`, onError: (error: unknown) => errors.push(error) };
  await listener.handle(`thread.${thread}.planner`, options, async () => {
    started();
    await new Promise((resolve) => setTimeout(resolve, 200));
    await listener.publish(`thread.${thread}.listener`, 'the answer');
  });
  await planner.publish(`thread.${thread}.planner`, 1);
  await atWork;
  await listener.close();
  expect(errors).toEqual([]);
  expect(place.records().map(({ header }) => header.subject)).toContain(`thread.${thread}.listener`);
  await expect(listener.publish(`thread.${thread}.listener`, 2)).rejects.toMatchObject({
    code: 'BUS_CLOSED',
  });
});

describe('publishing is refused before anything is logged', () => {
  test.each([
    ['where the keyring does not let the agent', 'thread.x.listener', 1, 'PUBLISH_NOT_PERMITTED'],
    ['on a subject outside the grammar', 'thread.x y.planner', 1, 'SUBJECT_INVALID'],
    ['of a value without JSON', 'thread.x.planner', undefined, 'PAYLOAD_INVALID'],
    ['of a circle', 'thread.x.planner', circle(), 'PAYLOAD_INVALID'],
    ['of more than the server takes', 'thread.x.planner', 'x'.repeat(1 << 20), 'BUS_PAYLOAD_TOO_LARGE'],
  ])('%s', async (_, subject, payload, code) => {
    await using planner = await place.join('planner');
    await expect(planner.publish(subject, payload)).rejects.toMatchObject({ code });
    expect(place.records()).toEqual([]);
  });

  test('of so much that its headers leave no room; a little less arrives, however long they become', async () => {
    await using planner = await place.join('planner');
    const subject = `thread.${thread}.planner`;
    const options = { meta: { model: 'm'.repeat(100) }, trace: `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01` };
    const tooMuch = planner.publish(subject, Buffer.alloc((1 << 20) - 900), options);
    await expect(tooMuch).rejects.toMatchObject({ code: 'BUS_PAYLOAD_TOO_LARGE' });
    expect(place.records()).toEqual([]);
    const most = /headers up to (\d+),/.exec(String(await tooMuch.catch(String)))?.[1];
    const largest = Buffer.alloc((1 << 20) - Number(most));
    // Together, so that each has a path in the flush they share.
    const all = [largest, Buffer.from('x'), Buffer.from('y')].map((data) =>
      planner.publish(subject, data, options),
    );
    await expect(Promise.all(all)).resolves.toHaveLength(3);
    await expect(planner.publish(subject, Buffer.alloc(largest.length + 1), options)).rejects.toMatchObject({
      code: 'BUS_PAYLOAD_TOO_LARGE',
    });
  });

  test('by an agent whose key the keyring does not hold', async () => {
    const stranger = await agentsIn(temporaryFolder(), server.url, ['planner']);
    await using planner = await stranger.join('planner', { keyring: place.keyring });
    await expect(planner.publish('thread.x.planner', 1)).rejects.toMatchObject({
      code: 'PUBLISH_NOT_PERMITTED',
    });
  });
});

function circle(): unknown {
  const value: Record<string, unknown> = {};
  value.itself = value;
  return value;
}

/** Waits until `holds`, at most ten seconds. */
async function until(holds: () => boolean): Promise<void> {
  for (let tries = 0; !holds(); tries += 1) {
    if (tries > 500) throw new Error('it never came true');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
