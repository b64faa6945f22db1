/** Where a payload may differ from the recorded one, and where it may not. */
import type { StandardSchemaV1 } from '@standard-schema/spec';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { allOf, ignoring, matching } from '../../src/testing/payloads.ts';

const recorded = {
  at: 1,
  items: [
    { id: 'a', n: 1 },
    { id: 'b', n: 2 },
  ],
  'a/b~c': 1,
};

describe('ignoring', () => {
  const differences: Record<string, { ignored: string[]; actual: unknown; counts: string[] }> = {
    'what is at the place': { ignored: ['/at'], actual: { ...recorded, at: 2 }, counts: [] },
    'what is elsewhere': { ignored: ['/items'], actual: { ...recorded, at: 2 }, counts: ['/at'] },
    'what is below the place': {
      ignored: ['/items'],
      actual: { ...recorded, items: [{ id: 'z' }] },
      counts: [],
    },
    'a place that was not there': { ignored: ['/new'], actual: { ...recorded, new: 1 }, counts: [] },
    'a place whose name only begins so': { ignored: ['/a'], actual: { ...recorded, at: 2 }, counts: ['/at'] },
    'any element': {
      ignored: ['/items/*/id'],
      actual: {
        ...recorded,
        items: [
          { id: 'x', n: 1 },
          { id: 'y', n: 3 },
        ],
      },
      counts: ['/items/1/n'],
    },
    'an element that is gone': {
      ignored: ['/items/*/id'],
      actual: { ...recorded, items: [{ id: 'x', n: 1 }] },
      counts: ['/items/1'],
    },
    'a name with / and ~': { ignored: ['/a~1b~0c'], actual: { ...recorded, 'a/b~c': 2 }, counts: [] },
    'the whole': { ignored: [''], actual: 'something else', counts: [] },
    nothing: { ignored: [], actual: { ...recorded, at: 2 }, counts: ['/at'] },
  };

  test.each(Object.entries(differences))('%s', (_, { ignored, actual, counts }) => {
    expect(ignoring(...ignored)(recorded, actual).map(({ path }) => path)).toEqual(counts);
  });

  test.each(['at', 'items/*', '/a~2', '/a~'])('refuses %s, which is no pointer', (pointer) => {
    expect(() => ignoring(pointer)).toThrow(`not a JSON pointer: "${pointer}"`);
  });
});

describe('matching', () => {
  const answer = matching(z.object({ answer: z.string().min(1), notes: z.array(z.object({ id: z.int() })) }));

  test('any payload will do that fits', () => {
    expect(answer({ answer: 'yes', notes: [] }, { answer: 'no', notes: [{ id: 1 }] })).toEqual([]);
  });

  test('what does not fit is said, with its place and why', () => {
    const changes = answer({ answer: 'yes', notes: [] }, { answer: '', notes: [{ id: 1.5 }] });
    expect(changes).toEqual([
      { path: '/answer', expected: 'yes', actual: '', why: expect.stringContaining('>=1') },
      { path: '/notes/0/id', actual: 1.5, why: expect.stringContaining('int') },
    ]);
    expect(answer({ answer: 'yes' }, 'no')).toMatchObject([
      { path: '', expected: { answer: 'yes' }, actual: 'no' },
    ]);
  });

  test('any Standard Schema serves, also one whose paths are of objects', () => {
    const never: StandardSchemaV1 = {
      '~standard': {
        version: 1,
        vendor: 'test',
        validate: () => ({ issues: [{ message: 'never', path: [{ key: 'a/b' }, 0] }] }),
      },
    };
    expect(matching(never)({ 'a/b': [1] }, {})).toEqual([{ path: '/a~1b/0', expected: 1, why: 'never' }]);
  });

  test('a schema that answers later is refused', () => {
    const later = matching(z.string().refine(async () => true));
    const vendorSays: StandardSchemaV1 = {
      '~standard': { version: 1, vendor: 'slow', validate: async () => ({ value: 1 }) },
    };
    expect(() => matching(vendorSays)(1, 2)).toThrow('a schema of slow answers with a promise');
    expect(() => later('a', 'b')).toThrow('a schema of zod answers with a promise');
  });
});

test('allOf: a schema holds for what is ignored', () => {
  const rule = allOf(ignoring('/answer'), matching(z.object({ answer: z.string(), n: z.number() })));
  expect(rule({ answer: 'a', n: 1 }, { answer: 'b', n: 1 })).toEqual([]);
  expect(rule({ answer: 'a', n: 1 }, { answer: 'b', n: 2 })).toMatchObject([{ path: '/n' }]);
  expect(rule({ answer: 'a', n: 1 }, { answer: 2, n: 1 })).toMatchObject([
    { path: '/answer', why: expect.any(String) },
  ]);
});
