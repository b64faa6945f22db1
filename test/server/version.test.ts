import { expect, test } from 'vitest';
import { compareVersions, isNewEnough } from '../../src/server/version.ts';

test.each([
  ['2.9.10', false],
  ['2.9.99-RC.1', false],
  ['1.99.0', false],
  ['2.10.0', true],
  ['2.10.27', true],
  ['2.10.0-RC.3', true],
  ['2.12.4', true],
  ['10.0.0', true],
])('%s is new enough: %s', (version, answer) => {
  expect(isNewEnough(version)).toBe(answer);
});

test('versions are ordered by their numbers, not by their digits', () => {
  expect(['2.9.1', '2.10.2', '2.10.10', '3.0.0'].toSorted((a, b) => compareVersions(b, a))).toEqual([
    '3.0.0',
    '2.10.10',
    '2.10.2',
    '2.9.1',
  ]);
});
