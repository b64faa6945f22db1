/** A difference is told so that it can be seen. */
import { expect, test } from 'vitest';
import { spokenChanges } from '../../src/replay/divergence.ts';

test('two long texts are shown from shortly before where they part', () => {
  const long = 'Answer the question below in one sentence, and name what it rests on. '.repeat(3);
  const said = spokenChanges([{ path: '/0', expected: `${long}Be brief.`, actual: `${long}Be kind.` }]);
  expect(said).toBe('/0: …hat it rests on. Be brief.", now …hat it rests on. Be kind."');
});

test('of two texts that part early, and of one that is new, the beginning is shown', () => {
  const long = 'x'.repeat(200);
  const beginning = `"${'x'.repeat(79)}…`;
  expect(spokenChanges([{ path: '', expected: 'short', actual: long }])).toBe(`"short", now ${beginning}`);
  expect(spokenChanges([{ path: '/a', actual: long }])).toBe(`/a: not there, now ${beginning}`);
});

test('a rule that found a change has the last word', () => {
  const said = spokenChanges([{ path: '/n', expected: 1, actual: 'one', why: 'expected number' }]);
  expect(said).toBe('/n: 1, now "one" (expected number)');
});
