/** Refused messages by the thousand: each on the log or in its sum, in little room, while honest ones are handled. */
import { statSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { jetstreamManager } from '@nats-io/jetstream';
import { connect, headers, type NatsConnection } from '@nats-io/transport-node';
import { beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { type Refusal, Refusals } from '../../src/agent/refusals.ts';
import { messageRefused, refusalsCounted } from '../../src/base/events.ts';
import { SigningKey } from '../../src/identity/key.ts';
import type { Draft } from '../../src/record/draft.ts';
import { signRecord } from '../../src/record/sign.ts';
import type { SignedRecord } from '../../src/record/signed.ts';
import type { NatsServer } from '../../src/server/nats-server.ts';
import { agentsIn, type Place } from '../support/agents.ts';
import { temporaryFolder } from '../support/log.ts';
import { testServer } from '../support/nats.ts';

interface Sum {
  readonly stream: string;
  readonly consumer: string;
  readonly refused: number;
  readonly first_seq: number;
  readonly last_seq: number;
  readonly kinds: readonly { reason: string; subject: string; count: number }[];
  readonly others: Readonly<Record<string, number>>;
}

function sumOf({ payload }: Pick<Draft, 'payload'>): Sum {
  return JSON.parse(Buffer.from(payload ?? '').toString('utf8')) as Sum;
}

/** Returns how many messages `sums` speak of, by what they say of kinds. */
function countedIn(sums: readonly Sum[]): number {
  const numbers = sums.flatMap(({ kinds, others }) => [
    ...kinds.map(({ count }) => count),
    ...Object.values(others),
  ]);
  return numbers.reduce((one, other) => one + other, 0);
}

describe('in a real swarm', () => {
  let server: NatsServer;
  let place: Place;
  let nats: NatsConnection;

  beforeEach(async () => {
    server = await testServer();
    place = await agentsIn(temporaryFolder(), server.url, ['planner', 'listener']);
    nats = await connect({ servers: server.url });
    onTestFinished(async () => {
      await nats.close();
      await server.stop();
    });
  });

  const subject = 'thread.t1.planner';
  let flooded = 0;

  function refusedOnLog(): { rejects: SignedRecord[]; sums: Sum[] } {
    const records = place.records();
    return {
      rejects: records.filter(({ header }) => header.kind === 'BUS.REJECT'),
      sums: records.filter(({ header }) => header.kind === 'BUS.REJECT.SUM').map(sumOf),
    };
  }

  async function settled(): Promise<void> {
    await vi.waitFor(
      async () => {
        const info = await (await jetstreamManager(nats)).consumers.info('THREADS', 'listener');
        expect([info.num_pending, info.num_ack_pending]).toEqual([0, 0]);
      },
      { timeout: 100_000, interval: 100 },
    );
  }

  /** Sends `count` messages that are malformed, all at speed, with another id each. */
  function flood(count: number, on: (n: number) => string): void {
    const stranger = SigningKey.generate();
    const record = signRecord({ subject, kind: 'BUS.PUBLISH', payload: Buffer.from('1') }, stranger);
    for (let n = 0; n < count; n += 1) {
      const sent = headers();
      sent.set('Nats-Msg-Id', `flood-${flooded}`);
      flooded += 1;
      sent.set('Swarm-Record', record.text);
      sent.set('Swarm-Sig', record.signature);
      nats.publish(on(n), 'x'.repeat(500), { headers: sent });
    }
  }

  function heapInUse(): number {
    setFlagsFromString('--expose-gc');
    (runInNewContext('gc') as () => void)();
    return process.memoryUsage().heapUsed + process.memoryUsage().external;
  }

  test('10,000 malformed messages at speed are on the log or in a sum, and honest ones are handled meanwhile', async () => {
    await using listener = await place.join('listener');
    await using planner = await place.join('planner');
    const handled: unknown[] = [];
    await listener.handle('thread.>', { durable: 'listener' }, ({ payload }) => {
      handled.push(payload);
    });
    const events = { refused: 0, counted: 0 };
    const stops = [
      messageRefused.subscribe(() => {
        events.refused += 1;
      }),
      refusalsCounted.subscribe(({ refused }) => {
        events.counted += refused;
      }),
    ];
    await planner.publish(subject, 'before');
    flood(2_000, () => subject);
    await settled();
    const [size, heap] = [statSync(place.log).size, heapInUse()];

    flood(10_000, (n) => `thread.t${n % 500}.boss`);
    for (let n = 0; n < 20; n += 1) await planner.publish(subject, n);
    await vi.waitFor(() => expect(handled).toHaveLength(21), 100_000);
    await settled();
    const grownBy = statSync(place.log).size - size;
    // What the last messages took is given back in a moment, in more than one round of the collector.
    await vi.waitFor(() => expect(heapInUse() - heap).toBeLessThan(20 << 20), 20_000);
    for (const stop of stops) stop();

    expect(handled).toEqual(['before', ...Array.from({ length: 20 }, (_, n) => n)]);
    const { rejects, sums } = refusedOnLog();
    expect(new Set(rejects.map(({ header }) => header.reason))).toEqual(new Set(['malformed']));
    expect(rejects.length).toBeGreaterThan(8);
    expect(rejects.length).toBeLessThan(100);
    const summed = sums.reduce((total, { refused }) => total + refused, 0);
    expect([rejects.length + summed, countedIn(sums)]).toEqual([12_000, summed]);
    expect(events).toEqual({ refused: rejects.length, counted: summed });
    expect(grownBy).toBeLessThan(1 << 20); // one by one they would take 20 MB
    expect(await place.verify()).toMatchObject({ bad: 0 });
  }, 200_000);

  test('leaving writes the sum, so that nothing refused is missing', async () => {
    const listener = await place.join('listener');
    const subscription = listener.subscribe('thread.>', { durable: 'listener', ahead: 1 });
    await subscription.ready();
    flood(30, () => subject);
    await nats.flush();
    const next = subscription.next();
    await settled(); // one at a time, and none waits for the sum
    await listener.close();
    expect(await next).toBeUndefined();
    const { rejects, sums } = refusedOnLog();
    expect([rejects.length, countedIn(sums)]).toEqual([8, 22]);
  }, 30_000);
});

describe('the rule', () => {
  const drafts: Draft[] = [];
  let refusals: Refusals;

  beforeEach(() => {
    drafts.length = 0;
    vi.useFakeTimers();
    onTestFinished(() => void vi.useRealTimers());
    refusals = new Refusals({
      stream: 'THREADS',
      durable: 'd',
      append: async (draft) => void drafts.push(draft),
    });
  });

  const refusal = (change: Partial<Refusal> = {}): Refusal => ({
    reason: 'malformed',
    subject: 'thread.t1.planner',
    seq: 7,
    bytes: 10,
    ...change,
  });

  /** Returns how many of `count` refusals at `now` are recorded by themselves. */
  function recorded(
    count: number,
    now: number,
    change: (n: number) => Partial<Refusal> = () => ({}),
  ): number {
    return Array.from({ length: count }, (_, n) => refusals.takesRecord(refusal(change(n)), now)).filter(
      Boolean,
    ).length;
  }

  test('the first of each kind are recorded, then one more now and then', () => {
    expect(recorded(100, 0)).toBe(8);
    expect(recorded(100, 0, () => ({ reason: 'stale' }))).toBe(8);
    expect(recorded(100, 0, () => ({ subject: 'thread.t2.planner' }))).toBe(8);
    expect(recorded(100, 59_000)).toBe(0);
    expect(recorded(100, 60_000)).toBe(1);
    expect(recorded(100, 3_600_000)).toBe(8);
  });

  test('many subjects cannot take the place of other reasons', () => {
    expect(recorded(5_000, 0, (n) => ({ subject: `thread.t${n}.planner` }))).toBe(64);
    expect(recorded(1, 0, () => ({ reason: 'stale' }))).toBe(1);
    expect(recorded(5_000, 10_000, (n) => ({ subject: `thread.t${n}.planner` }))).toBe(1);
  });

  test('a sum is written for 256 messages, for a megabyte of them, or after half a second', async () => {
    for (let n = 0; n < 300; n += 1) void refusals.count(refusal({ seq: 300 - n }));
    expect(
      drafts.map(sumOf).map(({ refused, first_seq, last_seq }) => [refused, first_seq, last_seq]),
    ).toEqual([[256, 45, 300]]);
    await vi.advanceTimersByTimeAsync(499);
    expect(drafts).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(1);
    expect(drafts.map(sumOf).map(({ refused }) => refused)).toEqual([256, 44]);
    void refusals.count(refusal({ bytes: 1 << 20 }));
    expect(drafts.map(sumOf).map(({ refused }) => refused)).toEqual([256, 44, 1]);
  });

  test('a sum names 16 kinds and counts the others by reason, however long their subjects are', () => {
    for (let n = 0; n < 256; n += 1) {
      const reason = n % 2 === 0 ? 'malformed' : 'unknown-key';
      void refusals.count(refusal({ reason, subject: `thread.${'x'.repeat(200)}${n}.planner`, seq: n + 1 }));
    }
    const [draft] = drafts;
    if (draft === undefined) throw new Error('no sum');
    const sum = sumOf(draft);
    expect(sum).toMatchObject({
      stream: 'THREADS',
      consumer: 'd',
      others: { malformed: 120, 'unknown-key': 120 },
    });
    expect(sum.kinds).toHaveLength(16);
    expect(draft).toMatchObject({ kind: 'BUS.REJECT.SUM', subject: 'bus.reject' });
    expect(draft.payload?.length).toBeLessThan(8_192);
  });

  test('whoever counts hears that a sum could not be written', async () => {
    const failing = new Refusals({
      stream: 'THREADS',
      durable: 'd',
      append: () => Promise.reject(new Error('disk full')),
    });
    const counted = failing.count(refusal());
    failing.flush();
    await expect(counted).rejects.toThrow('disk full');
  });
});
