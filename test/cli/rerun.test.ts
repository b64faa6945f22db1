import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { joinSwarm, type Swarm } from '../../src/agent/swarm.ts';
import { defineAgent } from '../../src/handler/definition.ts';
import type { NatsServer } from '../../src/server/nats-server.ts';
import { linesOf } from '../support/log.ts';
import { testServer } from '../support/nats.ts';
import { newFolder, saveAgent, session, shell } from './swarm.ts';

let server: NatsServer;
let folder: string;

/** The agent as a person writes it: as a module of their own. */
const moduleText = (prompt: string, more = ''): string => `
import { defineAgent } from 'can-swarm';
export const worker = defineAgent({
  name: 'worker',
  on: {
    'thread.*.planner': async (message, context) => {
      const answer = await context.step('model', async (prompt) => prompt.toUpperCase(), ${prompt});
      await context.publish(\`thread.\${message.threadId}.worker\`, { answer });${more}
    },
  },
});
`;

function joinAs(env: string): Promise<Swarm> {
  return joinSwarm({
    env: join(folder, env),
    environment: {},
    url: server.url,
    log: join(folder, 'logs/swarm.jsonl'),
    keyring: join(folder, 'swarm.keys.json'),
    state: join(folder, '.swarm/sealed'),
  });
}

const path = (): string => join(folder, 'logs/swarm.jsonl');

beforeAll(async () => {
  server = await testServer();
  folder = newFolder();
  await saveAgent(folder, 'worker');
  await saveAgent(folder, 'planner', 'planner.env');
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(resolve(import.meta.dirname, '../..'), join(folder, 'node_modules/can-swarm'));
  writeFileSync(join(folder, 'worker.mjs'), moduleText('"about " + message.payload'));
  writeFileSync(join(folder, 'changed.mjs'), moduleText('"on " + message.payload', '\n      Date.now();'));
  writeFileSync(join(folder, 'empty.mjs'), 'export const nothing = 1;');
  writeFileSync(join(folder, 'worker.ts'), 'export const worker: number = 1;');
  await using planner = await joinAs('planner.env');
  await using swarm = await joinAs('.env');
  await defineAgent({
    name: 'worker',
    on: {
      'thread.*.planner': async ({ payload, threadId }, context) => {
        const answer = await context.step(
          'model',
          async (asked) => asked.toUpperCase(),
          `about ${String(payload)}`,
        );
        await context.publish(`thread.${threadId}.worker`, { answer });
      },
    },
  }).run(swarm);
  for (const topic of ['rain', 'snow']) await planner.publish('thread.t1.planner', topic);
  await vi.waitFor(() => expect(linesOf(path())).toHaveLength(10), 60_000);
});
afterAll(() => server.stop());

test('an agent that does the same, and one that does not', async () => {
  await session(
    folder,
    `
    $ swarm rerun worker.mjs
    Re-ran worker: 2 deliveries, 2 messages, 2 steps, 0 divergences, digest <hash>
    $ swarm rerun worker.mjs logs/swarm.jsonl --agent worker --thread t9
    ! swarm: the log logs/swarm.jsonl has no delivery to worker in the thread t9
    [3]
    $ swarm rerun changed.mjs
    ! swarm: warning: worker calls Date.now() at <...>changed.mjs:9:12, 2 times: another answer each time; use context.now()
    logs/swarm.jsonl:<n>: step-changed: step model is given something else: /0: "about rain", now "on rain" (delivery 0, thread t1)
    logs/swarm.jsonl:<n>: step-changed: step model is given something else: /0: "about snow", now "on snow" (delivery 1, thread t1)
    Re-ran worker: 2 deliveries, 2 messages, 2 steps, 2 divergences, digest <hash>
    [1]`,
  );
  const { stdout, code } = await shell(folder, 'swarm rerun changed.mjs --json');
  expect(code).toBe(1);
  const report = JSON.parse(stdout) as { divergences: { changes: unknown }[] };
  expect(report.divergences.map(({ changes }) => changes)).toEqual(
    ['rain', 'snow'].map((topic) => [{ path: '/0', expected: `about ${topic}`, actual: `on ${topic}` }]),
  );
});

test('what cannot be run is refused by name, with the way out', async () => {
  await session(
    folder,
    `
    $ swarm rerun missing.mjs
    ! swarm: cannot load missing.mjs: <...>
    [2]
    $ swarm rerun worker.ts
    ! swarm: cannot load worker.ts: <...>; this Node does not run TypeScript by itself: install tsx, and set NODE_OPTIONS='--import tsx'
    [2]
    $ swarm rerun empty.mjs
    ! swarm: empty.mjs exports no agent; export what \`defineAgent\` returns
    [2]
    $ swarm rerun worker.mjs --agent boss
    ! swarm: worker.mjs exports only worker; export what \`defineAgent\` returns
    [2]
    $ swarm rerun worker.mjs --branch w1
    ! swarm: --branch needs --until: the record after which it goes on live
    [2]
    $ swarm rerun worker.mjs --url nats://127.0.0.1:1
    ! swarm: --url is for --branch; without it nothing goes live
    [2]
    $ sed 's/snow/mud!/' logs/swarm.jsonl > bad.jsonl; swarm rerun worker.mjs bad.jsonl
    ! swarm: bad.jsonl is INVALID, and nothing is made of it: bad.jsonl:<n>: payload-mismatch: <...>
    [1]`,
  );
});

test('from a record on it goes on live, in a thread of its own', async () => {
  const step = linesOf(path()).findLastIndex((line) => line.includes('"step":"model"')) + 1;
  await session(
    folder,
    `
    $ swarm rerun changed.mjs --until logs/swarm.jsonl:${step} --branch w1 --url ${server.url}
    ! swarm: worker does not do again what it did: logs/swarm.jsonl:<n>: step model is given something else: <...>; branch off before that
    [1]
    $ swarm rerun worker.mjs --until logs/swarm.jsonl:${step}
    Re-ran worker: 2 deliveries (1 broken off), 1 messages, 2 steps, 0 divergences, digest <hash>
    $ swarm rerun worker.mjs --until logs/swarm.jsonl:${step} --branch w1 --url ${server.url}
    Went on live as worker in thread w1, after 2 deliveries of its history.
    ! What came of it:  swarm replay logs/swarm.jsonl --thread w1
    $ swarm verify -q | tail -1
    Verified 12 records, 0 bad
    $ swarm rerun worker.mjs
    Re-ran worker: 2 deliveries, 2 messages, 2 steps, 0 divergences, digest <hash>`,
  );
  expect(readFileSync(path(), 'utf8')).toContain('"subject":"thread.w1.worker"');
});
