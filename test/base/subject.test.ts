import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  escapeSubject,
  isSubject,
  matchesPattern,
  parsePattern,
  parseSubject,
  threadIdOf,
} from '../../src/base/subject.ts';

describe('a subject', () => {
  test.each(['thread.t.planner', 'a.b', '-.x', Array(16).fill('t').join('.'), `${'a'.repeat(250)}.bcde`])(
    'may be %s',
    (text) => {
      expect(parseSubject(text)).toBe(text);
    },
  );

  test.each([
    '',
    'one',
    '.a.b',
    'a..b',
    'a.b.',
    'a.*',
    'a.>',
    'a.b c',
    'a.ü',
    'a.b%20c',
    'a.b\n',
    Array(17).fill('t').join('.'),
    `${'a'.repeat(250)}.bcdef`,
  ])('may not be %j', (text) => {
    expect(() => parseSubject(text)).toThrow(expect.objectContaining({ code: 'SUBJECT_INVALID' }));
  });
});

describe('a pattern', () => {
  test.each([
    ['thread.*.planner', 'thread.t.planner', true],
    ['thread.*.planner', 'thread.t.planner.more', false],
    ['thread.*.planner.>', 'thread.t.planner', false],
    ['thread.*.planner.>', 'thread.t.planner.a.b', true],
    ['>', 'a.b', true],
    ['thread.>', 'thread.a', true],
    ['thread.>', 'threads.a', false],
    ['a.*', 'a.b', true],
    ['a.*', 'a', false],
  ])('%s on %s: %s', (pattern, subject, matches) => {
    expect(matchesPattern(parsePattern(pattern), subject)).toBe(matches);
  });

  test.each(['', 'a..b', 'a.>.b', 'a.b*', '> ', 'a.%'])('may not be %j', (text) => {
    expect(() => parsePattern(text)).toThrow(expect.objectContaining({ code: 'SUBJECT_INVALID' }));
  });
});

describe('the thread of a subject', () => {
  test.each([
    ['thread.demo-thread.planner', 'demo-thread'],
    ['thread.t.a.b.c', 't'],
    ['thread.t', '-'],
    ['threads.t.a', '-'],
    [`thread.${'a'.repeat(65)}.b`, '-'],
    ['thread.a%20b.c', '-'],
  ])('%s is %s', (subject, thread) => {
    expect(threadIdOf(subject)).toBe(thread);
  });
});

describe('a foreign subject', () => {
  const recorded = /^[A-Za-z0-9_%-]+(\.[A-Za-z0-9_%-]+){1,15}$/;

  test.each([
    ['thread.a b€', 'thread.a%20b%E2%82%AC'],
    ['thread.t.a%b', 'thread.t.a%25b'],
    ['lone', '-.lone'],
    ['lone one', '-.lone%20one'],
    [Array(20).fill('t').join('.'), Array(16).fill('t').join('.')],
  ])('%s is recorded as %s', (subject, as) => {
    expect(escapeSubject(subject)).toBe(as);
  });

  test('is always recorded within the grammar, and never cut inside a %XX', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', minLength: 1, maxLength: 600 }), (subject) => {
        const escaped = escapeSubject(subject);
        expect(escaped).toMatch(recorded);
        expect(escaped.length).toBeLessThanOrEqual(255);
        expect(escaped.replace(/%[0-9A-F]{2}/g, '')).not.toContain('%');
        if (isSubject(subject)) expect(escaped).toBe(subject);
      }),
      { numRuns: 2_000 },
    );
  });
});
