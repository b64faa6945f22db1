/** Messages that no handler can deal with: given up on the log first, then in the stream DEAD, and never lost on the way. */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { connect, headers, type NatsConnection } from '@nats-io/transport-node';
import { beforeAll, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import {
  type DeadLettersFound,
  type FoundDeadLetter,
  readDeadLetters,
  readLetterData,
} from '../../src/agent/dead-reading.ts';
import { printEnvelope } from '../../src/agent/envelope.ts';
import type { Message } from '../../src/agent/message.ts';
import type { RunOptions, Swarm } from '../../src/agent/swarm.ts';
import { systemClock } from '../../src/base/clock.ts';
import type { Sha256Hex } from '../../src/base/encoding.ts';
import { connectBus } from '../../src/bus/connection.ts';
import { defineAgent, type MessageHandler } from '../../src/handler/definition.ts';
import { UnrecoverableError } from '../../src/handler/unrecoverable.ts';
import { SigningKey } from '../../src/identity/key.ts';
import { loadKeyring } from '../../src/identity/keyring.ts';
import { signRecord } from '../../src/record/sign.ts';
import type { SignedRecord } from '../../src/record/signed.ts';
import { rerun } from '../../src/replay/rerun.ts';
import type { NatsServer } from '../../src/server/nats-server.ts';
import { agentsIn, type Place } from '../support/agents.ts';
import { envelope } from '../support/attacker.ts';
import { temporaryFolder } from '../support/log.ts';
import { testServer } from '../support/nats.ts';
import { startProgram } from '../support/program.ts';

let server: NatsServer;
let place: Place;
let nats: NatsConnection;

beforeAll(() => {
  vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined); // every failure here is meant
});

/** Every test has a broker of its own: they share the stream DEAD otherwise. */
beforeEach(async () => {
  server = await testServer();
  place = await agentsIn(temporaryFolder(), server.url, ['planner', 'listener']);
  nats = await connect({ servers: server.url });
  onTestFinished(async () => {
    await nats.close();
    await server.stop();
  });
});

const subject = 'thread.t1.planner';

async function say(...payloads: unknown[]): Promise<void> {
  await using planner = await place.join('planner');
  for (const payload of payloads) await planner.publish(subject, payload, { meta: { model: 'm-1' } });
}

function ofKind(kind: string): SignedRecord[] {
  return place.records().filter(({ header }) => header.kind === kind);
}

async function found(swarm?: string): Promise<DeadLettersFound> {
  await using bus = await connectBus({ url: server.url });
  const { keyring } = await loadKeyring(place.keyring);
  return await readDeadLetters(bus, { stream: 'THREADS', keyring, swarm });
}

async function letters(): Promise<readonly FoundDeadLetter[]> {
  return (await found()).letters;
}

async function dataOf(letter: FoundDeadLetter | undefined): Promise<Uint8Array> {
  if (letter === undefined) throw new Error('there is no such letter');
  await using bus = await connectBus({ url: server.url });
  return await readLetterData(bus, letter);
}

/** Returns the headers and data of each message in the stream DEAD. */
async function copies(): Promise<{ subject: string; headers: Record<string, string>; data: string }[]> {
  const { state } = await (await jetstreamManager(nats)).streams.info('DEAD');
  const { streams } = jetstream(nats);
  const found = [];
  for (let seq = 1; seq <= state.last_seq; seq += 1) {
    const message = await (await streams.get('DEAD')).getMessage({ seq });
    if (message === null) throw new Error('gone');
    const pairs = [...message.header].map(([name, [value = '']]) => [name, value] as const);
    found.push({ subject: message.subject, headers: Object.fromEntries(pairs), data: message.string() });
  }
  return found;
}

async function settled(): Promise<void> {
  await vi.waitFor(
    async () => {
      const info = await (await jetstreamManager(nats)).consumers.info('THREADS', 'listener');
      expect([info.num_pending, info.num_ack_pending]).toEqual([0, 0]);
    },
    { timeout: 60_000, interval: 50 },
  );
}

function run(swarm: Swarm, handler: MessageHandler, options: RunOptions = {}): Promise<unknown> {
  return defineAgent({ name: 'listener', on: { [subject]: handler } }).run(swarm, options);
}

test('a message that failed maxDeliver times is dead on the log, in the stream DEAD, and gone from the consumer', async () => {
  await using listener = await place.join('listener');
  const attempts: number[] = [];
  await run(
    listener,
    ({ attempt, payload }) => {
      if (payload === 'good') return;
      attempts.push(attempt);
      throw new TypeError('not for me');
    },
    { maxDeliver: 2 },
  );
  await say('bad', 'good');
  await settled();
  expect(attempts).toEqual([1, 2]);

  const [dead] = ofKind('BUS.DEAD');
  const delivers = ofKind('BUS.DELIVER');
  const last = delivers.find(({ header }) => header.delivery?.attempt === 2);
  expect(dead?.header).toMatchObject({
    subject,
    cause: last?.leaf,
    reason: 'max-deliver',
    delivery: { stream: 'THREADS', seq: 1, consumer: 'listener', attempt: 2 },
  });
  const [said] = ofKind('BUS.PUBLISH');
  expect(await copies()).toEqual([
    {
      subject: `dead.${subject}`,
      data: '"bad"',
      headers: {
        'Nats-Msg-Id': dead?.leaf,
        'Swarm-Original-Id': said?.leaf,
        'Swarm-Dead-Record': dead?.text,
        'Swarm-Dead-Sig': dead?.signature,
        ...(said && printEnvelope(said)),
      },
    },
  ]);
  expect(await place.verify()).toMatchObject({ bad: 0 });
});

test('a handler that throws UnrecoverableError, or calls dead, is not called again', async () => {
  await using listener = await place.join('listener');
  const calls: unknown[] = [];
  await listener.handle(subject, { durable: 'listener' }, async (message: Message) => {
    calls.push(message.payload);
    if (message.payload === 1) throw new UnrecoverableError('no such order', { reason: 'no-such-order' });
    if (message.payload === 2) throw new UnrecoverableError('what is this?');
    await message.dead('by-hand');
    await message.ack(); // too late: the first counts
  });
  await say(1, 2, 3);
  await settled();
  expect(calls).toEqual([1, 2, 3]);
  const all = await letters();
  expect(all.map(({ reason }) => reason)).toEqual(['no-such-order', 'unrecoverable', 'by-hand']);
  expect(all[0]).toMatchObject({
    givenUpBy: { name: 'listener' },
    sender: { name: 'planner' },
    requeued: [],
    mayBeRequeued: false,
  });
  expect(await dataOf(all[0])).toEqual(Buffer.from('1'));
  expect(() => new UnrecoverableError('x', { reason: 'No!' })).toThrow(
    expect.objectContaining({ code: 'USAGE' }),
  );
});

test('with maxDeliver 0 a message comes again without end', async () => {
  await using listener = await place.join('listener');
  let calls = 0;
  await listener.handle(subject, { durable: 'listener', maxDeliver: 0 }, async (message) => {
    calls += 1;
    if (calls <= 12) await message.nak(1);
  });
  await say(1);
  await settled();
  expect([calls, ofKind('BUS.DEAD')]).toEqual([13, []]);
  const bad = listener.handle(subject, { durable: 'other', maxDeliver: -1 }, () => undefined);
  await expect(bad).rejects.toMatchObject({ code: 'USAGE', message: expect.stringContaining('maxDeliver') });
});

test('where attempts ended without a word, no further handler is called, nor when it is run again', async () => {
  await say('kills');
  for (let life = 1; life <= 2; life += 1) {
    await using listener = await place.join('listener');
    let calls = 0;
    await listener.handle(subject, { durable: 'listener' }, async (message) => {
      calls += 1;
      await message.nak(500); // as if it had died, without the wait for it
    });
    await vi.waitFor(() => expect(calls).toBe(1), 60_000);
  }
  await say('good');
  const handled: unknown[] = [];
  const handler: MessageHandler = ({ payload }, context) => {
    handled.push(payload);
    return context.publish('thread.t1.listener', payload).then(() => undefined);
  };
  {
    await using listener = await place.join('listener');
    await run(listener, handler, { maxDeliver: 2 });
    await settled();
  }
  expect(handled).toEqual(['good']);
  expect((await letters()).map(({ delivery, reason }) => [delivery.attempt, reason])).toEqual([
    [3, 'max-deliver'],
  ]);

  // Those of the first two attempts broke off; what was dead-lettered then has no handling to repeat.
  const { keyring } = await loadKeyring(place.keyring);
  handled.length = 0;
  const report = await rerun(defineAgent({ name: 'listener', on: { [subject]: handler } }), place.log, {
    keyring,
  });
  expect(report).toMatchObject({ divergences: [], deliveries: 3, publishes: 1 });
  expect(handled).toEqual(['kills', 'kills', 'good']);
});

test('deliveries that no handler saw are no attempts, up to ten for each', async () => {
  await say(1);
  const untaken = async (times: number): Promise<void> => {
    for (let time = 0; time < times; time += 1) {
      await using listener = await place.join('listener');
      const subscription = listener.subscribe(subject, { durable: 'listener', atMost: 1 });
      await (await subscription.next())?.nak();
    }
  };
  const attempts: number[] = [];
  const handleOnce = async (): Promise<void> => {
    await using listener = await place.join('listener');
    await listener.handle(subject, { durable: 'listener', maxDeliver: 2 }, async (message) => {
      attempts.push(message.attempt);
      await message.nak(500);
    });
    await sleep(300);
  };
  await untaken(4);
  await handleOnce();
  await untaken(1);
  await handleOnce();
  expect(attempts).toEqual([5]);
  expect((await letters()).map(({ delivery, reason }) => [delivery.attempt, reason])).toEqual([
    [7, 'max-deliver'],
  ]);
  const tried = ofKind('BUS.ATTEMPT').map(({ header }) => header);
  const fifth = ofKind('BUS.DELIVER').find(({ header }) => header.delivery?.attempt === 5);
  expect(tried).toMatchObject([{ subject, cause: fifth?.leaf, delivery: { attempt: 5 } }]);

  await say(2);
  await untaken(20);
  await handleOnce();
  expect(attempts).toEqual([5]);
  expect((await letters()).map(({ delivery }) => delivery.attempt)).toEqual([7, 21]);
});

test('with maxDeliver 1 what only waited in a process before has its call, and one alone', async () => {
  await say(1, 2, 3);
  {
    await using before = await place.join('listener');
    const subscription = before.subscribe(subject, { durable: 'listener', atMost: 3 });
    const waiting = [await subscription.next(), await subscription.next(), await subscription.next()];
    for (const message of waiting) await message?.nak(); // as of what no handler took
  }
  const called: unknown[] = [];
  await using listener = await place.join('listener');
  await listener.handle(subject, { durable: 'listener', maxDeliver: 1 }, async ({ seq }) => {
    called.push(seq);
    if (called.length === 1) throw new Error('the first fails');
  });
  await settled();
  expect(new Set(called).size).toBe(3);
  expect(called).toHaveLength(3);
  expect((await letters()).map(({ reason }) => reason)).toEqual(['max-deliver']);
  expect(ofKind('BUS.ATTEMPT')).toHaveLength(3);
});

test('a handler that gave a message up does so when it is run again', async () => {
  const handler: MessageHandler = async (_, context) => {
    await context.step('look', () => 1);
    throw new UnrecoverableError('hopeless');
  };
  {
    await using listener = await place.join('listener');
    await run(listener, handler);
    await say(1);
    await settled();
  }
  expect(place.records().map(({ header }) => header.kind)).toEqual([
    'BUS.PUBLISH',
    'BUS.DELIVER',
    'AGENT.STEP',
    'AGENT.STEP',
    'BUS.DEAD',
  ]);
  const { keyring } = await loadKeyring(place.keyring);
  const agent = defineAgent({ name: 'listener', on: { [subject]: handler } });
  expect(await rerun(agent, place.log, { keyring })).toMatchObject({ deliveries: 1, divergences: [] });
});

test('a message whose copy the broker does not take is not given up: it comes again, and is dead once', async () => {
  const manager = await jetstreamManager(nats);
  await manager.streams.add({ name: 'OTHER', subjects: ['dead.>'] }); // where the stream DEAD should be
  await using listener = await place.join('listener');
  const attempts: number[] = [];
  await run(
    listener,
    ({ attempt }) => {
      attempts.push(attempt);
      throw new UnrecoverableError('hopeless');
    },
    { maxDeliver: 1 },
  );
  await say(1);
  await vi.waitFor(() => expect(ofKind('BUS.DEAD')).toHaveLength(1), 60_000);
  expect(await letters()).toEqual([]);
  await manager.streams.delete('OTHER');
  await settled();
  expect(attempts).toEqual([1]);
  expect(ofKind('BUS.DEAD').length).toBeGreaterThan(1);
  expect(await copies()).toHaveLength(1);
  expect(await letters()).toHaveLength(1);
});

test.each([20, -20])(
  'a clock %i s off, or set an hour while it is at work, keeps no message from being given up',
  async (seconds) => {
    const duplicateWindowMs = 120_000; // so that such a clock will do
    let offNs = BigInt(seconds) * 1_000_000_000n;
    const clock = systemClock();
    await using planner = await place.join('planner', { duplicateWindowMs });
    await using listener = await place.join('listener', { duplicateWindowMs, clock: () => clock() + offNs });
    await run(listener, () => {
      throw new UnrecoverableError('hopeless');
    });
    await planner.publish(subject, 1);
    await settled();
    offNs *= 180n;
    await planner.publish(subject, 2);
    await settled();
    expect(ofKind('BUS.DEAD')).toHaveLength(2);
    expect(await copies()).toHaveLength(2);
  },
);

test('given up twice, since its agent died before the broker knew, it is one dead letter, and one requeue is of both', async () => {
  await say(1);
  for (let attempt = 1; attempt <= 2; attempt += 1) {
    await using listener = await place.join('listener');
    const subscription = listener.subscribe(subject, { durable: 'listener', atMost: 1, ackWaitMs: 1_000 });
    const gaveUp = (await subscription.next())?.dead('lost');
    if (attempt === 1) await nats.request('$JS.API.CONSUMER.DELETE.THREADS.listener', ''); // it forgets the term
    await gaveUp?.catch(() => undefined);
  }
  const [first, second] = ofKind('BUS.DEAD');
  expect(await copies()).toHaveLength(2);
  expect(await letters()).toMatchObject([
    { seq: 1, dead: { leaf: first?.leaf }, givenUpAgain: [{ seq: 2, dead: { leaf: second?.leaf } }] },
  ]);
  await using planner = await place.join('planner');
  await planner.publish(subject, 1, { refs: second ? [second] : [] });
  expect((await letters())[0]?.requeued.map(({ by }) => by.name)).toEqual(['planner']);
});

test('headers that speak to the broker are not copied, and others are', async () => {
  const key = place.keys.planner;
  if (key === undefined) throw new Error('no planner');
  const data = Buffer.from('1');
  const record = signRecord({ subject, kind: 'BUS.PUBLISH', payload: data }, key);
  await using listener = await place.join('listener');
  await run(listener, () => {
    throw new UnrecoverableError('hopeless');
  });
  const sent = headers();
  const plain = { 'Nats-Expected-Stream': 'THREADS', 'Nats-Rollup2': 'x', 'X-Team': 'a', 'X-Name': 'Zoë' };
  for (const [name, value] of Object.entries({ ...printEnvelope(record), ...plain })) sent.set(name, value);
  await jetstream(nats).publish(subject, data, { msgID: record.leaf, headers: sent });
  await settled();
  const [copy] = await copies();
  expect(Object.keys(copy?.headers ?? {})).toEqual([
    'Nats-Msg-Id',
    'Swarm-Original-Id',
    'Swarm-Dead-Record',
    'Swarm-Dead-Sig',
    'Swarm-Record',
    'Swarm-Sig',
    'X-Team',
  ]);
  expect(await letters()).toHaveLength(1);
});

test('the largest message that can be said can be dead-lettered', async () => {
  await using planner = await place.join('planner');
  const refused = await planner.publish(subject, Buffer.alloc(1 << 20)).catch(String);
  const room = (1 << 20) - Number(/headers up to (\d+),/.exec(String(refused))?.[1]);
  await planner.publish(subject, Buffer.alloc(room, 7));
  await using listener = await place.join('listener');
  await run(listener, () => {
    throw new UnrecoverableError('hopeless');
  });
  await settled();
  const [letter] = await letters();
  expect(Buffer.alloc(room, 7).equals(await dataOf(letter))).toBe(true);
});

test('a message too large for a copy is dead on the log alone, and a warning names its record', async () => {
  const key = place.keys.planner;
  if (key === undefined) throw new Error('no planner');
  const data = Buffer.alloc((1 << 20) - 1_200, 7); // more than ours may have, as they leave room
  const record = signRecord({ subject, kind: 'BUS.PUBLISH', payload: data }, key);
  await using listener = await place.join('listener');
  await run(listener, () => {
    throw new UnrecoverableError('hopeless');
  });
  const sent = headers();
  for (const [name, value] of envelope(record)) sent.set(name, value);
  await nats.request(subject, data, { headers: sent, timeout: 5_000 });
  await settled();
  const [dead, ...more] = ofKind('BUS.DEAD');
  expect([more, await letters()]).toEqual([[], []]);
  const warning = expect.stringMatching(`message 1 of THREADS is dead on the log alone, .*${dead?.leaf}`);
  expect(process.emitWarning).toHaveBeenCalledWith(warning, { type: 'SwarmWarning' });
});

test('what anybody puts into the stream DEAD is no dead letter, and says why', async () => {
  await using listener = await place.join('listener');
  await run(listener, () => {
    throw new UnrecoverableError('hopeless');
  });
  await say(1);
  await settled();
  const [good] = await copies();
  const forge = async (
    changes: Record<string, string>,
    data = '1',
    on = `dead.${subject}`,
  ): Promise<void> => {
    const sent = headers();
    for (const [name, value] of Object.entries({ ...good?.headers, ...changes })) sent.set(name, value);
    await nats.request(on, data, { headers: sent, timeout: 5_000 });
  };
  const { 'Nats-Msg-Id': _, ...rest } = good?.headers ?? {};
  expect(Object.keys(rest)).toHaveLength(5);
  await forge({ 'Nats-Msg-Id': 'a' });
  await forge({ 'Nats-Msg-Id': 'b' }, '2');
  await forge({ 'Nats-Msg-Id': 'c', 'Swarm-Dead-Record': 'x' });
  await forge({ 'Nats-Msg-Id': 'd' }, '1', 'dead.thread.t1.boss');
  const { letters: real, others } = await found();
  expect(real).toHaveLength(1);
  expect(others.map(({ seq }) => seq)).toEqual([2, 3, 4, 5]);
});

test('a letter of another swarm is none of ours', async () => {
  const swarm = 'other';
  await using planner = await place.join('planner', { swarm });
  await using listener = await place.join('listener', { swarm });
  await run(listener, () => {
    throw new UnrecoverableError('hopeless');
  });
  await planner.publish(subject, 1);
  await settled();
  expect((await found(swarm)).letters).toHaveLength(1);
  const { letters: ours, others } = await found();
  expect([ours, others]).toMatchObject([[], [{ problem: 'said in swarm other, heard in (none)' }]]);
});

describe('a message that names a BUS.DEAD', () => {
  interface Requeue {
    by: string;
    signedFor: string;
    sentOn: string;
    said: string;
    data: string;
    refs: readonly Sha256Hex[];
    ageS: number;
    id: string | undefined;
    swarm: string | undefined;
  }
  const faults: Record<string, Partial<Requeue>> = {
    'says something else': { said: '2', data: '2' },
    'was signed for something else': { said: '1', data: '2' },
    'is on another subject': { signedFor: 'thread.t2.planner', sentOn: 'thread.t2.planner' },
    'was signed for another subject': { signedFor: 'thread.t2.planner' },
    'is by one who may not speak there': { by: 'listener' },
    'is by one whom nobody knows': { by: 'stranger' },
    'is stale': { ageS: 16 },
    'has another id': { id: 'a' },
    'was said in another swarm': { swarm: 'other' },
    'names another record': { refs: ['a'.repeat(64) as Sha256Hex] },
  };
  const keyOf = (name: string): SigningKey => place.keys[name] ?? SigningKey.generate();

  test('is its requeue only where receivers take it, and it says the same', async () => {
    await using listener = await place.join('listener');
    await listener.handle('thread.*.planner', { durable: 'listener' }, () => {
      throw new UnrecoverableError('hopeless');
    });
    await say(1);
    {
      await using planner = await place.join('planner');
      await planner.publish('thread.t2.planner', 2); // so that its subject is looked at too
    }
    await settled();
    await listener.close();
    const [dead] = ofKind('BUS.DEAD');
    const requeue = async (fault: Partial<Requeue>): Promise<void> => {
      const right = { by: 'planner', signedFor: subject, sentOn: subject, said: '1', data: '1' };
      const as: Requeue = {
        ...right,
        refs: dead ? [dead.leaf] : [],
        ageS: 0,
        id: undefined,
        swarm: undefined,
        ...fault,
      };
      const tsNs = BigInt(Date.now() - as.ageS * 1_000) * 1_000_000n;
      const record = signRecord(
        { subject: as.signedFor, kind: 'BUS.PUBLISH', payload: Buffer.from(as.said), refs: as.refs },
        keyOf(as.by),
        { tsNs, swarm: as.swarm },
      );
      const sent = headers();
      for (const [name, value] of envelope(record, as.id)) sent.set(name, value);
      await nats.request(as.sentOn, as.data, { headers: sent, timeout: 5_000 });
    };
    for (const [fault, changes] of Object.entries(faults)) {
      await requeue(changes);
      expect([fault, (await letters())[0]?.requeued]).toEqual([fault, []]);
    }
    await requeue({});
    expect((await letters())[0]?.requeued).toMatchObject([{ by: { name: 'planner' } }]);
  });
});

test('where the stream has dropped messages since a letter was given up, it may have been requeued', async () => {
  await using listener = await place.join('listener');
  await run(listener, () => {
    throw new UnrecoverableError('hopeless');
  });
  await say(1, 2);
  await settled();
  const { streams } = await jetstreamManager(nats);
  await streams.update('THREADS', { duplicate_window: 1e9, max_age: 1e9 });
  await vi.waitFor(async () => expect((await streams.info('THREADS')).state.messages).toBe(0), 60_000);
  expect((await letters()).map(({ mayBeRequeued }) => mayBeRequeued)).toEqual([true, true]);
  await streams.update('THREADS', { duplicate_window: 30e9, max_age: 0 });
  await say(3);
  await settled();
  expect((await letters()).map(({ mayBeRequeued }) => mayBeRequeued)).toEqual([true, true, false]);
});

test('a process that dies of a message, or while it gives one up, loses nothing, and honest messages go on', async () => {
  await say('poison', 'hopeless', 'good');
  const program = join(import.meta.dirname, '../fixtures/dying-agent.ts');
  let deaths = 0;
  let stopped = false;
  const runs = (async () => {
    while (!stopped) {
      const child = startProgram(program, [place.folder, server.url], { stdio: 'ignore' });
      const over = once(child, 'exit');
      while (!stopped && child.exitCode === null && child.signalCode === null) await sleep(50);
      if (stopped) child.kill('SIGTERM');
      const [, signal] = await over;
      if (signal === 'SIGKILL') deaths += 1;
    }
  })();
  const handled = (): string[] => readFileSync(join(place.folder, 'handled'), 'utf8').trim().split('\n');
  await vi.waitFor(() => expect(handled()).toContain('"good"'), { timeout: 100_000, interval: 200 });
  await settled();
  stopped = true;
  await runs;
  expect(handled().toSorted()).toEqual([
    '"good"',
    ...['"hopeless"', '"hopeless"', '"poison"', '"poison"', '"poison"'],
  ]);
  expect(deaths).toBe(4);
  expect(
    ofKind('BUS.DEAD')
      .map(({ header, payload }) => [String(payload), header.reason])
      .sort(),
  ).toEqual([
    ['"hopeless"', 'unrecoverable'],
    ['"hopeless"', 'unrecoverable'],
    ['"poison"', 'max-deliver'],
  ]);
  expect((await copies()).map(({ data }) => data).sort()).toEqual(['"hopeless"', '"poison"']);
  expect(await place.verify()).toMatchObject({ bad: 0 });
});
