/**
 * Publishers that are killed at random moments: what was acknowledged is in the stream once, and what was logged is, too,
 * after the agent has joined again. KILLED_SEED takes the moments of another run, which prints its seed; KILLED_RUNS more.
 */
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { expect, test } from 'vitest';
import { parseEnvelope } from '../../src/agent/envelope.ts';
import { reconcile } from '../../src/agent/reconcile.ts';
import { messagesResent } from '../../src/base/events.ts';
import { connectBus } from '../../src/bus/connection.ts';
import { readMessages } from '../../src/bus/stored.ts';
import { firstSaidAs } from '../../src/handler/received.ts';
import { loadKeyring } from '../../src/identity/keyring.ts';
import { agentsIn } from '../support/agents.ts';
import { temporaryFolder } from '../support/log.ts';
import { testServer } from '../support/nats.ts';
import { startProgram } from '../support/program.ts';

const seed = Number(process.env.KILLED_SEED ?? randomInt(1_000_000));
const runs = Number(process.env.KILLED_RUNS ?? 6);

/** Returns numbers from 0 to 1 that are the same for the same seed (mulberry32). */
function chance(state: number): () => number {
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

test('a publisher killed at random moments says all that it logged, once', async () => {
  console.log(`KILLED_SEED=${seed} KILLED_RUNS=${runs}`);
  const next = chance(seed);
  await using server = await testServer();
  const place = await agentsIn(temporaryFolder(), server.url, ['planner', 'worker']);
  const acknowledged = new Set<string>();
  for (let run = 0; run < runs; run += 1) {
    const child = startProgram('test/fixtures/talker.ts', [place.folder, server.url, 'planner'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let told = '';
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      told += text;
    });
    const ended = once(child, 'close');
    await expect.poll(() => told.includes('ready'), { timeout: 60_000 }).toBe(true);
    await new Promise((resolve) => setTimeout(resolve, next() * 400));
    // A broker that does not answer leaves more between the log and the acknowledgement.
    const isStalled = next() < 0.5;
    if (isStalled) {
      server.kill('SIGSTOP');
      await new Promise((resolve) => setTimeout(resolve, next() * 100));
    }
    child.kill('SIGKILL');
    await ended;
    if (isStalled) server.kill('SIGCONT');
    for (const line of told.split('\n').slice(0, -1)) if (line !== 'ready') acknowledged.add(line);
  }
  let resent = 0;
  const stop = messagesResent.subscribe((event) => {
    resent += event.resent;
  });
  await (await place.join('planner')).close();
  stop();
  await using bus = await connectBus({ url: server.url });
  const { keyring } = await loadKeyring(place.keyring);
  expect(await place.verify()).toMatchObject({ bad: 0 });
  const report = await reconcile(bus, { log: place.log, stream: 'THREADS', keyring });
  expect(report).toMatchObject({ differences: [], counted: { repeated: 0, underWay: 0, unsent: 0 } });
  const times = new Map<string, number>();
  for await (const { headers } of readMessages(bus, { stream: 'THREADS', headersOnly: true })) {
    const envelope = parseEnvelope(headers);
    if (envelope.state !== 'well-formed') continue;
    const first = envelope.record.header.meta?.[firstSaidAs] ?? envelope.record.leaf;
    times.set(first, (times.get(first) ?? 0) + 1);
  }
  const logged = place.records().filter(({ header }) => header.kind === 'BUS.PUBLISH');
  const firsts = new Set(logged.map(({ leaf, header }) => header.meta?.[firstSaidAs] ?? leaf));
  expect(acknowledged.size).toBeGreaterThan(runs);
  expect([...acknowledged].filter((leaf) => !firsts.has(leaf as never))).toEqual([]);
  expect([...firsts].filter((leaf) => times.get(leaf) !== 1)).toEqual([]);
  console.log(
    `${acknowledged.size} acknowledged, ${firsts.size} logged, ${resent} sent again at the last joining`,
  );
}, 600_000);
