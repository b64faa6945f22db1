/** Runs that did not go smoothly, run again as they went: redelivered, thrown, refused, side by side, killed, stopped. */
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, onTestFinished, test, vi } from 'vitest';
import type { Sha256Hex } from '../../src/base/encoding.ts';
import { connectBus } from '../../src/bus/connection.ts';
import type { Context } from '../../src/handler/context.ts';
import { type AgentDefinition, defineAgent, type Handlers } from '../../src/handler/definition.ts';
import { firstSaidAs } from '../../src/handler/received.ts';
import { StepError } from '../../src/handler/step.ts';
import type { SigningKey } from '../../src/identity/key.ts';
import { loadKeyring } from '../../src/identity/keyring.ts';
import { openLog } from '../../src/log/writer.ts';
import { parseLine } from '../../src/record/line.ts';
import { type RerunReport, rerun } from '../../src/replay/rerun.ts';
import { frailAgent } from '../fixtures/frail-agent.ts';
import { agentsIn, type Place } from '../support/agents.ts';
import { linesOf, temporaryFolder } from '../support/log.ts';
import { testServer, withServer } from '../support/nats.ts';
import { startProgram } from '../support/program.ts';

/** Runs a worker until it has handled `payloads` of a planner and `isDone`; returns its place, with the log closed. */
async function lived(
  definition: Omit<AgentDefinition, 'name'>,
  payloads: readonly unknown[],
  isDone: (place: Place) => boolean,
): Promise<Place> {
  return await withServer(async (server) => {
    const place = await agentsIn(temporaryFolder(), server.url, ['planner', 'worker']);
    await using planner = await place.join('planner');
    await using swarm = await place.join('worker');
    for (const payload of payloads) await planner.publish('thread.t1.planner', payload);
    await defineAgent({ name: 'worker', ...definition }).run(swarm, { onError: () => undefined });
    await vi.waitFor(() => expect(isDone(place)).toBe(true), { timeout: 60_000, interval: 50 });
    return place;
  });
}

async function again(place: Place, definition: Omit<AgentDefinition, 'name'>): Promise<RerunReport> {
  const { keyring } = await loadKeyring(place.keyring);
  return await rerun(defineAgent({ name: 'worker', ...definition }), place.log, { keyring });
}

const count = (place: Place, kind: string): number =>
  place.records().filter(({ header }) => header.kind === kind).length;

test('a handler that threw throws again, and does its second attempt', async () => {
  const on = (): Handlers => {
    let tries = 0;
    return {
      'thread.*.planner': async (_, context) => {
        tries += 1;
        await context.publish('thread.t1.worker', { tries });
        if (tries === 1) throw new TypeError('not yet');
      },
    };
  };
  const place = await lived(
    { on },
    ['go'],
    (there) => count(there, 'BUS.DELIVER') === 2 && count(there, 'BUS.PUBLISH') === 3,
  );
  expect(await again(place, { on })).toMatchObject({ deliveries: 2, publishes: 2, divergences: [] });
  const calm = await again(place, {
    on: { 'thread.*.planner': (_, context) => void context.publish('thread.t1.worker', { tries: 1 }) },
  });
  expect(calm.divergences).toMatchObject([
    { code: 'throws-otherwise', index: 0, expected: { name: 'TypeError', message: 'not yet' } },
    { code: 'publish-changed', index: 1, changes: [{ path: '/tries', expected: 2, actual: 1 }] },
  ]);
});

test('a step that threw throws again, the same to its handler, and is not called', async () => {
  let calls = 0;
  const on: Handlers = {
    'thread.*.planner': async (_, context) => {
      const failed: unknown = await context
        .step('tool', () => {
          calls += 1;
          throw Object.assign(new RangeError('out of tokens'), { code: 'E_TOKENS' });
        })
        .catch((error: unknown) => error);
      const isStepError = failed instanceof StepError;
      await context.publish('thread.t1.worker', isStepError ? { ...failed.thrown, step: failed.step } : 'no');
      await context.publish(
        'thread.t1.worker',
        (await context.step('nothing', () => undefined)) ?? 'nothing',
      );
    },
  };
  const place = await lived({ on }, ['go'], (there) => count(there, 'BUS.PUBLISH') === 3);
  const said = place
    .records()
    .filter(({ header }) => header.kind === 'BUS.PUBLISH')
    .map(({ payload }) => String(payload));
  expect(said).toEqual([
    '"go"',
    '{"name":"RangeError","message":"out of tokens","code":"E_TOKENS","step":"tool"}',
    '"nothing"',
  ]);
  expect(await again(place, { on })).toMatchObject({ steps: 2, publishes: 2, divergences: [] });
  expect(calls).toBe(1);
});

test('handlers side by side, and steps that raced, end as they ended', async () => {
  let isLive = true;
  const on = (): Handlers => {
    const order: unknown[] = [];
    const wait = async (name: string, ms: number): Promise<string> => {
      if (!isLive) throw new Error('the world was asked');
      await sleep(ms);
      return name;
    };
    return {
      'thread.*.planner': async ({ payload }, context: Context) => {
        const n = payload as number;
        const fast = context.step('race', wait, 'fast', 5 + ((n * 37) % 40));
        const slow = context.step('race', wait, 'slow', 5 + ((n * 53) % 40));
        const winner = await Promise.race([fast, slow]);
        await Promise.all([fast, slow]);
        order.push(n);
        await context.publish('thread.t1.worker', { n, winner, order: [...order] });
      },
    };
  };
  const numbers = Array.from({ length: 24 }, (_, n) => n);
  const place = await lived({ on, concurrency: 4 }, numbers, (there) => count(there, 'BUS.PUBLISH') === 48);
  isLive = false;
  const reports = [await again(place, { on, concurrency: 4 }), await again(place, { on, concurrency: 4 })];
  for (const report of reports) {
    expect(report).toMatchObject({ deliveries: 24, steps: 48, publishes: 24, divergences: [], impure: [] });
  }
  expect(reports[0]?.digest).toBe(reports[1]?.digest);
});

test('up to a record, one that is slow beside others breaks off there', async () => {
  const wait = (ms: number): Promise<void> => sleep(ms);
  const on: Handlers = {
    'thread.*.planner': async ({ payload }, context) => {
      await context.step('begin', wait, 0);
      await context.step('wait', wait, payload as number);
      await context.publish('thread.t1.worker', 'done');
    },
  };
  const definition = { on, concurrency: 2 };
  const place = await lived(
    definition,
    [1_500, 1, 1, 1, 1, 1],
    (there) => count(there, 'BUS.PUBLISH') === 12,
  );
  const { keyring } = await loadKeyring(place.keyring);
  const agent = defineAgent({ name: 'worker', ...definition });
  const first = place.records().findIndex(({ header }) => header.kind === 'BUS.DELIVER');
  for (const { leaf } of place.records().slice(first)) {
    expect(await rerun(agent, place.log, { keyring, until: leaf })).toMatchObject({ divergences: [] });
  }
});

test('up to a record, what is done otherwise before it is one divergence, and what follows it none', async () => {
  const on = (asked: string, said: string): Handlers => ({
    'thread.*.planner': async (_, context) => {
      await context.step('ask', (what: string) => `${what}?`, asked);
      await context.publish('thread.t1.worker', said);
      await context.step('ask', () => 'more');
      await context.publish('thread.t1.worker', 'done');
    },
  });
  const place = await lived({ on: on('what', 'this') }, ['go'], (there) => count(there, 'AGENT.STEP') === 3);
  const { keyring } = await loadKeyring(place.keyring);
  const found = async (until: Sha256Hex, changed: Handlers): Promise<readonly string[]> => {
    const agent = defineAgent({ name: 'worker', on: changed });
    return (await rerun(agent, place.log, { keyring, until })).divergences.map(({ code }) => code);
  };
  const leaves = place.records().map(({ leaf }) => leaf);
  const [, delivery, asked, ...since] = leaves as [Sha256Hex, Sha256Hex, Sha256Hex, ...Sha256Hex[]];
  for (const leaf of [delivery, asked]) expect(await found(leaf, on('what', 'that'))).toEqual([]);
  for (const leaf of since) expect(await found(leaf, on('what', 'that'))).toEqual(['publish-changed']);
  expect(await found(delivery, on('why', 'this'))).toEqual([]);
  for (const leaf of [asked, ...since])
    expect(await found(leaf, on('why', 'this'))).toEqual(['step-changed']);
});

test('what is said anew once its handler has ended is to the handler what it was', async () => {
  const on: Handlers = {
    'thread.*.planner': async (_, context) => {
      const one = await context.publish('thread.t1.worker', 'one');
      await context.publish('thread.t1.worker', 'two', { refs: [one] });
    },
  };
  const place = await lived({ on }, ['go'], (there) => count(there, 'AGENT.STEP') === 1);
  const one = place.records().find(({ header }) => header.subject === 'thread.t1.worker')?.leaf;
  {
    // As `swarm reconcile` does, where the broker has lost it.
    await using log = await openLog(place.log, { key: place.keys.worker as SigningKey });
    const meta = { [firstSaidAs]: String(one) };
    const payload = Buffer.from('"one"');
    await log.append({ subject: 'thread.t1.worker', kind: 'BUS.PUBLISH', payload, cause: one, meta });
  }
  expect(await again(place, { on })).toMatchObject({ publishes: 2, divergences: [] });
});

test('what is said anew while its handler waits is what the handler is told of', async () => {
  const on: Handlers = {
    'thread.*.planner': async (_, context) => {
      const one = await context.publish('thread.t1.worker', 'one');
      await context.publish('thread.t1.worker', 'two', { refs: [one] });
    },
  };
  await withServer(async (server) => {
    const place = await agentsIn(temporaryFolder(), server.url, ['planner', 'worker']);
    const duplicateWindowMs = 2_000; // a record is fresh for one second
    await using planner = await place.join('planner', { duplicateWindowMs });
    await using swarm = await place.join('worker', { duplicateWindowMs });
    const stopping: Handlers = {
      'thread.*.planner': async (message, context) => {
        server.kill('SIGSTOP');
        setTimeout(() => server.kill('SIGCONT'), 1_500);
        await on['thread.*.planner']?.(message, context);
      },
    };
    await defineAgent({ name: 'worker', on: stopping }).run(swarm);
    await planner.publish('thread.t1.planner', 'go');
    await vi.waitFor(() => expect(count(place, 'AGENT.STEP')).toBe(1), { timeout: 60_000, interval: 50 });
    expect(count(place, 'BUS.PUBLISH')).toBe(4); // one of them twice
    expect(await again(place, { on })).toMatchObject({ publishes: 2, divergences: [] });
  });
});

test('a handler that threw what a refused publish threw throws it again', async () => {
  const on = (): Handlers => {
    let tries = 0;
    return {
      'thread.*.planner': async (_, context) => {
        tries += 1;
        await context.publish(tries === 1 ? 'thread.t1.planner' : 'thread.t1.worker', tries);
      },
    };
  };
  const place = await lived({ on }, ['go'], (there) => count(there, 'BUS.PUBLISH') === 2);
  expect(await again(place, { on })).toMatchObject({ deliveries: 2, publishes: 2, divergences: [] });
});

test('a message that the broker refused is refused again', async () => {
  const on: Handlers = {
    'thread.*.planner': async (_, context) => {
      const failed = await context
        .publish('thread.t1.worker', 'x'.repeat(2_000))
        .catch((error: unknown) => error);
      await context.publish('thread.t1.worker', { code: (failed as { code?: unknown }).code ?? 'none' });
    },
  };
  await withServer(async (server) => {
    const place = await agentsIn(temporaryFolder(), server.url, ['planner', 'worker']);
    await using planner = await place.join('planner');
    await using swarm = await place.join('worker');
    await planner.publish('thread.t1.planner', 'go');
    const bus = await connectBus({ url: server.url });
    await bus.manager.streams.update('THREADS', { max_msg_size: 1_500 });
    await bus.close();
    await defineAgent({ name: 'worker', on }).run(swarm);
    await vi.waitFor(() => expect(count(place, 'BUS.PUBLISH')).toBe(3), 60_000);
    expect(count(place, 'BUS.UNSENT')).toBe(1);
    expect(await again(place, { on })).toMatchObject({ publishes: 2, divergences: [] });
  });
});

/** Says what became of a publish: its code, or that it was taken. */
const outcome = (said: Promise<unknown>): Promise<string> =>
  said.then(
    () => 'taken',
    (error: { code?: string; name?: string }) => `${error.name} ${error.code}`,
  );

/** The context, but that it publishes otherwise. */
const publishingBy = (context: Context, publish: Context['publish']): Context => ({
  now: () => context.now(),
  random: () => context.random(),
  uuid: () => context.uuid(),
  step: context.step.bind(context),
  publish,
});

test('publishes that threw with nothing else on the log throw again, each in its place', async () => {
  const tooMuch = Object.fromEntries(Array.from({ length: 9 }, (_, n) => [`m${n}`, 'x']));
  const on = (): Handlers => {
    let heard = 0;
    return {
      'thread.*.planner': async ({ threadId, payload }, context) => {
        heard += 1;
        const to = `thread.${threadId}.worker`;
        const large = 'x'.repeat(2_000_000);
        const outcomes = await Promise.all([
          outcome(context.publish(to, large)),
          outcome(context.publish(to, 'small')),
          outcome(context.publish(to, 'small', { meta: tooMuch })),
          outcome(context.publish(to, 'small')),
        ]);
        outcomes.push(await outcome(context.publish('thread.t1.planner', 'me')));
        outcomes.push(await outcome(context.publish('nowhere', 'it')));
        outcomes.push(await outcome(context.publish(to, 1n)));
        await context.publish(to, { outcomes, heard });
        if (payload === 'fail' && heard === 1) await context.publish(to, large);
      },
    };
  };
  const place = await lived({ on }, ['fail', 'go'], (there) =>
    there.records().some(({ payload }) => String(payload).includes('"heard":3')),
  );
  const said = place.records().find(({ payload }) => String(payload).includes('"heard":1'));
  expect(JSON.parse(String(said?.payload))).toEqual({
    outcomes: [
      'SwarmError BUS_PAYLOAD_TOO_LARGE',
      'taken',
      'SwarmError RECORD_INVALID',
      'taken',
      'SwarmError PUBLISH_NOT_PERMITTED',
      'SwarmError SUBJECT_INVALID',
      'SwarmError PAYLOAD_INVALID',
    ],
    heard: 1,
  });
  const report = await again(place, { on });
  expect(report).toMatchObject({ deliveries: 3, brokenOff: 0, divergences: [] });
  expect(Math.max(...place.records().map(({ payload }) => payload?.length ?? 0))).toBeLessThan(1_000);
  const shy = await again(place, {
    on: {
      'thread.*.planner': async (message, context) =>
        await on()['thread.*.planner']?.(
          message,
          publishingBy(context, async (subject, ...said) =>
            subject === 'thread.t1.planner' ? message : await context.publish(subject, ...said),
          ),
        ),
    },
  });
  const missing = shy.divergences.filter(({ code }) => code === 'publish-missing');
  expect(missing).toHaveLength(3);
  expect(missing[0]?.detail).toMatch(/^what hashes to \w{64} on thread\.t1\.planner was said, and is not$/);
});

test('a publish that was still open when the agent left throws again, and the handler goes the same way', async () => {
  const on: Handlers = {
    'thread.*.planner': async (_, context) => {
      await context.step('begin', () => 'begun');
      const became = await outcome(context.publish('thread.t1.worker', 'hello'));
      await context.step('note', (what) => what, became);
    },
  };
  await using server = await testServer();
  const place = await agentsIn(temporaryFolder(), server.url, ['planner', 'worker']);
  await using planner = await place.join('planner');
  const swarm = await place.join('worker');
  const isBegun = new Promise<void>((resolve) => {
    const begin: Handlers = {
      'thread.*.planner': async (message, context) =>
        await on['thread.*.planner']?.(
          message,
          publishingBy(context, async (...said) => {
            await server.stop();
            resolve();
            return await context.publish(...said);
          }),
        ),
    };
    void defineAgent({ name: 'worker', on: begin }).run(swarm, { finishWithinMs: 200 });
  });
  await planner.publish('thread.t1.planner', 'go');
  await isBegun;
  await swarm.close();
  const failed = place.records().find(({ header }) => header.step === 'context.publish');
  expect(String(failed?.payload)).toContain('"code":"BUS_CLOSED"');
  const report = await again(place, { on });
  expect(report).toMatchObject({ deliveries: 1, divergences: [] });
  const deaf = await again(place, {
    on: {
      'thread.*.planner': async (_, context) => {
        await context.step('begin', () => 'begun');
        await outcome(context.publish('thread.t1.worker', 'hello'));
        await context.step('note', (what) => what, 'taken');
      },
    },
  });
  expect(deaf.divergences).toMatchObject([
    { code: 'step-changed', changes: [{ path: '/0', expected: 'SwarmError BUS_CLOSED', actual: 'taken' }] },
  ]);
});

test('a process that was killed in the middle of a handler breaks off there, and its successor is as it was', async () => {
  await withServer(async (server) => {
    const place = await agentsIn(temporaryFolder(), server.url, ['planner', 'worker']);
    await using planner = await place.join('planner');
    const program = join(import.meta.dirname, '../fixtures/frail-agent.ts');
    for (const question of ['a', 'b', 'c']) await planner.publish('thread.t1.planner', question);
    const first = startProgram(program, [place.folder, server.url]);
    expect(await once(first, 'exit')).toEqual([null, 'SIGKILL']);
    const second = startProgram(program, [place.folder, server.url]);
    onTestFinished(() => void second.kill('SIGKILL')); // if it is not gone by then
    await vi.waitFor(() => expect(count(place, 'BUS.PUBLISH')).toBe(3 + 1 + 6), {
      timeout: 60_000,
      interval: 100,
    });
    second.kill('SIGTERM');
    expect(await once(second, 'exit')).toEqual([0, null]);
    const { keyring } = await loadKeyring(place.keyring);
    const report = await rerun(frailAgent(), place.log, { keyring });
    expect(report.divergences).toEqual([]);
    expect(report.sessions).toBe(2);
    const changed = await rerun(
      defineAgent({ name: 'worker', on: { 'thread.*.planner': () => undefined } }),
      place.log,
      { keyring },
    );
    expect(changed.divergences.filter(({ code }) => code === 'publish-missing')).toHaveLength(7);
  });
});

test('an agent runs once in a swarm that was joined: what it remembers begins with the session', async () => {
  await withServer(async (server) => {
    const place = await agentsIn(temporaryFolder(), server.url, ['worker']);
    await using swarm = await place.join('worker');
    const agent = defineAgent({ name: 'worker', on: { 'thread.*.planner': () => undefined } });
    await expect(agent.run(swarm, { ackWaitMs: 0 })).rejects.toMatchObject({ code: 'USAGE' }); // it did not run
    const unmade = defineAgent({
      name: 'worker',
      on: () => {
        throw new Error('no handlers today');
      },
    });
    await expect(unmade.run(swarm)).rejects.toThrow('no handlers today'); // nor did this
    const handling = await agent.run(swarm);
    await handling.stop();
    await expect(agent.run(swarm)).rejects.toMatchObject({
      code: 'USAGE',
      message: expect.stringContaining('ran in this swarm already'),
    });
  });
});

test('a log that grows beyond its segments is a history of one run, with what the agent remembers', async () => {
  const on = (): Handlers => {
    let heard = 0;
    return {
      'thread.*.planner': async (_, context) => {
        heard += 1;
        const said = { heard };
        await context.step('think', () => sleep(1));
        await context.publish('thread.t1.worker', said);
      },
    };
  };
  await withServer(async (server) => {
    const place = await agentsIn(temporaryFolder(), server.url, ['planner', 'worker']);
    await using planner = await place.join('planner', { log: join(place.folder, 'planner.jsonl') });
    const lives = [40, 20];
    for (const count of lives) {
      await using swarm = await place.join('worker', { rotateBytes: 20_000 });
      await defineAgent({ name: 'worker', on, concurrency: 2 }).run(swarm);
      const answers = planner.subscribe('thread.*.worker', { durable: `planner-${count}`, deliver: 'new' });
      await answers.ready();
      for (let n = 0; n < count; n += 1) await planner.publish('thread.t1.planner', n);
      for (let heard = 0; heard < count; heard += 1) await (await answers.next())?.ack();
    }
    const segments = readdirSync(dirname(place.log)).filter((name) => /^swarm\.\d+\.jsonl$/.test(name));
    expect(segments.length).toBeGreaterThan(4);
    const definition = { on, concurrency: 2 };
    expect(await again(place, definition)).toMatchObject({
      sessions: 2,
      deliveries: 60,
      brokenOff: 0,
      publishes: 60,
      divergences: [],
    });
    const mute = await again(place, { ...definition, on: { 'thread.*.planner': () => undefined } });
    expect(mute.divergences).toHaveLength(120);
  });
});

test('a session that has deliveries alone is of the run in which they were handled', async () => {
  const on = (): Handlers => {
    let heard = 0;
    return {
      'thread.*.planner': async (_, context) => {
        heard += 1;
        await context.publish('thread.t1.worker', { heard });
      },
    };
  };
  await withServer(async (server) => {
    const place = await agentsIn(temporaryFolder(), server.url, ['planner', 'worker']);
    await using planner = await place.join('planner', { log: join(place.folder, 'planner.jsonl') });
    const answers = planner.subscribe('thread.*.worker', { durable: 'planner' });
    await answers.ready();
    for (let n = 0; n < 30; n += 1) await planner.publish('thread.t1.planner', n); // they come together
    {
      await using swarm = await place.join('worker', { rotateBytes: 5_000 });
      await defineAgent({ name: 'worker', on }).run(swarm);
      for (let n = 0; n < 30; n += 1) await (await answers.next())?.ack();
    }
    expect(await again(place, { on })).toMatchObject({ sessions: 1, deliveries: 30, divergences: [] });
    const { keyring } = await loadKeyring(place.keyring);
    const agent = defineAgent({ name: 'worker', on });
    const files = readdirSync(dirname(place.log)).filter((name) => name.endsWith('.jsonl'));
    const lines = files.flatMap((name) => linesOf(join(dirname(place.log), name)));
    const records = lines.flatMap((line) => parseLine(line).record ?? []);
    const sessions = new Map(records.map(({ leaf, header }) => [leaf, header.session]));
    const later = records.filter(
      ({ header: { kind, cause, session } }) =>
        kind === 'BUS.PUBLISH' && cause !== undefined && sessions.get(cause) !== session,
    );
    expect(later.length).toBeGreaterThan(5);
    for (const { leaf: until, payload } of later.slice(0, 5)) {
      const { heard } = JSON.parse(String(payload)) as { heard: number };
      const report = await rerun(agent, place.log, { keyring, until });
      expect(report).toMatchObject({ sessions: 1, publishes: heard, divergences: [] });
    }
    const mute = await again(place, { on: { 'thread.*.planner': () => undefined } });
    expect(mute.divergences).toHaveLength(30);
  });
});
