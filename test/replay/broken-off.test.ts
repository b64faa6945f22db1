/** Processes killed while they handle several messages: each handling is run again as far as it came, and no further. */
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { loadKeyring } from '../../src/identity/keyring.ts';
import type { DivergenceCode } from '../../src/replay/divergence.ts';
import { type RerunReport, rerun } from '../../src/replay/rerun.ts';
import type { NatsServer } from '../../src/server/nats-server.ts';
import { crowdedAgent, type Habits } from '../fixtures/crowded-agent.ts';
import { agentsIn, type Place } from '../support/agents.ts';
import { type TemporaryFolder, temporaryFolder } from '../support/folder.ts';
import { testServer } from '../support/nats.ts';
import { startProgram } from '../support/program.ts';

let server: NatsServer;
let folder: TemporaryFolder;
let place: Place;

beforeAll(async () => {
  server = await testServer();
  folder = await temporaryFolder();
  place = await agentsIn(folder.path, server.url, ['planner', 'worker']);
  await using planner = await place.join('planner');
  const numbers = Array.from({ length: 300 }, (_, n) => n);
  await Promise.all(numbers.map((n) => planner.publish('thread.t1.planner', n)));
});
afterAll(async () => {
  await server.stop();
  await folder[Symbol.asyncDispose]();
});

/** Starts the agent and kills it `ms` after it first said something. */
async function killed(ms: number): Promise<void> {
  const said = ofWorker('BUS.PUBLISH').length;
  const agent = startProgram(join(import.meta.dirname, '../fixtures/crowded-agent.ts'), [
    place.folder,
    server.url,
  ]);
  try {
    await vi.waitFor(() => expect(ofWorker('BUS.PUBLISH').length).toBeGreaterThan(said), 60_000);
    await sleep(ms);
  } finally {
    agent.kill('SIGKILL');
    await once(agent, 'exit');
  }
}

const ofWorker = (kind: string) =>
  place
    .records()
    .filter(({ header }) => header.kind === kind && header.signer === place.keys.worker?.publicKey);

/** How many handlings there are on the log, by how far they came. */
function handlings(): { readonly saidOnce: number; readonly saidTwice: number; readonly ended: number } {
  const said = new Map<string | undefined, number>();
  for (const { header } of ofWorker('BUS.PUBLISH')) {
    said.set(header.cause, (said.get(header.cause) ?? 0) + 1);
  }
  const ended = ofWorker('AGENT.STEP').filter(({ header }) => header.step === 'handler').length;
  return { saidOnce: said.size, saidTwice: [...said.values()].filter((times) => times === 2).length, ended };
}

async function again(habits: Habits = {}): Promise<RerunReport> {
  const { keyring } = await loadKeyring(place.keyring);
  return await rerun(crowdedAgent(habits), place.log, { keyring, returnWithinMs: 2_000 });
}

async function found(habits: Habits): Promise<Partial<Record<DivergenceCode, number>>> {
  const counts: Partial<Record<DivergenceCode, number>> = {};
  for (const { code } of (await again(habits)).divergences) counts[code] = (counts[code] ?? 0) + 1;
  return counts;
}

test.each([
  ['once', 700],
  ['at once, in its second life', 0],
  ['in its third life', 373],
])('killed %s, with no delivery after it, what it did is run again as it was', async (_, ms) => {
  await killed(ms);
  const report = await again();
  expect(report.divergences).toEqual([]);
  expect(report.brokenOff).toBeGreaterThan(0);
  const { saidOnce, ended } = handlings();
  expect(report.deliveries - report.brokenOff).toBe(ended);
  expect(saidOnce).toBeGreaterThan(0);
  expect((await again()).digest).toBe(report.digest);
});

test('what those that ended do otherwise is found, and of the others what they do otherwise up to where they came', async () => {
  const { saidOnce, saidTwice, ended } = handlings();
  expect(ended).toBeGreaterThan(10);
  expect(await found({ last: async () => undefined })).toEqual({ 'publish-missing': saidTwice });
  expect(await found({ after: (context) => context.publish('thread.t1.worker.more', 'more') })).toEqual({
    'publish-extra': ended,
  });
  expect(await found({ after: (context) => context.step('more', () => 'more') })).toEqual({
    'step-unrecorded': ended,
  });
  const before = await found({ first: (context) => context.step('more', () => 'more') });
  expect(before['step-unrecorded']).toBe(saidOnce);
  expect(await found({ first: (context) => context.publish('thread.t1.worker.more', 'more') })).toEqual({
    'publish-extra': saidOnce,
  });
  expect(await found({ after: () => Promise.reject(new TypeError('no')) })).toEqual({
    'throws-otherwise': ended,
  });
});
