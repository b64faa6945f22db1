/** Agents that ran over a real broker, run again from their log: the same, and each way in which it is not. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { defineAgent, type Handlers } from '../../src/handler/definition.ts';
import { loadKeyring } from '../../src/identity/keyring.ts';
import { type RerunOptions, type RerunReport, rerun } from '../../src/replay/rerun.ts';
import type { NatsServer } from '../../src/server/nats-server.ts';
import { agentsIn, type Place } from '../support/agents.ts';
import { testServer } from '../support/nats.ts';

/** What a worker is asked. */
interface Question {
  readonly topic: string;
}

const model = (prompt: string): { readonly answer: string } => ({ answer: `${prompt}!` });

/** Asks a model about each question, says a draft and then the answer, and remembers how many there were. */
function worker(): Handlers {
  let answered = 0;
  return {
    'thread.*.planner': async (message, context) => {
      const { topic } = message.payload as Question;
      const { answer } = await context.step('model', model, `What is ${topic}?`);
      const draft = await context.publish(`thread.${message.threadId}.worker.draft`, { draft: answer });
      answered += 1;
      await context.publish(
        `thread.${message.threadId}.worker`,
        { answer, answered, at: context.now(), id: context.uuid(), dice: context.random() },
        { refs: [draft], meta: { model: 'echo' } },
      );
    },
  };
}

let server: NatsServer;
let place: Place;

beforeAll(async () => {
  server = await testServer();
  place = await agentsIn(mkdtempSync(join(tmpdir(), 'can-swarm-test-')), server.url, ['planner', 'worker']);
  await using planner = await place.join('planner');
  await using swarm = await place.join('worker');
  await defineAgent({ name: 'worker', on: worker }).run(swarm);
  for (const topic of ['rain', 'snow']) await planner.publish('thread.t1.planner', { topic });
  await planner.publish('thread.t2.planner', { topic: 'sun' });
  await vi.waitFor(() => {
    expect(place.records().filter(({ header }) => header.subject.endsWith('.worker'))).toHaveLength(3);
  }, 20_000);
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
  const report = await again(worker);
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
  for (let run = 0; run < 100; run += 1) digests.add((await again(worker)).digest);
  expect(digests.size).toBe(1);
});
