/** Messages on their way from the broker to whoever takes them: kept, given back, and what a log that fails does. */
import { rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { connect } from '@nats-io/transport-node';
import { beforeAll, beforeEach, expect, onTestFinished, test } from 'vitest';
import type { Swarm } from '../../src/agent/swarm.ts';
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

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function publish(planner: Swarm, count: number): Promise<void> {
  for (let n = 0; n < count; n += 1) await planner.publish(`thread.${thread}.planner`, n);
}

test('messages that wait for longer than the ack wait, because others wait before them, are delivered once', async () => {
  await using planner = await place.join('planner');
  await using listener = await place.join('listener');
  await publish(planner, 6);
  const options = { durable: `d-${thread}`, ahead: 2, ackWaitMs: 1_000 };
  const subscription = listener.subscribe(`thread.${thread}.>`, options);
  await sleep(3_000);
  for (let n = 0; n < 6; n += 1) {
    const message = await subscription.next();
    expect([message?.payload, message?.attempt]).toEqual([n, 1]);
    await message?.ack();
  }
  await subscription.stop();
  const delivered = place.records().filter(({ header }) => header.kind === 'BUS.DELIVER');
  expect(delivered).toHaveLength(6);
});

test('no more are asked for than are wanted, not counting the refused; the others are left to the next one as new', async () => {
  await using planner = await place.join('planner');
  await using listener = await place.join('listener');
  const subject = `thread.${thread}.planner`;
  const nats = await connect({ servers: server.url });
  await nats.request(subject, '"unsigned"');
  await publish(planner, 1);
  await nats.request(subject, '"unsigned"');
  await nats.close();
  await publish(planner, 4);
  const options = { durable: `d-${thread}` };
  const payloadsOf = async (atMost: number): Promise<unknown[]> => {
    await using subscription = listener.subscribe(subject, { ...options, atMost });
    const payloads: unknown[] = [];
    while (payloads.length < atMost) {
      const message = await subscription.next();
      payloads.push([message?.payload, message?.attempt]);
      await message?.ack();
    }
    await sleep(200);
    return payloads;
  };
  expect(await payloadsOf(2)).toEqual([
    [0, 1],
    [0, 1],
  ]);
  expect(place.records().filter(({ header }) => header.kind === 'BUS.DELIVER')).toHaveLength(2);
  expect(await payloadsOf(3)).toEqual([
    [1, 1],
    [2, 1],
    [3, 1],
  ]);
});

test('a trace goes with the message into its delivery and what is said in answer', async () => {
  await using planner = await place.join('planner');
  await using listener = await place.join('listener');
  const trace = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`;
  await planner.publish(`thread.${thread}.planner`, 1, { trace });
  const message = await listener.subscribe(`thread.${thread}.planner`, { durable: `d-${thread}` }).next();
  if (message === undefined) throw new Error('the subscription ended');
  await listener.publish(`thread.${thread}.listener`, 2, { cause: message });
  await message.ack();
  expect(place.records().map(({ header }) => header.trace)).toEqual([trace, trace, trace]);
});

test('a log that fails ends every wait for a message, and gives back what was not taken', async () => {
  await using planner = await place.join('planner');
  const full = join(temporaryFolder(), 'full.jsonl');
  symlinkSync('/dev/full', full); // a disk without room, as the system itself offers one
  const options = { durable: `d-${thread}` };
  {
    await using listener = await place.join('listener', { log: full, seal: false });
    const subscription = listener.subscribe(`thread.${thread}.>`, options);
    await subscription.ready();
    const waits = Promise.allSettled([subscription.next(), subscription.next()]);
    await publish(planner, 1);
    for (const wait of await waits) {
      expect(wait).toMatchObject({ status: 'rejected', reason: { code: 'LOG_WRITE_FAILED' } });
    }
    await planner.publish(`thread.${thread}.planner`, 'later');
    await using other = await place.join('listener');
    const message = await other.subscribe(`thread.${thread}.>`, options).next();
    expect([message?.payload, message?.attempt]).toEqual(['later', 1]);
    await message?.ack();
  }
  rmSync(full);
});

test('closing while the broker is away does not wait for it once for each message', async () => {
  const away = await testServer();
  onTestFinished(() => away.stop());
  const there = await agentsIn(temporaryFolder(), away.url, ['planner', 'listener']);
  const planner = await there.join('planner');
  const listener = await there.join('listener');
  await publish(planner, 6);
  const subscription = listener.subscribe(`thread.${thread}.>`, { durable: 'd', ackWaitMs: 3_000 });
  await subscription.next();
  away.kill('SIGKILL');
  await away.exited;
  const started = performance.now();
  await Promise.all([planner.close(), listener.close()]);
  expect(performance.now() - started).toBeLessThan(12_000); // once for each is 18 s
});
