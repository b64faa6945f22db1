/**
 * However slow the broker, the disk or a handler is, an agent holds little in memory: what waits for it waits in the
 * stream, and what it says waits for the broker. And nothing is lost once they are quick again.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterEach, expect, test, vi } from 'vitest';
import { signRecord } from '../../src/record/sign.ts';
import type { NatsServer } from '../../src/server/nats-server.ts';
import { agentsIn, type Place } from '../support/agents.ts';
import { envelope, plainClient, refusedOnLog, settled, throwIn } from '../support/attacker.ts';
import { temporaryFolder } from '../support/log.ts';
import { testServer } from '../support/nats.ts';

/** How much longer than it does the disk takes, in ms. */
const disk = vi.hoisted(() => ({ slowerByMs: 0 }));

vi.mock('node:fs', async (actual) => {
  const fs = await actual<typeof import('node:fs')>();
  const fdatasync = (file: number, done: (error: Error | null) => void): void => {
    if (disk.slowerByMs === 0) fs.fdatasync(file, done);
    else setTimeout(() => fs.fdatasync(file, done), disk.slowerByMs);
  };
  return { ...fs, default: { ...fs, fdatasync }, fdatasync };
});

afterEach(() => {
  disk.slowerByMs = 0;
});

const subject = 'thread.t.planner';
const grownAtMost = 50e6;
const collect = ((): (() => void) => {
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc') as () => void;
})();

function inUse(): number {
  collect();
  return process.memoryUsage().heapUsed + process.memoryUsage().external;
}

/** Returns by how much more memory is in use at the worst moment of `ms`. */
async function grownBy(before: number, ms: number): Promise<number> {
  let most = 0;
  for (const until = performance.now() + ms; performance.now() < until; await sleep(200)) {
    most = Math.max(most, inUse() - before);
  }
  return most;
}

/** Puts messages of 20 KB into the stream, of which each second one is honest; returns how many are. */
async function fill({ url }: NatsServer, place: Place, count: number): Promise<number> {
  const plain = await plainClient(url);
  const key = place.keys.planner;
  if (key === undefined) throw new Error('no planner');
  for (let n = 0; n < count; n += 1) {
    const data = Buffer.from(JSON.stringify([n, 'x'.repeat(20_000)]));
    const record = signRecord({ subject, kind: 'BUS.PUBLISH', payload: data }, key);
    throwIn(plain, { on: subject, data, headers: n % 2 === 0 ? envelope(record) : [] });
    if (n % 100 === 0) await plain.flush();
  }
  await plain.flush();
  await plain.close();
  return Math.ceil(count / 2);
}

const slow: Readonly<Record<string, { readonly handlerMs: number; readonly diskMs: number }>> = {
  'a handler that is slow': { handlerMs: 100, diskMs: 0 },
  'a disk that is slow': { handlerMs: 0, diskMs: 500 },
  'both slow': { handlerMs: 100, diskMs: 500 },
};

test.each(Object.entries(slow))(
  'with %s, 200 MB that wait do not come into memory',
  async (_, { handlerMs, diskMs }) => {
    await using server = await testServer();
    const place = await agentsIn(temporaryFolder(), server.url, ['planner', 'listener']);
    await using listener = await place.join('listener');
    const count = 10_000;
    const honest = await fill(server, place, count);
    const before = inUse();
    let handled = 0;
    const pace = { handlerMs };
    disk.slowerByMs = diskMs;
    await listener.handle('thread.>', { durable: 'listener' }, async () => {
      handled += 1;
      if (pace.handlerMs > 0) await sleep(pace.handlerMs);
    });
    const grown = await grownBy(before, 6_000);
    console.log(`${(grown / 1e6).toFixed(1)} MB more, ${handled} of ${honest} handled`);
    expect(grown).toBeLessThan(grownAtMost);
    expect(handled).toBeLessThan(honest);

    disk.slowerByMs = 0;
    pace.handlerMs = 0;
    await vi.waitFor(() => expect(handled).toBe(honest), { timeout: 100_000, interval: 100 });
    const plain = await plainClient(server.url);
    await settled(plain, 'listener');
    await plain.close();
    expect(refusedOnLog(place).byReason).toEqual({ unsigned: count - honest });
  },
);

test('with a broker that does not answer, what is said waits for it, and is said once', async () => {
  await using server = await testServer();
  const place = await agentsIn(temporaryFolder(), server.url, ['planner', 'listener']);
  await using planner = await place.join('planner');
  await using listener = await place.join('listener');
  const heard = new Map<string, number>();
  const handled = listener.handle('thread.>', { durable: 'listener' }, ({ id }) => {
    heard.set(id, (heard.get(id) ?? 0) + 1);
  });
  await handled;
  let said = 0;
  let isOver = false;
  const text = 'x'.repeat(20_000);
  const before = inUse();
  const talkers = Array.from({ length: 64 }, async () => {
    while (!isOver) {
      await planner.publish(subject, text);
      said += 1;
    }
  });
  await sleep(1_000);
  server.kill('SIGSTOP');
  const [saidThen, grown] = [said, await grownBy(before, 5_000)];
  server.kill('SIGCONT');
  console.log(`${(grown / 1e6).toFixed(1)} MB more after ${saidThen} messages`);
  expect(saidThen).toBeGreaterThan(0);
  expect(grown).toBeLessThan(grownAtMost);
  await vi.waitFor(() => expect(said).toBeGreaterThan(saidThen + 64), 60_000);
  isOver = true;
  await Promise.all(talkers);
  await vi.waitFor(() => expect(heard.size).toBe(said), 60_000);
});
