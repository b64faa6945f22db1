/**
 * Genuine messages that come again: copied by somebody who overheard them, now and later, before and after restarts, from
 * agents whose clocks are wrong; and changed where the broker keeps them. Each is heard once, as it was said.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test, vi } from 'vitest';
import { reconcile } from '../../src/agent/reconcile.ts';
import type { Swarm } from '../../src/agent/swarm.ts';
import { systemClock } from '../../src/base/clock.ts';
import { connectBus } from '../../src/bus/connection.ts';
import { ReceivedHeaders } from '../../src/bus/headers.ts';
import { loadKeyring } from '../../src/identity/keyring.ts';
import type { RejectReason } from '../../src/record/kind.ts';
import { agentsIn } from '../support/agents.ts';
import {
  block,
  overheard,
  plainClient,
  refusedOnLog,
  type Sent,
  send,
  settled,
} from '../support/attacker.ts';
import { temporaryFolder } from '../support/log.ts';
import { testServer } from '../support/nats.ts';

const duplicateWindowMs = 2_000;
/** Nearly as wrong as a clock may be. */
const wrongByNs = 900_000_000n;

const clocks: Readonly<Record<string, bigint>> = { fast: wrongByNs, right: 0n, slow: -wrongByNs };

function withHeaders(sent: Sent, change: (headers: [string, string][]) => [string, string][]): Sent {
  const read = new ReceivedHeaders(sent.headers as Uint8Array);
  const pairs = read
    .names()
    .flatMap((name) => read.values(name).map((value): [string, string] => [name, value]));
  return { ...sent, headers: block(change(pairs)) };
}

/** How a message is copied, each way one of its own, and why no copy is heard that the broker keeps. */
const ways: Readonly<Record<string, { copy(sent: Sent): Sent; reason: RejectReason }>> = {
  'as it is': { copy: (sent) => sent, reason: 'stale' },
  'into another thread': {
    copy: (sent) => ({ ...sent, on: sent.on.replace('thread.t', 'thread.other') }),
    reason: 'subject-mismatch',
  },
  'onto another subject': {
    copy: (sent) => ({ ...sent, on: `${sent.on}.more` }),
    reason: 'subject-mismatch',
  },
  'under no id': {
    copy: (sent) => withHeaders(sent, (pairs) => pairs.filter(([name]) => name !== 'Nats-Msg-Id')),
    reason: 'malformed',
  },
  'under an id with a blank behind it': {
    copy: (sent) =>
      withHeaders(sent, (pairs) =>
        pairs.map(([name, value]) => [name, name === 'Nats-Msg-Id' ? `${value} ` : value]),
      ),
    reason: 'malformed',
  },
  'with more headers': {
    copy: (sent) => withHeaders(sent, (pairs) => [...pairs, ['Traceparent', 'x']]),
    reason: 'stale',
  },
};

test('a message copied for longer than the duplicate window is heard once, whatever restarts, and whose clock is wrong', async () => {
  await using server = await testServer();
  const place = await agentsIn(temporaryFolder(), server.url, [...Object.keys(clocks), 'listener']);
  const plain = await plainClient(server.url);
  /** What was heard, by where the broker keeps it: one that is restarted may hand out again what it was told is done with. */
  const heard = new Map<number, unknown>();
  const listen = async (): Promise<Swarm> => {
    const joined = await place.join('listener', { duplicateWindowMs });
    await joined.handle(
      'thread.>',
      { durable: 'listener' },
      ({ seq, payload }) => void heard.set(seq, payload),
    );
    return joined;
  };
  let listener = await listen();
  const said = Object.keys(clocks).flatMap((name) => Object.keys(ways).map((way) => `${name}, ${way}`));
  const stolen: Sent[] = [];
  const overhearing = plain.subscribe('thread.>', {
    callback: (_, message) => void stolen.push(overheard(message)),
  });
  await plain.flush();
  for (const [name, wrong] of Object.entries(clocks)) {
    const now = systemClock();
    await using swarm = await place.join(name, { duplicateWindowMs, clock: () => now() + wrong });
    for (const way of Object.keys(ways)) await swarm.publish(`thread.t.${name}`, `${name}, ${way}`);
  }
  await vi.waitFor(() => expect(stolen).toHaveLength(said.length), 60_000);
  overhearing.unsubscribe();

  const kept: Partial<Record<RejectReason, number>> = {};
  const dropped: Record<string, number> = {};
  const until = performance.now() + 2 * duplicateWindowMs;
  const isEnough = (round: number): boolean =>
    round > 8 && performance.now() > until && Object.keys(kept).length === 3; // on a busy machine rounds take long
  for (let round = 0; !isEnough(round); round += 1) {
    for (const [way, { copy, reason }] of Object.entries(ways)) {
      for (const sent of stolen.filter(({ data }) => Buffer.from(data).toString().includes(way))) {
        const { duplicate, seq } = await send(plain, copy(sent));
        expect(seq).toBeDefined();
        if (duplicate === true) dropped[way] = (dropped[way] ?? 0) + 1;
        else kept[reason] = (kept[reason] ?? 0) + 1;
      }
    }
    if (round === 2 || round === 8) {
      await settled(plain, 'listener'); // what the broker does not know to be done with may come again
      if (round === 2) {
        await server.restart();
        await settled(plain, 'listener'); // connected again, as the listener will be
      } else {
        await listener.close();
        listener = await listen();
      }
    }
    await sleep(60);
  }
  await settled(plain, 'listener');
  await listener.close();
  await plain.close();

  expect([...heard.values()].toSorted()).toEqual(said.toSorted());
  expect(dropped['as it is']).toBeGreaterThan(0);
  expect(Object.keys(kept).toSorted()).toEqual(['malformed', 'stale', 'subject-mismatch']);
  const { byReason } = refusedOnLog(place);
  expect(Object.keys(byReason).toSorted()).toEqual(Object.keys(kept).toSorted());
  for (const [reason, count] of Object.entries(kept)) {
    expect(byReason[reason as RejectReason]).toBeGreaterThanOrEqual(count);
  }
  expect(await place.verify()).toMatchObject({ bad: 0, findings: [] });
});

test('a message that was changed where the broker keeps it is heard as it was said, or not at all, and named until it is', async () => {
  await using server = await testServer();
  const place = await agentsIn(temporaryFolder(), server.url, ['planner', 'listener']);
  const texts = ['one', 'two', 'three'];
  {
    await using planner = await place.join('planner');
    for (const text of texts) await planner.publish('thread.t.planner', text);
  }
  server.kill('SIGTERM');
  await server.exited;
  const messages = join(server.storeDir, 'jetstream/$G/streams/THREADS/msgs');
  const [file = ''] = readdirSync(messages).filter((name) => name.endsWith('.blk'));
  const bytes = readFileSync(join(messages, file), 'latin1');
  expect(bytes).toContain('"two"');
  writeFileSync(join(messages, file), bytes.replace('"two"', '"owt"'), 'latin1');
  await server.restart();

  await using listener = await place.join('listener');
  const heard: unknown[] = [];
  await listener.handle('thread.>', { durable: 'listener' }, ({ payload }) => void heard.push(payload));
  await vi.waitFor(() => expect(heard).toEqual(['one', 'three']), 60_000);
  await using bus = await connectBus({ url: server.url });
  const { keyring } = await loadKeyring(place.keyring);
  const options = { log: place.log, stream: 'THREADS', keyring };
  expect(await reconcile(bus, options)).toMatchObject({
    differences: [{ code: 'missing', subject: 'thread.t.planner', agent: 'planner' }],
  });
  await using _planner = await place.join('planner'); // which sends again what is missing
  await vi.waitFor(() => expect(heard).toEqual(['one', 'three', 'two']), 60_000);
  expect(await reconcile(bus, options)).toMatchObject({ differences: [], counted: { agreed: 3 } });
});
