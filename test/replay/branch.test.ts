/** What-if: an agent's history run again up to a record, and from there on lived anew, in a thread of its own. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { defineAgent, type Handlers, type MessageHandler } from '../../src/handler/definition.ts';
import type { Received } from '../../src/handler/received.ts';
import { loadKeyring } from '../../src/identity/keyring.ts';
import type { SignedRecord } from '../../src/record/signed.ts';
import { branch } from '../../src/replay/branch.ts';
import { rerun } from '../../src/replay/rerun.ts';
import type { NatsServer } from '../../src/server/nats-server.ts';
import { agentsIn, type Place } from '../support/agents.ts';
import { testServer } from '../support/nats.ts';

let server: NatsServer;
let place: Place;

/** Counts its questions, asks two models about each, and says what they said. */
function worker(model: (asked: string) => string | Promise<string>): () => Handlers {
  return () => {
    let questions = 0;
    return {
      'thread.*.planner': async ({ threadId, payload }, context) => {
        questions += 1;
        const idea = await context.step('think', model, `think of ${String(payload)}`);
        await context.publish(`thread.${threadId}.worker.idea`, { idea });
        const text = await context.step('write', model, `write on ${idea}`);
        await context.publish(`thread.${threadId}.worker`, { text, questions });
      },
    };
  };
}
const old = (asked: string): string => `old ${asked}`;
const bold = (asked: string): string => `bold ${asked}`;
const agentWith = (model: (asked: string) => string | Promise<string>) =>
  defineAgent({ name: 'worker', on: worker(model) });

const inThread = (thread: string): SignedRecord[] =>
  place.records().filter(({ header }) => header.threadId === thread);
const saidIn = (thread: string): string[] =>
  inThread(thread)
    .filter(({ header }) => header.kind === 'BUS.PUBLISH' && header.subject.includes('worker'))
    .map(({ payload }) => String(payload));
/** The worker's first record of that kind about the second question, `nth` of them. */
const ofSecond = (kind: string, nth = 0): SignedRecord => {
  const { publicKey } = place.keys.worker ?? {};
  const ours = place
    .records()
    .filter(({ header }) => header.signer === publicKey && header.threadId === 't1');
  const second = ours.filter(({ header }) => header.kind === 'BUS.DELIVER')[1];
  if (second === undefined) throw new Error('no second delivery');
  const one =
    kind === 'BUS.DELIVER'
      ? second
      : ours.filter(({ header }) => header.kind === kind && header.cause === second.leaf)[nth];
  if (one === undefined) throw new Error(`no ${kind}`);
  return one;
};

beforeAll(async () => {
  server = await testServer();
  place = await agentsIn(mkdtempSync(join(tmpdir(), 'can-swarm-test-')), server.url, ['planner', 'worker']);
  await using planner = await place.join('planner');
  await using swarm = await place.join('worker');
  await agentWith(old).run(swarm);
  for (const question of ['rain', 'snow', 'sun']) await planner.publish('thread.t1.planner', question);
  await vi.waitFor(() => expect(saidIn('t1')).toHaveLength(6), 60_000);
});
afterAll(async () => {
  await server.stop();
  rmSync(place.folder, { recursive: true, force: true });
});

test('from a delivery on, everything is asked anew, with what the agent remembered then', async () => {
  await using swarm = await place.join('worker');
  const { keyring } = await loadKeyring(place.keyring);
  const from = ofSecond('BUS.DELIVER');
  const { report, agent } = await branch(agentWith(bold), place.log, {
    keyring,
    at: from.leaf,
    thread: 'w1',
    host: swarm,
  });
  expect(report).toMatchObject({ deliveries: 2, divergences: [], impure: [] });
  expect(saidIn('w1')).toEqual([
    '{"idea":"bold think of snow"}',
    '{"text":"bold write on bold think of snow","questions":2}',
  ]);
  const records = inThread('w1').filter(({ header }) => header.kind !== 'BUS.DELIVER');
  expect(records.map(({ header }) => header.kind)).toEqual([
    'AGENT.STEP',
    'BUS.PUBLISH',
    'AGENT.STEP',
    'BUS.PUBLISH',
    'AGENT.STEP',
  ]);
  expect(records.at(-1)?.header.step).toBe('handler');
  for (const { header } of records) expect(header).toMatchObject({ cause: from.leaf, refs: [from.leaf] });

  // And it goes on there, hearing that thread alone.
  await agent.run(swarm);
  await using planner = await place.join('planner');
  await planner.publish('thread.w1.planner', 'wind');
  await vi.waitFor(() => expect(saidIn('w1')).toHaveLength(4), 60_000);
  expect(saidIn('w1')[3]).toBe('{"text":"bold write on bold think of wind","questions":3}');
});

test('from a step on, its answer stands, and what it led to is not said again', async () => {
  await using swarm = await place.join('worker');
  const { keyring } = await loadKeyring(place.keyring);
  const asked: string[] = [];
  const model = (prompt: string): string => {
    asked.push(prompt);
    return bold(prompt);
  };
  const at = ofSecond('BUS.PUBLISH').leaf; // the idea was said
  await branch(agentWith(model), place.log, { keyring, at, thread: 'w2', host: swarm });
  expect(asked).toEqual(['write on old think of snow']);
  expect(saidIn('w2')).toEqual(['{"text":"bold write on old think of snow","questions":2}']);
});

test('the history itself is run again as before, branches or not', async () => {
  const { keyring } = await loadKeyring(place.keyring);
  const { divergences } = await rerun(agentWith(bold), place.log, { keyring, thread: 't1' });
  expect(divergences).toEqual([]);
});

test('an agent that does not do again what it did says nothing live', async () => {
  await using swarm = await place.join('worker');
  const { keyring } = await loadKeyring(place.keyring);
  const other = defineAgent({
    name: 'worker',
    on: { 'thread.*.planner': (_, context) => void context.publish('thread.t1.worker.idea', 'mine') },
  });
  const options = { keyring, thread: 'w3', host: swarm };
  for (const at of [ofSecond('BUS.PUBLISH').leaf, ofSecond('BUS.PUBLISH', 1).leaf]) {
    await expect(branch(other, place.log, { ...options, at })).rejects.toMatchObject({
      code: 'REPLAY_DIVERGED',
    });
  }
  expect(inThread('w3')).toEqual([]);
});

test('an agent that takes another step, or leaves one out, asks and says nothing live', async () => {
  await using swarm = await place.join('worker');
  const { keyring } = await loadKeyring(place.keyring);
  let asked = 0;
  const model = (): string => {
    asked += 1;
    return 'live';
  };
  const options = { keyring, thread: 'w5', host: swarm, at: ofSecond('AGENT.STEP').leaf };
  const before: Handlers = {
    'thread.*.planner': async ({ payload }, context) => {
      if (payload === 'snow') await context.step('imagine', model);
      await worker(old)()['thread.*.planner']?.({ threadId: 't1', payload } as Received, context);
    },
  };
  const without: Handlers = {
    'thread.*.planner': async ({ payload }, context) => {
      if (payload === 'snow') await context.publish('thread.t1.worker.idea', { idea: 'mine' });
      else await worker(old)()['thread.*.planner']?.({ threadId: 't1', payload } as Received, context);
    },
  };
  for (const on of [before, without]) {
    await expect(branch(defineAgent({ name: 'worker', on }), place.log, options)).rejects.toMatchObject({
      code: 'REPLAY_DIVERGED',
    });
  }
  expect(asked).toBe(0);
  expect(inThread('w5')).toEqual([]);
});

test('what the handler throws live, it throws; and other records, threads and agents are refused', async () => {
  await using swarm = await place.join('worker');
  await using planner = await place.join('planner');
  const { keyring } = await loadKeyring(place.keyring);
  const at = ofSecond('BUS.DELIVER').leaf;
  const broken = agentWith(() => Promise.reject(new RangeError('no tokens left')));
  const options = { keyring, at, thread: 'w4', host: swarm };
  await expect(branch(broken, place.log, options)).rejects.toThrow('no tokens left');
  const ended = inThread('w4').find(({ header }) => header.step === 'handler');
  expect(ended?.header).toMatchObject({ cause: at, refs: [at], reason: 'error' });
  expect(String(ended?.payload)).toContain('no tokens left');
  await expect(branch(agentWith(old), place.log, { ...options, host: planner })).rejects.toMatchObject({
    code: 'USAGE',
  });
  await expect(branch(agentWith(old), place.log, { ...options, thread: 'w.4' })).rejects.toMatchObject({
    code: 'USAGE',
  });
  const foreign = place.records().find(({ header }) => header.subject === 'thread.t1.planner')?.leaf ?? at;
  const elsewhere = { ...options, at: foreign, thread: 'w9' };
  await expect(branch(agentWith(old), place.log, elsewhere)).rejects.toMatchObject({
    code: 'RECORD_MISSING',
  });
  for (const thread of ['w4', 't1']) {
    await expect(branch(agentWith(old), place.log, { ...options, thread })).rejects.toMatchObject({
      code: 'USAGE',
      message: expect.stringContaining(`the thread ${thread} is in the log already`),
    });
  }
});

/** Does as the worker did, but for the second question. */
const otherwise = (second: MessageHandler) =>
  defineAgent({
    name: 'worker',
    on: () => {
      const handlers = worker(old)();
      return {
        'thread.*.planner': (message, context) =>
          (message.payload === 'snow' ? second : handlers['thread.*.planner'])?.(message, context),
      };
    },
  });

test('one that waits for something else before it goes live is waited for no longer than is said', async () => {
  await using swarm = await place.join('worker');
  const { keyring } = await loadKeyring(place.keyring);
  const waiting = otherwise(() => new Promise(() => undefined));
  const at = ofSecond('BUS.DELIVER').leaf;
  const options = { keyring, at, thread: 'w6', host: swarm, returnWithinMs: 200 };
  await expect(branch(waiting, place.log, options)).rejects.toMatchObject({
    code: 'REPLAY_DIVERGED',
    message: expect.stringContaining('did not return within 0.2 s'),
  });
  const slow = agentWith(async (asked) => {
    await new Promise((resolve) => setTimeout(resolve, 500)); // once it is live it may take its time
    return bold(asked);
  });
  await branch(slow, place.log, options);
  expect(saidIn('w6')).toHaveLength(2);
});

test('a message of a branch has up to 15 refs of its own, and one more is refused by name', async () => {
  await using swarm = await place.join('worker');
  const { keyring } = await loadKeyring(place.keyring);
  const at = ofSecond('BUS.DELIVER').leaf;
  const others = place.records().filter(({ leaf }) => leaf !== at);
  const drawing = otherwise(async ({ threadId }, context) => {
    const say = (refs: readonly SignedRecord[]) =>
      context.publish(`thread.${threadId}.worker`, 'x', { refs });
    await say(others.slice(0, 15));
    await say(others.slice(0, 16));
  });
  const refused = branch(drawing, place.log, { keyring, at, thread: 'w7', host: swarm });
  await expect(refused).rejects.toMatchObject({
    code: 'RECORD_INVALID',
    message: expect.stringContaining('up to 15 refs'),
  });
  const [said] = inThread('w7').filter(({ header }) => header.kind === 'BUS.PUBLISH');
  expect(said?.header.refs).toHaveLength(16);
});

test('nothing goes on from where a handler has ended', async () => {
  await using swarm = await place.join('worker');
  const { keyring } = await loadKeyring(place.keyring);
  const at = ofSecond('AGENT.STEP', 2).leaf;
  const refused = branch(agentWith(old), place.log, { keyring, at, thread: 'w8', host: swarm });
  await expect(refused).rejects.toMatchObject({
    code: 'USAGE',
    message: expect.stringContaining('says that a handler has ended'),
  });
});
