import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { requireClock } from '../../src/bus/clock.ts';
import { type Bus, connectBus } from '../../src/bus/connection.ts';
import {
  ensureStream,
  type StreamWanted,
  streamConfig,
  streamDifferences,
  threadsStream,
} from '../../src/bus/stream.ts';
import type { NatsServer } from '../../src/server/nats-server.ts';
import { testServer } from '../support/nats.ts';
import { failureOf, publishMany, serverWith, statusesDuring, unique } from './broker.ts';

let server: NatsServer;
let bus: Bus;
beforeAll(async () => {
  server = await testServer();
  bus = await connectBus({ url: server.url });
});
afterAll(async () => {
  await bus.close();
  await server.stop();
});

/** A stream that nobody has yet. */
function wanted(more: Partial<StreamWanted> = {}): StreamWanted {
  const n = unique();
  return { name: `S${n}`, subjects: [`thread.s${n}.>`], ...more };
}

describe('a stream', () => {
  test('is created as the swarm needs it, and found so the next time', async () => {
    const want = wanted();
    const first = await ensureStream(bus, want);
    expect(first).toMatchObject({ name: want.name, created: true, messages: 0, lastSeq: 0 });
    expect(first.duplicateWindowNs).toBe(30_000_000_000n);
    const { config } = await bus.manager.streams.info(want.name);
    expect(config).toMatchObject({
      storage: 'file',
      retention: 'limits',
      discard: 'new',
      deny_delete: true,
      deny_purge: true,
      num_replicas: 1,
    });
    const subject = want.subjects[0]?.replace('>', 'a') as Parameters<typeof publishMany>[1]['subject'];
    await publishMany(bus, { name: want.name, subject }, 3);
    expect(await ensureStream(bus, want)).toMatchObject({
      created: false,
      messages: 3,
      firstSeq: 1,
      lastSeq: 3,
    });
  });

  test('that ten processes create at once is created for all of them', async () => {
    const want = wanted();
    const facts = await Promise.all(Array.from({ length: 10 }, () => ensureStream(bus, want)));
    expect(new Set(facts.map(({ duplicateWindowNs }) => duplicateWindowNs))).toEqual(
      new Set([30_000_000_000n]),
    );
  });

  test('that someone created otherwise in the same moment is compared, not taken over', async () => {
    const want = wanted();
    const outcomes = await Promise.allSettled([
      ensureStream(bus, want),
      ensureStream(bus, { ...want, duplicateWindowMs: 60_000 }),
    ]);
    const failed = outcomes.filter(({ status }) => status === 'rejected');
    expect(failed).toMatchObject([{ reason: { code: 'BUS_STREAM_DIFFERS' } }]);
  });

  test('that differs is refused with every difference and the way out', async () => {
    const want = wanted();
    await bus.manager.streams.add({
      name: want.name,
      subjects: [...want.subjects, 'other.>'],
      storage: 'memory',
      duplicate_window: 120e9,
      max_msgs_per_subject: 5,
    });
    const { code, message } = await failureOf(ensureStream(bus, want));
    expect(code).toBe('BUS_STREAM_DIFFERS');
    expect(message).toBe(
      `stream ${want.name} is not as the swarm needs it: subjects: other.> ${want.subjects[0]}, wanted ${want.subjects[0]}; storage: memory, wanted file; discard: old, wanted new; deny_delete: false, wanted true; deny_purge: false, wanted true; duplicate_window: 120s, wanted 30s; max_msgs_per_subject: 5, wanted unlimited. Change it (nats stream edit ${want.name}), or use one of another name`,
    );
  });

  test('whose subjects another stream holds is refused, and that one is named', async () => {
    const one = wanted();
    await ensureStream(bus, one);
    const { code, message } = await failureOf(ensureStream(bus, { ...wanted(), subjects: one.subjects }));
    expect(code).toBe('BUS_STREAM');
    expect(message).toContain(`stream ${one.name} already holds messages of these subjects`);
  });

  test('of more replicas than there are servers cannot be created', async () => {
    const { code, message } = await failureOf(ensureStream(bus, wanted({ replicas: 3 })));
    expect(code).toBe('BUS_STREAM');
    expect(message).toContain('replicas > 1 not supported');
  });

  test('that we may not ask about is a matter of permission', async () => {
    await using closed = await serverWith(
      'authorization { users: [{ user: a, password: b, permissions: { publish: { deny: "$JS.API.STREAM.>" } } }] }',
    );
    await using denied = await connectBus({ url: `nats://a:b@127.0.0.1:${closed.port}` });
    expect(await failureOf(ensureStream(denied, threadsStream))).toMatchObject({ code: 'BUS_PERMISSION' });
  });
});

describe('what differs', () => {
  const want: StreamWanted = {
    ...threadsStream,
    maxBytes: 1_000,
    maxAgeMs: 60_000,
    maxMessages: 10,
    replicas: 3,
  };
  const found = streamConfig(want);

  test('is nothing where the configuration is as asked for, or better', () => {
    expect(streamDifferences(want, found)).toEqual([]);
    expect(
      streamDifferences(want, { ...found, num_replicas: 5, description: 'x', max_consumers: 9 }),
    ).toEqual([]);
    // A full stream that refuses new messages drops none.
    const full = { ...found, max_age: 0, max_bytes: 1, max_msgs: 1 };
    expect(streamDifferences(threadsStream, full)).toEqual([]);
  });

  test('is a limit that drops messages, unless it is asked for', () => {
    expect(streamDifferences(threadsStream, { ...found, max_age: 3_600e9 })).toEqual([
      'max_age: 3600s, wanted unlimited',
    ]);
    expect(
      streamDifferences({ ...threadsStream, maxAgeMs: 3_600_000 }, { ...found, max_age: 3_600e9 }),
    ).toEqual([]);
    expect(
      streamDifferences(threadsStream, {
        ...found,
        max_age: 0,
        discard: 'old',
        max_bytes: 9,
        max_msgs: 5,
      } as typeof found),
    ).toEqual([
      'discard: old, wanted new',
      'max_msgs: 5, wanted unlimited',
      'max_bytes: 9, wanted unlimited',
    ]);
  });

  test.each([
    [{ storage: 'memory' }, 'storage: memory, wanted file'],
    [{ retention: 'workqueue' }, 'retention: workqueue, wanted limits'],
    [{ discard: 'old' }, 'discard: old, wanted new'],
    [{ deny_delete: false }, 'deny_delete: false, wanted true'],
    [{ deny_purge: undefined }, 'deny_purge: false, wanted true'],
    [{ duplicate_window: 2.5e8 }, 'duplicate_window: 250ms, wanted 30s'],
    [{ num_replicas: 1 }, 'num_replicas: 1, wanted 3'],
    [{ max_msgs: -1 }, 'max_msgs: unlimited, wanted 10'],
    [{ max_bytes: 2_000 }, 'max_bytes: 2000, wanted 1000'],
    [{ max_age: 0 }, 'max_age: unlimited, wanted 60s'],
    [{ subjects: ['thread.*'] }, 'subjects: thread.*, wanted thread.>'],
    [{ no_ack: true }, 'no_ack: on, wanted off'],
    [{ sealed: true }, 'sealed: on, wanted off'],
    [{ allow_msg_ttl: true }, 'allow_msg_ttl: on, wanted off'],
    [{ allow_msg_counter: true }, 'allow_msg_counter: on, wanted off'],
    [{ allow_msg_schedules: true }, 'allow_msg_schedules: on, wanted off'],
    [{ mirror: { name: 'x' } }, 'mirror: on, wanted off'],
    [{ sources: [{ name: 'x' }] }, 'sources: on, wanted off'],
    [{ subject_transform: { dest: 'x' } }, 'subject_transform: on, wanted off'],
  ] as const)('is said of %j', (changed, difference) => {
    const differing = { ...found, ...changed } as Parameters<typeof streamDifferences>[1];
    expect(streamDifferences(want, differing)).toEqual([difference]);
  });
});

describe("the broker's clock", () => {
  const clock = systemClock();

  test('is measured to a few milliseconds', async () => {
    const { clock: offset } = await ensureStream(bus, wanted());
    expect(Math.abs(Number(offset.offsetNs))).toBeLessThan(50e6);
    expect(offset.uncertaintyNs).toBeLessThan(1_000_000_000n);
  });

  test.each([
    [20n, "this machine's clock is 20s ahead of the broker's"],
    [-20n, "this machine's clock is 20s behind the broker's"],
  ])('that is %d s away makes every message stale, and is refused', async (seconds, words) => {
    const facts = await ensureStream(bus, { ...wanted(), clock: () => clock() + seconds * 1_000_000_000n });
    let message = '';
    try {
      requireClock(bus, facts);
    } catch (thrown) {
      expect(thrown).toMatchObject({ code: 'BUS_CLOCK' });
      message = String(thrown).replaceAll(/[\d.]+s\b/g, (text) => `${Math.round(Number.parseFloat(text))}s`);
    }
    expect(message).toContain(words);
  });

  test('that is off by a quarter of the window is worth a warning', async () => {
    const heard = await statusesDuring(async () => {
      const facts = await ensureStream(bus, { ...wanted(), clock: () => clock() + 9_000_000_000n });
      requireClock(bus, facts);
      requireClock(bus, await ensureStream(bus, wanted()));
    });
    expect(heard).toMatchObject([{ status: 'warning', detail: expect.stringContaining('from 15s on') }]);
  });
});
