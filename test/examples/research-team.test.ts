/** The research team: its recorded log is its regression test, and a run of today is one, too. */
import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { type Context, type DefinedAgent, defineAgent, parseLine } from 'can-swarm';
import { expectSameHistory, matching } from 'can-swarm/testing';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import type { z } from 'zod';
import { Task } from '../../examples/research-team/messages.ts';
import { planner } from '../../examples/research-team/planner.ts';
import { team } from '../../examples/research-team/team.ts';
import { type TemporaryFolder, temporaryFolder } from '../support/folder.ts';
import { linesOf } from '../support/log.ts';

const project = join(import.meta.dirname, '../..');
const golden = join(project, 'examples/research-team/golden');
const log = join(golden, 'swarm.jsonl');
const run = promisify(execFile);

const recordsOf = (path: string) =>
  linesOf(path).map((line) => {
    const parsed = parseLine(line);
    if (!parsed.ok) throw new Error(parsed.detail);
    return parsed.record;
  });

describe('the recorded log', () => {
  afterEach(() => {
    vi.useRealTimers();
    vi.unstubAllGlobals();
  });

  const counts: Record<string, { deliveries: number; steps: number; publishes: number }> = {
    planner: { deliveries: 2, steps: 2, publishes: 4 },
    'worker-1': { deliveries: 2, steps: 2, publishes: 2 },
    'worker-2': { deliveries: 2, steps: 2, publishes: 2 },
    reviewer: { deliveries: 4, steps: 2, publishes: 2 },
  };

  test.each(team.map((agent) => [agent.name, agent] as const))(
    '%s does again what it did, with the clock frozen and no network',
    async (name, agent) => {
      vi.useFakeTimers({ now: 0 });
      vi.stubGlobal('fetch', () => Promise.reject(new Error('there is no network')));
      const report = await expectSameHistory(agent, log);
      expect(report).toMatchObject({ ...counts[name], sessions: 1, impure: [], divergences: [] });
    },
  );

  test('a hundred runs of the team come to one digest each', async () => {
    for (const agent of team) {
      const digests = new Set<string>();
      for (let times = 0; times < 100; times += 1) digests.add((await expectSameHistory(agent, log)).digest);
      expect([agent.name, digests.size]).toEqual([agent.name, 1]);
    }
  });

  test('has two findings in the refs of each answer, from both workers', () => {
    const records = recordsOf(log);
    const answers = records.filter(
      ({ header }) => header.kind === 'BUS.PUBLISH' && header.subject.endsWith('.reviewer'),
    );
    expect(answers).toHaveLength(2);
    for (const { header } of answers) {
      const found = header.refs?.map((ref) => records.find(({ leaf }) => leaf === ref)?.header);
      expect(found).toMatchObject([
        { kind: 'BUS.PUBLISH', subject: `thread.${header.threadId}.worker-1` },
        { kind: 'BUS.PUBLISH', subject: `thread.${header.threadId}.worker-2` },
      ]);
    }
  });

  test('holds no secret', () => {
    for (const file of readdirSync(golden, { recursive: true, withFileTypes: true })) {
      if (file.isFile())
        expect(readFileSync(join(file.parentPath, file.name), 'utf8')).not.toMatch(/SIGNING|_SK_/);
    }
  });

  /** The agent, but that its handlers get another context. */
  const changed = (agent: DefinedAgent, change: (context: Context) => Partial<Context>): DefinedAgent =>
    defineAgent({
      name: agent.name,
      on: () => {
        const handlers = agent.begin();
        const on = (filter: string) =>
          [
            filter,
            (...[message, context]: Parameters<NonNullable<ReturnType<typeof handlers.handlerOf>>>) => {
              const { step, publish, now, random, uuid } = context;
              const bound = {
                step: step.bind(context),
                publish: publish.bind(context),
                now: now.bind(context),
                random: random.bind(context),
                uuid: uuid.bind(context),
              };
              return handlers.handlerOf(message.subject)?.(message, { ...bound, ...change(bound) });
            },
          ] as const;
        return Object.fromEntries(handlers.filters.map(on));
      },
    });

  test('shows a changed prompt where it changed', async () => {
    const polite = changed(planner, (context) => ({
      step: ((name: string, act: (...args: unknown[]) => unknown, instructions: string, ...rest: unknown[]) =>
        context.step(name, act, `${instructions} Please.`, ...rest)) as Context['step'],
    }));
    await expect(expectSameHistory(polite, log)).rejects.toThrow(
      /planner does otherwise .*: 2 divergences in 2 deliveries[\s\S]*step plan is given something else: \/0: "?….* nothing else\.", now "?….* nothing else\. Please\."/,
    );
  });

  test('lets an agent answer in other words, where its schema is asked', async () => {
    const chatty = changed(planner, (context) => ({
      publish: (subject, payload, options) =>
        context.publish(subject, { ...(payload as z.infer<typeof Task>), task: 'something else' }, options),
    }));
    await expect(expectSameHistory(chatty, log)).rejects.toThrow('4 divergences');
    await expectSameHistory(chatty, log, { payloads: matching(Task) });
  });
});

describe('a run of today, with a model behind HTTP', () => {
  interface Asked {
    readonly authorization: string | undefined;
    readonly body: { model: string; messages: { role: string; content: string }[] };
  }
  const asked: Asked[] = [];
  const secret = 'sk-of-the-test';
  let folder: TemporaryFolder;
  let fresh: string;

  afterAll(() => folder[Symbol.asyncDispose]());
  beforeAll(async () => {
    folder = await temporaryFolder();
    const server = createServer(async (request, response) => {
      const body = JSON.parse(await textOf(request)) as Asked['body'];
      asked.push({ authorization: request.headers.authorization, body });
      if (asked.length === 1 || request.url !== '/v1/chat/completions') {
        response.writeHead(503).end('warming up');
        return;
      }
      const [system, user] = body.messages.map(({ content }) => content);
      const content = system?.includes('two lines')
        ? `What of it?\n\nWhat else of: ${user}`
        : `${user}! (${asked.length})`;
      response.writeHead(200, { 'content-type': 'application/json' }).end(
        JSON.stringify({
          model: `${body.model}-0001`,
          choices: [{ message: { role: 'assistant', content } }],
        }),
      );
    });
    await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
    const { port } = server.address() as AddressInfo;
    fresh = join(folder.path, 'golden');
    const { PATH, HOME, SWARM_NATS_SERVER } = process.env;
    await run(process.execPath, ['--import', tsx, 'examples/research-team/record.ts', fresh], {
      cwd: project,
      env: {
        PATH,
        HOME,
        ...(SWARM_NATS_SERVER && { SWARM_NATS_SERVER }),
        OPENAI_BASE_URL: `http://127.0.0.1:${port}/v1/`,
        OPENAI_API_KEY: secret,
        OPENAI_MODEL: 'test-model',
      },
    });
    server.closeAllConnections();
    await new Promise((closed) => server.close(closed));
  });

  test('asks the server as it is set up', () => {
    expect(asked.length).toBeGreaterThan(8);
    for (const { authorization, body } of asked) {
      expect(authorization).toBe(`Bearer ${secret}`);
      expect(body).toMatchObject({ model: 'test-model', messages: [{ role: 'system' }, { role: 'user' }] });
    }
  });

  test('answers both questions, though the model failed at first, and names the model in what is said', () => {
    const records = recordsOf(join(fresh, 'swarm.jsonl'));
    const answers = records.filter(
      ({ header }) => header.kind === 'BUS.PUBLISH' && header.subject.endsWith('.reviewer'),
    );
    expect(answers.map(({ header }) => header.threadId).toSorted()).toEqual(['sea', 'sky']);
    for (const { header } of answers) expect(header.meta).toEqual({ model: 'test-model-0001' });
    const failed = records.find(({ header }) => header.kind === 'AGENT.STEP' && header.reason === 'error');
    expect(Buffer.from(failed?.payload ?? '').toString()).toContain(
      "the model's server says 503: warming up",
    );
  });

  test('is run again without the server', async () => {
    const before = asked.length;
    for (const agent of team) await expectSameHistory(agent, join(fresh, 'swarm.jsonl'));
    expect(asked).toHaveLength(before);
  });

  test('has no key of the server on its log', () => {
    expect(readFileSync(join(fresh, 'swarm.jsonl'), 'utf8')).not.toContain(secret);
  });
});

const tsx = pathToFileURL(join(project, 'node_modules/tsx/dist/esm/index.mjs')).href;

async function textOf(request: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of request.setEncoding('utf8')) text += chunk as string;
  return text;
}
