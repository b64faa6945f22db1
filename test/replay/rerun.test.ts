/** Agents that ran over a real broker, run again from their log: the same, and each way in which it is not. */
import { randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import type { SwarmError } from '../../src/base/errors.ts';
import type { Context } from '../../src/handler/context.ts';
import { defineAgent, type Handlers, type MessageHandler } from '../../src/handler/definition.ts';
import type { Received } from '../../src/handler/received.ts';
import type { SigningKey } from '../../src/identity/key.ts';
import { loadKeyring } from '../../src/identity/keyring.ts';
import { openLog } from '../../src/log/writer.ts';
import type { Divergence } from '../../src/replay/divergence.ts';
import { type RerunOptions, type RerunReport, rerun } from '../../src/replay/rerun.ts';
import type { NatsServer } from '../../src/server/nats-server.ts';
import { agentsIn, type Place } from '../support/agents.ts';
import { testServer } from '../support/nats.ts';

/** What a worker is asked. */
interface Question {
  readonly topic: string;
}

const model = (prompt: string): { readonly answer: string } => ({ answer: `${prompt}!` });

/** What a worker does, piece by piece, so that a mutation changes one of them. */
interface Pieces {
  readonly prompt: (topic: string) => string;
  readonly first: (context: Context) => Promise<unknown>;
  readonly draft: (context: Context, threadId: string, answer: string) => Promise<unknown>;
  readonly answer: (context: Context, message: Received, said: Record<string, unknown>) => Promise<unknown>;
  readonly say: (draft: () => Promise<unknown>, answer: () => Promise<unknown>) => Promise<unknown>;
  readonly last: (context: Context, message: Received) => Promise<unknown>;
}

const nothing = async (): Promise<void> => undefined;

const pieces: Pieces = {
  prompt: (topic) => `What is ${topic}?`,
  first: nothing,
  draft: (context, threadId, answer) => context.publish(`thread.${threadId}.worker.draft`, { draft: answer }),
  answer: (context, message, said) =>
    context.publish(`thread.${message.threadId}.worker`, said, { refs: [message], meta: { model: 'echo' } }),
  say: async (draft, answer) => {
    await draft();
    await answer();
  },
  last: nothing,
};

/** Asks a model about each question, says a draft and then the answer, and remembers how many there were. */
function worker(changed: Partial<Pieces> = {}): () => Handlers {
  const { prompt, first, draft, answer, say, last } = { ...pieces, ...changed };
  return () => {
    let answered = 0;
    return {
      'thread.*.planner': async (message, context) => {
        const { topic } = message.payload as Question;
        await first(context);
        const found = await context.step('model', model, prompt(topic));
        answered += 1;
        const said = { ...found, answered, at: context.now(), id: context.uuid(), dice: context.random() };
        await say(
          () => draft(context, message.threadId, found.answer),
          () => answer(context, message, said),
        );
        await last(context, message);
      },
    };
  };
}

let server: NatsServer;
let place: Place;

beforeAll(async () => {
  server = await testServer();
  place = await agentsIn(mkdtempSync(join(tmpdir(), 'can-swarm-test-')), server.url, ['planner', 'worker']);
  await using planner = await place.join('planner');
  await using swarm = await place.join('worker');
  await defineAgent({ name: 'worker', on: worker() }).run(swarm);
  for (const topic of ['rain', 'snow']) await planner.publish('thread.t1.planner', { topic });
  await planner.publish('thread.t2.planner', { topic: 'sun' });
  await vi.waitFor(() => {
    expect(place.records().filter(({ header }) => header.subject.endsWith('.worker'))).toHaveLength(3);
  }, 60_000);
});
afterAll(async () => {
  await server.stop();
  rmSync(place.folder, { recursive: true, force: true });
});

async function again(
  on: Handlers | (() => Handlers),
  options: Partial<RerunOptions> = {},
): Promise<RerunReport> {
  const { keyring } = await loadKeyring(place.keyring);
  return await rerun(defineAgent({ name: 'worker', on }), place.log, { keyring, ...options });
}

test('an agent does again what it did', async () => {
  const report = await again(worker());
  expect(report.divergences).toEqual([]);
  expect(report).toMatchObject({
    agent: 'worker',
    sessions: 1,
    deliveries: 3,
    publishes: 6,
    steps: 3,
    impure: [],
  });
});

test('in a hundred runs it comes to one digest', async () => {
  const digests = new Set<string>();
  for (let run = 0; run < 100; run += 1) digests.add((await again(worker())).digest);
  expect(digests.size).toBe(1);
});

/** What each change of the worker must be found as, for each of its three deliveries unless said otherwise. */
const mutations: readonly {
  readonly what: string;
  readonly changed: Partial<Pieces>;
  readonly found: readonly Partial<Divergence>[];
  readonly only?: number;
}[] = [
  {
    what: 'another prompt',
    changed: { prompt: (topic) => `Explain ${topic}.` },
    found: [{ code: 'step-changed', field: 'args' }],
  },
  {
    what: 'another branch for one topic',
    changed: {
      draft: async (context, threadId, answer) =>
        answer.includes('snow') ? undefined : await pieces.draft(context, threadId, answer),
    },
    found: [{ code: 'publish-missing', index: 1 }],
    only: 1,
  },
  {
    what: 'two publishes in another order',
    changed: {
      say: async (draft, answer) => {
        await answer();
        await draft();
      },
    },
    found: [{ code: 'publish-moved' }],
  },
  {
    what: 'a dropped publish',
    changed: { answer: nothing },
    found: [{ code: 'publish-missing' }],
  },
  {
    what: 'an extra publish',
    changed: { last: (context, { threadId }) => context.publish(`thread.${threadId}.worker.more`, 'more') },
    found: [
      {
        code: 'publish-extra',
        actual: { subject: expect.stringContaining('.worker.more'), payload: 'more' },
      },
    ],
  },
  {
    what: 'a publish said twice',
    changed: {
      say: async (draft, answer) => {
        await draft();
        await answer();
        await answer();
      },
    },
    found: [{ code: 'publish-extra' }],
  },
  {
    what: 'another payload',
    changed: {
      answer: (context, message, said) => pieces.answer(context, message, { ...said, answered: -1 }),
    },
    found: [
      {
        code: 'publish-changed',
        field: 'payload',
        changes: [{ path: '/answered', expected: expect.any(Number), actual: -1 }],
      },
    ],
  },
  {
    what: 'the same payload, spelled otherwise',
    changed: {
      answer: (context, message, { answer, ...rest }) => pieces.answer(context, message, { ...rest, answer }),
    },
    found: [{ code: 'publish-changed', field: 'payload', changes: [] }],
  },
  {
    what: 'another subject',
    changed: {
      draft: (context, threadId, draft) => context.publish(`thread.${threadId}.worker.note`, { draft }),
    },
    found: [
      {
        code: 'publish-changed',
        field: 'subject',
        changes: [
          { path: '', expected: expect.stringMatching(/draft$/), actual: expect.stringMatching(/note$/) },
        ],
      },
    ],
  },
  {
    what: 'other refs',
    changed: {
      answer: (context, { threadId }, said) =>
        context.publish(`thread.${threadId}.worker`, said, { meta: { model: 'echo' } }),
    },
    found: [{ code: 'publish-changed', field: 'refs' }],
  },
  {
    what: 'other meta',
    changed: {
      answer: (context, message, said) =>
        context.publish(`thread.${message.threadId}.worker`, said, {
          refs: [message],
          meta: { model: 'gpt' },
        }),
    },
    found: [
      {
        code: 'publish-changed',
        field: 'meta',
        changes: [{ path: '/model', expected: 'echo', actual: 'gpt' }],
      },
    ],
  },
  {
    what: 'an extra step first, which nothing answers',
    changed: { first: (context) => context.step('search', async () => 'found') },
    found: [{ code: 'step-unrecorded', expected: 'model', actual: 'search' }],
  },
  {
    what: 'an extra step of the same name first',
    changed: { first: (context) => context.step('model', model, 'Who asks?') },
    found: [
      {
        code: 'step-unrecorded',
        actual: 'model',
        detail: expect.stringMatching(
          /^step model, given \["Who asks\?"\], is not on the record; it is answered as /,
        ),
      },
    ],
  },
  {
    what: 'an extra step last',
    changed: { last: (context) => context.step('model', model, 'Once more?') },
    found: [{ code: 'step-unrecorded', actual: 'model' }],
  },
  {
    what: 'a handler that throws at its end',
    changed: { last: () => Promise.reject(new RangeError('too much')) },
    found: [{ code: 'throws-otherwise', actual: { name: 'RangeError', message: 'too much' } }],
  },
  {
    what: 'a handler that waits for what never comes',
    changed: { last: () => new Promise(() => undefined) },
    found: [{ code: 'no-return' }],
  },
  {
    what: 'a publish that is not permitted',
    changed: { last: (context) => context.publish('thread.t1.planner', 'me') },
    found: [{ code: 'throws-otherwise', actual: expect.objectContaining({ code: 'PUBLISH_NOT_PERMITTED' }) }],
  },
];

test.each(mutations)('$what is found, and nothing else', async ({ changed, found, only }) => {
  const { divergences } = await again(worker(changed), { returnWithinMs: 200 });
  const wanted =
    only === undefined ? [0, 1, 2].flatMap((index) => found.map((one) => ({ ...one, index }))) : found;
  expect(divergences).toMatchObject(wanted);
  for (const { detail, at } of divergences) {
    expect(detail).toMatch(/^\S.*[^.]$/);
    expect(at.file).toBe(place.log);
  }
});

test('steps that are not taken any more are named, each', async () => {
  const { divergences } = await again({ 'thread.*.planner': () => undefined });
  expect(divergences.map(({ code }) => code)).toEqual(
    [0, 1, 2].flatMap(() => ['step-untaken', 'publish-missing', 'publish-missing']),
  );
});

test('two messages on one subject that are said otherwise are two divergences, whatever refers to them', async () => {
  const saying =
    (mark: string): MessageHandler =>
    async (message, context) => {
      const one = await context.publish(`thread.${message.threadId}.worker`, `one${mark}`);
      const two = await context.publish(`thread.${message.threadId}.worker`, `two${mark}`);
      await context.publish(`thread.${message.threadId}.worker.both`, 'both', { refs: [one, two] });
    };
  await using elsewhere = await testServer();
  const apart = await agentsIn(mkdtempSync(join(tmpdir(), 'can-swarm-test-')), elsewhere.url, [
    'worker',
    'boss',
  ]);
  {
    await using boss = await apart.join('boss');
    await using swarm = await apart.join('worker');
    await defineAgent({ name: 'worker', on: { 'thread.*.boss': saying('') } }).run(swarm);
    await boss.publish('thread.t9.boss', 'go');
    await vi.waitFor(() => expect(apart.records()).toHaveLength(6), 60_000);
  }
  const { keyring } = await loadKeyring(apart.keyring);
  const changed = defineAgent({ name: 'worker', on: { 'thread.*.boss': saying('!') } });
  expect((await rerun(changed, apart.log, { keyring })).divergences).toMatchObject([
    { code: 'publish-changed', field: 'payload', expected: 'one', actual: 'one!' },
    { code: 'publish-changed', field: 'payload', expected: 'two', actual: 'two!' },
  ]);

  // By a rule each of them is as good as the other; what is the same down to its bytes is still itself.
  const swapped = defineAgent({
    name: 'worker',
    on: {
      'thread.*.boss': async ({ threadId }, context) => {
        const two = await context.publish(`thread.${threadId}.worker`, 'two');
        const one = await context.publish(`thread.${threadId}.worker`, 'one');
        await context.publish(`thread.${threadId}.worker.both`, 'both', { refs: [one, two] });
      },
    },
  });
  const byRule = await rerun(swapped, apart.log, { keyring, payloads: () => [] });
  expect(byRule.divergences).toMatchObject([{ code: 'publish-moved' }]);
  rmSync(apart.folder, { recursive: true });
});

test('a message that no filter takes any more is named', async () => {
  const { divergences } = await again({
    'thread.t1.planner': worker()()['thread.*.planner'] as MessageHandler,
  });
  expect(divergences).toMatchObject([{ code: 'no-handler', index: 2, threadId: 't2' }]);
});

test('one thread alone, or up to a record', async () => {
  // The worker counts over all threads, so that alone the second thread is another history.
  expect(await again(worker(), { thread: 't1' })).toMatchObject({ deliveries: 2, divergences: [] });
  expect(await again(worker(), { thread: 't2' })).toMatchObject({
    divergences: [{ field: 'payload', changes: [{ path: '/answered', expected: 3, actual: 1 }] }],
  });
  for (const { leaf, header } of place.records()) {
    const { divergences } = await again(worker(), { until: leaf }).catch((error: SwarmError) => {
      if (error.code !== 'RECORD_MISSING') throw error;
      return { divergences: [] }; // before the first delivery
    });
    expect(divergences, `${header.kind} ${header.seq}`).toEqual([]);
  }
});

test('what a handler asks past its context is named, with what to ask in its place', async () => {
  const { impure, divergences } = await again(
    worker({
      answer: (context, message, said) => pieces.answer(context, message, { ...said, at: Date.now() }),
      last: async () => [
        new Date(),
        Math.random(),
        crypto.randomUUID(),
        randomUUID(),
        performance.now(),
        process.hrtime(),
        process.hrtime.bigint(),
      ],
    }),
  );
  expect(impure.map(({ call, times }) => [call, times])).toEqual([
    ['Date.now()', 3],
    ['new Date()', 3],
    ['Math.random()', 3],
    ['crypto.randomUUID()', 3],
    ['crypto.randomUUID()', 3],
    ['performance.now()', 3],
    ['process.hrtime()', 3],
    ['process.hrtime.bigint()', 3],
  ]);
  for (const { at } of impure) expect(at).toMatch(/rerun\.test\.ts:\d+:\d+$/);
  expect(divergences.map(({ changes }) => changes?.map(({ path }) => path))).toEqual([
    ['/at'],
    ['/at'],
    ['/at'],
  ]);
  expect([Math.random.name, typeof process.hrtime.bigint()]).toEqual(['random', 'bigint']); // as before
});

test('a log with a changed line is refused', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'can-swarm-test-'));
  const log = join(folder, 'swarm.jsonl');
  writeFileSync(log, readFileSync(place.log, 'utf8').replace('"topic":"snow"', '"topic":"mud"'));
  const { keyring } = await loadKeyring(place.keyring);
  const refused = rerun(defineAgent({ name: 'worker', on: worker() }), log, { keyring });
  await expect(refused).rejects.toMatchObject({
    code: 'LOG_REFUSED',
    message: expect.stringContaining('payload-mismatch'),
  });
  rmSync(folder, { recursive: true });
});

test('a log with a torn end is refused until a later record names it', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'can-swarm-test-'));
  const path = join(folder, 'swarm.jsonl');
  writeFileSync(path, readFileSync(place.log).subarray(0, -57));
  const { keyring } = await loadKeyring(place.keyring);
  const agent = defineAgent({ name: 'worker', on: worker() });
  await expect(rerun(agent, path, { keyring })).rejects.toMatchObject({
    code: 'LOG_REFUSED',
    message: expect.stringMatching(
      /unterminated: .*; what a killed writer left torn is named by the next record/,
    ),
  });
  {
    await using log = await openLog(path, { key: place.keys.planner as SigningKey });
    await log.append({ subject: 'thread.t1.planner', kind: 'BUS.PUBLISH', payload: Buffer.from('1') });
  }
  expect((await rerun(agent, path, { keyring })).divergences).toEqual([]);
  rmSync(folder, { recursive: true });
});

test('an agent that the keyring or the log does not have is refused by name', async () => {
  const { keyring } = await loadKeyring(place.keyring);
  const stranger = defineAgent({ name: 'stranger', on: worker() });
  await expect(rerun(stranger, place.log, { keyring })).rejects.toMatchObject({ code: 'KEYRING_INVALID' });
  const elsewhere = defineAgent({ name: 'worker', durable: 'other', on: worker() });
  await expect(rerun(elsewhere, place.log, { keyring })).rejects.toMatchObject({
    code: 'RECORD_MISSING',
    message: expect.stringContaining('3 under the durable worker'),
  });
});
