import { expect, test } from 'vitest';
import { type ClockVerdict, clockVerdict, measureClockOffset } from '../../src/bus/clock.ts';

const seconds = (n: number): bigint => BigInt(Math.round(n * 1e9));

const verdicts: readonly (readonly [
  offset: number,
  uncertainty: number,
  window: number,
  verdict: ClockVerdict,
])[] = [
  [0, 0, 30, 'fine'],
  [7.4, 0, 30, 'fine'],
  [-7.4, 0, 30, 'fine'],
  [7.5, 0, 30, 'doubtful'],
  [-7.5, 0, 30, 'doubtful'],
  [14.9, 0, 30, 'doubtful'],
  [15, 0, 30, 'hopeless'],
  [-15, 0, 30, 'hopeless'],
  [15, 0.1, 30, 'doubtful'],
  [-15, 8, 30, 'fine'],
  [3600, 1, 30, 'hopeless'],
  [15, 0, 120, 'fine'],
];

test.each(verdicts)(
  '%d s off, known to %d s, with a window of %d s, is %s',
  (offset, uncertainty, window, verdict) => {
    expect(
      clockVerdict({ offsetNs: seconds(offset), uncertaintyNs: seconds(uncertainty) }, seconds(window)),
    ).toBe(verdict);
  },
);

test('of several samples the one with the least round trip counts', async () => {
  // Our clock at question and answer; the broker is 100 ahead, and its answer may be late on the way back.
  const ours = [0n, 50n, 1_000n, 1_004n, 2_000n, 2_900n];
  const broker = [101n, 1_102n, 2_110n];
  const offset = await measureClockOffset(async () => broker.shift() ?? 0n, {
    samples: 3,
    clock: () => ours.shift() ?? 0n,
  });
  expect(offset).toEqual({ offsetNs: 100n, uncertaintyNs: 2n });
});

test('a sample in which our clock was set back does not count', async () => {
  const ours = [100n, 50n, 1_000n, 1_010n];
  const broker = [175n, 1_105n];
  const offset = await measureClockOffset(async () => broker.shift() ?? 0n, {
    samples: 2,
    clock: () => ours.shift() ?? 0n,
  });
  expect(offset).toEqual({ offsetNs: 100n, uncertaintyNs: 5n });
});
