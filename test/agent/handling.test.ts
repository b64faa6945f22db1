/** Handlers at work: whose word counts, what is kept from coming twice, and how they end. */
import { readFileSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { jetstreamManager } from '@nats-io/jetstream';
import { connect } from '@nats-io/transport-node';
import { beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import type { Message } from '../../src/agent/message.ts';
import type { Swarm } from '../../src/agent/swarm.ts';
import type { NatsServer } from '../../src/server/nats-server.ts';
import { agentsIn, type Place } from '../support/agents.ts';
import { cableTo } from '../support/cable.ts';
import { temporaryFolder } from '../support/log.ts';
import { testServer } from '../support/nats.ts';

let server: NatsServer;
let place: Place;
let threads = 0;
/** Tests share a broker, so each has a thread and a durable of its own. */
let thread: string;
let filter: string;
let durable: string;

beforeAll(async () => {
  server = await testServer();
  return () => server.stop();
});

beforeEach(async () => {
  place = await agentsIn(temporaryFolder(), server.url, ['planner', 'listener']);
  threads += 1;
  thread = `t${threads}`;
  filter = `thread.${thread}.>`;
  durable = `d-${thread}`;
});

const wait = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const never = new Promise<void>(() => undefined);

async function say(...payloads: unknown[]): Promise<void> {
  await using planner = await place.join('planner');
  for (const payload of payloads) await planner.publish(`thread.${thread}.planner`, payload);
}

/** Waits until `holds`, at most ten seconds. */
async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let tries = 0; !(await holds()); tries += 1) {
    if (tries > 500) throw new Error('it never came true');
    await wait(20);
  }
}

/** Returns how many messages the broker waits to hear of. */
async function pendingAcks(): Promise<number> {
  const plain = await connect({ servers: server.url });
  try {
    const manager = await jetstreamManager(plain);
    return (await manager.consumers.info('THREADS', durable)).num_ack_pending;
  } finally {
    await plain.close();
  }
}

/** Returns how long `work` takes, in ms. */
async function timeOf(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work();
  return performance.now() - started;
}

/** Joins as the listener and handles with `handler`; resolves once a handler is at work. */
async function atWork(
  handler: (message: Message, swarm: Swarm) => Promise<void>,
  options: { concurrency?: number; finishWithinMs?: number } = {},
): Promise<Swarm> {
  const swarm = await place.join('listener');
  const { concurrency = 1 } = options;
  let started = 0;
  await swarm.handle(filter, { durable, ...options }, async (message) => {
    started += 1;
    await until(() => started === concurrency); // otherwise the first could close before the last has come
    await handler(message, swarm);
  });
  await say(...Array.from({ length: concurrency }, (_, n) => n));
  await until(() => started === concurrency);
  return swarm;
}

describe('a handler that settles its message itself is taken at its word', () => {
  test('a nak lets it come again, whatever the handler returns', async () => {
    await using listener = await place.join('listener');
    const attempts: number[] = [];
    await listener.handle(filter, { durable }, async (message) => {
      attempts.push(message.attempt);
      if (message.attempt === 1) await message.nak(500);
    });
    await say(1);
    await until(() => attempts.length === 2);
    await wait(300);
    expect(attempts).toEqual([1, 2]);
    expect(await pendingAcks()).toBe(0);
  });

  test.each(['term', 'ack'] as const)('a %s stands, also when the handler throws after it', async (verb) => {
    await using listener = await place.join('listener');
    const attempts: number[] = [];
    const errors: unknown[] = [];
    await listener.handle(filter, { durable, onError: (error) => errors.push(error) }, async (message) => {
      attempts.push(message.attempt);
      await message[verb]();
      throw new Error('too late');
    });
    await say(1);
    await until(() => errors.length === 1);
    await wait(1_300); // longer than the pause after a first failure
    expect(attempts).toEqual([1]);
    expect(await pendingAcks()).toBe(0);
  });

  test('the first of ack, nak and term counts', async () => {
    await using listener = await place.join('listener');
    await say(1);
    const subscription = listener.subscribe(filter, { durable });
    const message = await subscription.next();
    await message?.nak(500);
    await message?.ack();
    expect((await subscription.next())?.attempt).toBe(2);
  });
});

describe('a message is on disk and unacknowledged while its handler is at work', () => {
  test('its DELIVER can be read from inside the handler, and the ack goes when that returns', async () => {
    await using listener = await place.join('listener');
    let seen: { log: string; leaf: string; pending: number } | undefined;
    await listener.handle(filter, { durable }, async (message) => {
      const log = readFileSync(place.log, 'utf8');
      seen = { log, leaf: message.delivery.text, pending: await pendingAcks() };
    });
    await say(1);
    await until(() => seen !== undefined);
    expect(seen?.log).toContain(seen?.leaf.slice(0, -1));
    expect(seen?.pending).toBe(1);
    await until(async () => (await pendingAcks()) === 0);
  });

  test('its DELIVER can be read from inside a loop', async () => {
    await using listener = await place.join('listener');
    await say(1);
    for await (const message of listener.subscribe(filter, { durable })) {
      expect(readFileSync(place.log, 'utf8')).toContain(message.delivery.text.slice(0, -1));
      expect(await pendingAcks()).toBe(1);
      await message.ack();
      break;
    }
    expect(await pendingAcks()).toBe(0);
  });

  test('an agent that is cut off during its handler leaves the message to others, as attempt 2', async () => {
    const cable = await cableTo(server.port);
    const cutOff = await place.join('listener', { url: `nats://127.0.0.1:${cable.port}` });
    let started = false;
    await cutOff.handle(filter, { durable, ackWaitMs: 1_000, finishWithinMs: 10 }, async () => {
      started = true;
      await never;
    });
    await say('precious');
    await until(() => started);
    cable.cut();
    await using other = await place.join('listener');
    const message = await other.subscribe(filter, { durable, ackWaitMs: 1_000 }).next();
    expect([message?.payload, message?.attempt]).toEqual(['precious', 2]);
    await message?.ack();
    await cutOff.close();
  });
});

describe('a message is handled once', () => {
  test('though its handler takes longer than the ack wait', async () => {
    await using listener = await place.join('listener');
    const attempts: number[] = [];
    let finished = false;
    await listener.handle(filter, { durable, ackWaitMs: 600, concurrency: 2 }, async (message) => {
      attempts.push(message.attempt);
      await wait(2_000);
      finished = true;
    });
    await say(1);
    await until(() => finished);
    await wait(800);
    expect(attempts).toEqual([1]);
    expect(await pendingAcks()).toBe(0);
  });

  test('though its handler takes longer than the ack wait while the swarm closes', async () => {
    const listener = await place.join('listener');
    let started = false;
    await listener.handle(filter, { durable, ackWaitMs: 600 }, async () => {
      started = true;
      await wait(1_500);
    });
    await say(1);
    await until(() => started);
    await using other = await place.join('listener');
    await using second = other.subscribe(filter, { durable, ackWaitMs: 600 });
    await second.ready();
    await listener.close();
    expect(await Promise.race([second.next(), wait(800)])).toBeUndefined();
  });

  test('though it is delivered again while its handler is cut off from the broker', async () => {
    const cable = await cableTo(server.port);
    const listener = await place.join('listener', { url: `nats://127.0.0.1:${cable.port}` });
    const attempts: number[] = [];
    let finished = false;
    await listener.handle(filter, { durable, ackWaitMs: 600, concurrency: 2 }, async (message) => {
      attempts.push(message.attempt);
      await wait(4_000);
      finished = true;
    });
    await say(1);
    await until(() => attempts.length === 1);
    cable.cut();
    await wait(1_000); // meanwhile the ack wait is over
    await cable.mend();
    await until(() => finished);
    await until(async () => (await pendingAcks()) === 0);
    expect(attempts).toEqual([1]);
    await listener.close();
  });

  test('once it is acked, though another delivery of it waits already', async () => {
    await using listener = await place.join('listener');
    await say(1, 2);
    const subscription = listener.subscribe(filter, { durable, ackWaitMs: 600 });
    const first = await subscription.next();
    await wait(1_000);
    await until(() => place.records().some(({ header }) => header.delivery?.attempt === 2));
    await first?.ack();
    const second = await subscription.next();
    expect(second?.payload).toBe(2);
    await second?.ack();
    expect(await Promise.race([subscription.next(), wait(300)])).toBeUndefined();
  });

  test('and not twice from the line: a later delivery takes the place of one that waits', async () => {
    const cable = await cableTo(server.port);
    const listener = await place.join('listener', { url: `nats://127.0.0.1:${cable.port}` });
    await say(1, 2);
    const subscription = listener.subscribe(filter, { durable, ackWaitMs: 600 });
    await subscription.ready();
    await until(() => place.records().filter(({ header }) => header.kind === 'BUS.DELIVER').length === 2);
    cable.cut();
    await wait(1_000);
    await cable.mend();
    await until(() => place.records().filter(({ header }) => header.kind === 'BUS.DELIVER').length >= 4);
    const seen: unknown[] = [];
    for (let n = 0; n < 2; n += 1) {
      const message = await subscription.next();
      seen.push([message?.payload, message?.attempt]);
      await message?.ack();
    }
    expect(seen).toEqual([
      [1, 2],
      [2, 2],
    ]);
    expect(await Promise.race([subscription.next(), wait(300)])).toBeUndefined();
    await listener.close();
  });
});

describe('closing', () => {
  test.each([1, 3])(
    'from inside %d handlers at once ends, and all messages are acked',
    async (concurrency) => {
      let closed = 0;
      const listener = await atWork(
        async (_, swarm) => {
          await wait(100);
          await swarm.close();
          closed += 1;
        },
        { concurrency },
      );
      await listener.close();
      expect(closed).toBe(concurrency);
      expect(await pendingAcks()).toBe(0);
    },
  );

  test('from inside a handler waits for the others, and lets the one that asked still speak', async () => {
    const finished: unknown[] = [];
    const listener = await atWork(
      async ({ payload }, swarm) => {
        if (payload === 0) {
          await swarm.close();
          await swarm.publish(`thread.${thread}.listener`, 'last words');
        } else {
          await wait(400);
        }
        finished.push(payload);
      },
      { concurrency: 2 },
    );
    await listener.close();
    expect(finished).toEqual([1, 0]);
    expect(place.records().at(-1)?.header.subject).toBe(`thread.${thread}.listener`);
    expect(await pendingAcks()).toBe(0);
  });

  test('stop from inside a handler ends too', async () => {
    await using listener = await place.join('listener');
    let stopped = false;
    const handling = await listener.handle(filter, { durable }, async () => {
      await handling.stop();
      stopped = true;
    });
    await say(1);
    await until(() => stopped);
    await handling.finished;
    expect(await pendingAcks()).toBe(0);
  });

  test('does not wait for ever for a handler that does not return, and gives its message back', async () => {
    const listener = await atWork(() => never, { finishWithinMs: 300 });
    expect(await timeOf(() => listener.close())).toBeLessThan(3_000);
    await using other = await place.join('listener');
    const message = await other.subscribe(filter, { durable }).next();
    expect(message?.attempt).toBe(2);
    await message?.ack();
  });

  test('does not wait a whole ack wait for a broker that is away', async () => {
    const away = await testServer();
    onTestFinished(() => away.stop());
    place = await agentsIn(temporaryFolder(), away.url, ['planner', 'listener']);
    const listener = await place.join('listener');
    let [started, finished] = [false, false];
    let finish = (): void => {};
    const asked = new Promise<void>((resolve) => {
      finish = resolve;
    });
    await listener.handle(filter, { durable, ackWaitMs: 20_000 }, async () => {
      started = true;
      await asked;
      finished = true;
    });
    await say(1);
    await until(() => started);
    away.kill('SIGKILL');
    await away.exited;
    finish();
    await until(() => finished);
    expect(await timeOf(() => listener.close())).toBeLessThan(6_000);
  });

  test('refuses to subscribe and handle, during it and after it', async () => {
    const listener = await atWork(() => wait(200));
    const closing = listener.close();
    const opening = (): Promise<unknown>[] => [
      Promise.resolve().then(() => listener.subscribe(filter, { durable: 'other' })),
      listener.handle(filter, { durable: 'other' }, () => undefined),
    ];
    for (const opened of opening()) await expect(opened).rejects.toMatchObject({ code: 'BUS_CLOSED' });
    await closing;
    for (const opened of opening()) await expect(opened).rejects.toMatchObject({ code: 'BUS_CLOSED' });
  });

  test('while a handler is being set up refuses it', async () => {
    const listener = await place.join('listener');
    const handling = listener.handle(filter, { durable }, () => undefined);
    await Promise.all([listener.close(), expect(handling).rejects.toMatchObject({ code: 'BUS_CLOSED' })]);
  });
});

describe('handlers that end because the log fails', () => {
  test('end loudly, and whoever awaits them hears of it', async () => {
    const full = join(temporaryFolder(), 'full.jsonl');
    symlinkSync('/dev/full', full); // a disk without room, as the system itself offers one
    const warnings: string[] = [];
    const hear = (warning: Error): void => void warnings.push(warning.message);
    process.on('warning', hear);
    onTestFinished(() => void process.off('warning', hear));
    await using listener = await place.join('listener', { log: full, seal: false });
    const handling = await listener.handle(filter, { durable }, () => undefined);
    await say(1);
    await until(() => warnings.length > 0); // and the process lives, though nobody awaits `finished` yet
    expect(warnings[0]).toContain(`the handlers of ${durable} take no more messages`);
    await expect(handling.finished).rejects.toMatchObject({ code: 'LOG_WRITE_FAILED' });
    rmSync(full);
  });
});

test('what has ended is not kept in memory by the swarm', async () => {
  setFlagsFromString('--expose-gc');
  const collect: () => void = runInNewContext('gc');
  await using listener = await place.join('listener');
  const ended = await (async () => {
    const subscription = listener.subscribe(filter, { durable });
    await subscription.ready();
    await subscription.stop();
    const handling = await listener.handle(filter, { durable }, () => undefined);
    await handling.stop();
    const failed = listener.subscribe('thread.other.>', { durable }); // which has another filter
    await failed.ready().catch(() => undefined);
    return [subscription, handling, failed].map((thing) => new WeakRef<object>(thing));
  })();
  await until(async () => {
    await wait(50);
    collect();
    return ended.every((thing) => thing.deref() === undefined);
  });
});

test.each([
  { ahead: 0 },
  { ahead: Number.NaN },
  { ahead: 1.5 },
  { concurrency: 0 },
  { concurrency: Number.POSITIVE_INFINITY },
  { finishWithinMs: -1 },
  { ackWaitMs: 0 },
])('%j is refused, rather than hang', async (options) => {
  await using listener = await place.join('listener');
  await expect(listener.handle(filter, { durable, ...options }, () => undefined)).rejects.toMatchObject({
    code: 'USAGE',
  });
});
