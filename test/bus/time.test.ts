import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseTime, printTime, spokenDuration } from '../../src/bus/time.ts';

test('every nanosecond up to the year 2262 survives printing and parsing', () => {
  fc.assert(
    fc.property(fc.bigInt(0n, 2n ** 63n - 1n), (ns) => {
      expect(parseTime(printTime(ns))).toBe(ns);
    }),
  );
});

test.each([
  ['2026-01-02T03:04:05Z', 1_767_323_045_000_000_000n],
  ['2026-01-02T03:04:05.1Z', 1_767_323_045_100_000_000n],
  ['2026-01-02T03:04:05.123456789Z', 1_767_323_045_123_456_789n],
  ['2026-01-02T05:04:05.123456789+02:00', 1_767_323_045_123_456_789n],
])('%s is read to the nanosecond', (text, ns) => {
  expect(parseTime(text)).toBe(ns);
});

test.each(['', 'yesterday', '2026-01-02', '2026-13-02T03:04:05Z', '2026-01-02T03:04:05.1234567890Z'])(
  '%j is no time',
  (text) => {
    expect(parseTime(text)).toBeUndefined();
  },
);

test('durations are said as people say them', () => {
  expect([3e10, 1.5e9, 25e7, 999].map(spokenDuration)).toEqual(['30s', '1.5s', '250ms', '0.001ms']);
});
