/** Refused messages, some on the log and most in its sums. Floods of them are in test/attacks. */
import { beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { type Refusal, Refusals } from '../../src/agent/refusals.ts';
import type { Draft } from '../../src/record/draft.ts';
import { agentsIn } from '../support/agents.ts';
import { plainClient, refusedOnLog, settled, sumOf, throwIn } from '../support/attacker.ts';
import { temporaryFolder } from '../support/log.ts';
import { testServer } from '../support/nats.ts';

test('leaving writes the sum, so that nothing refused is missing', async () => {
  await using server = await testServer();
  const place = await agentsIn(temporaryFolder(), server.url, ['listener']);
  const plain = await plainClient(server.url);
  const listener = await place.join('listener');
  const subscription = listener.subscribe('thread.>', { durable: 'listener', ahead: 1 });
  await subscription.ready();
  for (let n = 0; n < 30; n += 1)
    throwIn(plain, { on: 'thread.t1.planner', data: Buffer.from('1'), headers: [['Nats-Msg-Id', `${n}`]] });
  await plain.flush();
  const next = subscription.next();
  await settled(plain, 'listener'); // one at a time, and none waits for the sum
  await plain.close();
  await listener.close();
  expect(await next).toBeUndefined();
  const { rejects, byReason } = refusedOnLog(place);
  expect([rejects.length, byReason]).toEqual([8, { unsigned: 30 }]);
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
