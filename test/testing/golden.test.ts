/** A golden log is recorded from a live run, and is a test from then on. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { mock } from 'node:test';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { z } from 'zod';
import { defineAgent, type Handlers } from '../../src/handler/definition.ts';
import { loadKeyring } from '../../src/identity/keyring.ts';
import { parseLine } from '../../src/record/line.ts';
import { expectSameHistory } from '../../src/testing/expect.ts';
import { type Golden, recordGolden } from '../../src/testing/golden.ts';
import { ignoring, matching } from '../../src/testing/payloads.ts';
import { verifyLog } from '../../src/verify/verify.ts';
import { temporaryFolder as folderOfBlock, type TemporaryFolder } from '../support/folder.ts';
import { linesOf, temporaryFolder } from '../support/log.ts';

interface Question {
  readonly topic: string;
}

/** Answers each question, the first time of all only when it is asked again. */
function asker(shout = '!'): () => Handlers {
  return () => ({
    'thread.*.driver': async (message, context) => {
      const { topic } = message.payload as Question;
      if (topic === 'trouble' && message.attempt === 1) throw new Error('not today');
      const answer = await context.step('model', (text: string) => text + shout, `What is ${topic}?`);
      await context.publish(`thread.${message.threadId}.asker`, { answer, at: context.now() });
    },
  });
}

/** Says twice what the asker says, slowly. */
const echo = defineAgent({
  name: 'echo',
  on: {
    'thread.*.asker': async (message, context) => {
      await new Promise((resolve) => setTimeout(resolve, 200));
      await context.publish(`thread.${message.threadId}.echo`, [message.payload, message.payload]);
    },
  },
});

const agent = (on: () => Handlers) => defineAgent({ name: 'asker', on });

let folder: TemporaryFolder;
let golden: Golden;

beforeAll(async () => {
  folder = await folderOfBlock();
  mkdirSync(join(folder.path, 'temporary'));
  vi.stubEnv('TMPDIR', join(folder.path, 'temporary'));
  golden = await recordGolden(join(folder.path, 'golden'), [agent(asker()), echo], async (driver) => {
    await driver.publish('thread.t1.driver', { topic: 'rain' });
    await driver.publish('thread.t1.driver', { topic: 'trouble' });
    await driver.publish('thread.t2.driver', { topic: 'snow' });
  });
});
afterAll(async () => {
  vi.unstubAllEnvs();
  await folder[Symbol.asyncDispose]();
});

const recordsOf = (log: string) =>
  linesOf(log).map((line) => {
    const parsed = parseLine(line);
    if (!parsed.ok) throw new Error(parsed.detail);
    return parsed.record;
  });

describe('recordGolden', () => {
  test('waits until everything is handled, what failed at first included', () => {
    const kinds = recordsOf(golden.log).map(
      ({ header: { kind, subject } }) => `${kind} ${subject.split('.')[2]}`,
    );
    const count = (what: string): number => kinds.filter((kind) => kind === what).length;
    expect(count('BUS.DELIVER driver')).toBe(4); // one of the three twice
    expect(count('BUS.PUBLISH asker')).toBe(3);
    expect(count('BUS.DELIVER asker')).toBe(3);
    expect(count('BUS.PUBLISH echo')).toBe(3);
  });

  test('leaves a log that is sealed to its end, its tree and the keyring, and no secret', async () => {
    const { keyring } = await loadKeyring(golden.keyring);
    const report = await verifyLog(golden.log, { keyring });
    expect(report).toMatchObject({ verdict: 'CONSISTENT', bad: 0 });
    expect(report.trees[0]?.sealed).toBe(linesOf(golden.log).length);
    const top = readdirSync(join(folder.path, 'golden'));
    expect(top.toSorted()).toEqual(['swarm.jsonl', 'swarm.keys.json', 'swarm.tlog']);
    for (const file of readdirSync(join(folder.path, 'golden'), { recursive: true, withFileTypes: true })) {
      if (!file.isFile()) continue;
      expect(readFileSync(join(file.parentPath, file.name), 'utf8')).not.toContain('SWARM_SIGNING');
    }
    expect(readdirSync(join(folder.path, 'temporary'))).toEqual([]); // where the secrets were
  });

  test('does not overwrite', async () => {
    const again = recordGolden(join(folder.path, 'golden'), [echo], () => undefined);
    await expect(again).rejects.toMatchObject({
      code: 'FILE_FAILED',
      message: expect.stringContaining('swarm.jsonl is there already'),
    });
  });

  test('leaves nothing where the scenario throws', async () => {
    const nowhere = join(temporaryFolder(), 'golden');
    const failing = recordGolden(nowhere, [echo], () => {
      throw new Error('no story');
    });
    await expect(failing).rejects.toThrow('no story');
    expect(existsSync(nowhere)).toBe(false);
  });

  test('says whose work is left where it does not come to an end', async () => {
    const warnings = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
    const stubborn = defineAgent({
      name: 'stubborn',
      on: {
        'thread.*.driver': () => {
          throw new Error('never');
        },
      },
    });
    const recording = recordGolden(
      join(temporaryFolder(), 'golden'),
      [stubborn],
      async (driver) => {
        await driver.publish('thread.t1.driver', 1);
      },
      { quietWithinMs: 500 },
    );
    await expect(recording).rejects.toMatchObject({
      code: 'NOT_QUIET',
      message: 'the agents are still at work after 0.5 s: stubborn has not finished 1',
    });
    warnings.mockRestore();
  });

  test('refuses two of one name', async () => {
    const twice = recordGolden(temporaryFolder(), [echo], () => undefined, { driver: 'echo' });
    await expect(twice).rejects.toMatchObject({ code: 'USAGE' });
  });
});

describe('expectSameHistory', () => {
  test('holds for agents that do again what they did', async () => {
    const report = await expectSameHistory(agent(asker()), golden.log);
    expect(report).toMatchObject({ deliveries: 4, publishes: 3, steps: 3 });
    await expectSameHistory(echo, pathToFileURL(golden.log), { keyring: pathToFileURL(golden.keyring) });
  });

  test('holds with the clock stopped in all of Node', async () => {
    mock.timers.enable({ apis: ['setInterval', 'setTimeout', 'setImmediate', 'Date'], now: 0 });
    try {
      for (let times = 0; times < 2; times += 1) await expectSameHistory(agent(asker()), golden.log);
    } finally {
      mock.timers.reset();
    }
  });

  /** Says something else on its subject than what the log has. */
  const otherwise = (answerOf: (topic: string, at: number) => unknown) =>
    agent(() => ({
      'thread.*.driver': async (message, context) => {
        const { topic } = message.payload as Question;
        if (topic === 'trouble' && message.attempt === 1) throw new Error('not today');
        await context.step('model', (text: string) => text, `What is ${topic}?`);
        await context.publish(`thread.${message.threadId}.asker`, answerOf(topic, context.now()));
      },
    }));

  test('lists all that is otherwise, each with its place', async () => {
    const changed = expectSameHistory(
      otherwise((topic, at) => ({ answer: topic, at })),
      golden.log,
    );
    const error = await changed.catch((thrown: unknown) => thrown as Error);
    expect(error).toMatchObject({ name: 'AssertionError', code: 'ERR_ASSERTION' });
    const { message } = error as Error;
    expect(message).toContain(
      `asker does otherwise than ${golden.log} has it: 3 divergences in 4 deliveries`,
    );
    expect(message).toMatch(
      /swarm\.jsonl:\d+: delivery 0, of thread\.t1\.driver in thread t1\n {2}publish-changed: /,
    );
    for (const topic of ['rain', 'snow', 'trouble']) {
      expect(message).toContain(`/answer: "What is ${topic}?!", now "${topic}"`);
    }
  });

  test('lets differ what may', async () => {
    const fits = matching(z.object({ answer: z.string(), at: z.number() }));
    const other = otherwise((topic, at) => ({ answer: topic, at: at + 1 }));
    await expectSameHistory(other, golden.log, { payloads: fits });
    await expectSameHistory(other, golden.log, { payloads: ignoring('/answer', '/at') });
    const still = expectSameHistory(other, golden.log, { payloads: ignoring('/answer') });
    await expect(still).rejects.toThrow('3 divergences');
    const misfit = expectSameHistory(
      otherwise((topic) => ({ answer: topic })),
      golden.log,
      { payloads: fits },
    );
    await expect(misfit).rejects.toThrow(/\/at: \d+, now not there \(.*expected number/);
  });

  test('asks about one thread alone', async () => {
    const loud = (topic: string, at: number) => ({
      answer: topic === 'snow' ? '' : `What is ${topic}?!`,
      at,
    });
    const only = await expectSameHistory(otherwise(loud), golden.log, { thread: 't1' });
    expect(only.deliveries).toBe(3);
    await expect(expectSameHistory(otherwise(loud), golden.log, { thread: 't2' })).rejects.toThrow(
      '1 divergence in 1 delivery',
    );
  });

  test('is not content with nothing', async () => {
    await expect(expectSameHistory(echo, golden.log, { thread: 't3' })).rejects.toMatchObject({
      code: 'RECORD_MISSING',
      message: `the log ${golden.log} has no delivery to echo in the thread t3`,
    });
    await expect(expectSameHistory(echo, golden.log, { keyring: 'nowhere.json' })).rejects.toMatchObject({
      code: 'KEYRING_MISSING',
    });
  });

  test('refuses a log with a changed line', async () => {
    const forged = join(temporaryFolder(), 'swarm.jsonl');
    writeFileSync(forged, readFileSync(golden.log, 'utf8').replace('rain', 'pain'));
    await expect(expectSameHistory(echo, forged, { keyring: golden.keyring })).rejects.toMatchObject({
      code: 'LOG_REFUSED',
    });
  });

  test('tells of the clock, in a warning where nothing came of it, in the message where something did', async () => {
    const warnings = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
    const looking = (answer: (topic: string) => string) =>
      otherwise((topic, at) => ({ answer: answer(topic), at: Date.now() > 0 ? at : 0 }));
    await expectSameHistory(
      looking((topic) => `What is ${topic}?!`),
      golden.log,
    );
    expect(warnings).toHaveBeenCalledWith(
      expect.stringMatching(
        /^asker calls Date\.now\(\) at .*golden\.test\.ts:\d+:\d+; use context\.now\(\)$/,
      ),
      { type: 'SwarmWarning' },
    );
    warnings.mockRestore();
    await expect(
      expectSameHistory(
        looking(() => ''),
        golden.log,
      ),
    ).rejects.toThrow('asker calls Date.now()');
  });
});
