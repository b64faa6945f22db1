import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Queue } from '../../src/bus/queue.ts';

test('a queue gives back what was put in, in that order, whatever happens in between', () => {
  const steps = fc.array(
    fc.oneof(fc.constant('shift' as const), fc.constant('keep' as const), fc.integer()),
    {
      maxLength: 5_000,
      size: 'max',
    },
  );
  fc.assert(
    fc.property(steps, (all) => {
      const queue = new Queue<{ n: number }>();
      let model: { n: number }[] = [];
      for (const step of all) {
        if (step === 'shift' && queue.shift() !== model.shift()) return false;
        if (step === 'keep') {
          queue.keep(({ n }) => n % 3 !== 0);
          model = model.filter(({ n }) => n % 3 !== 0);
        } else if (step !== 'shift') {
          const item = { n: step };
          queue.push(item);
          model.push(item);
        }
        if (queue.size !== model.length || queue.peek() !== model[0]) return false;
      }
      return [...queue].every((item, index) => item === model[index]);
    }),
    { numRuns: 20 },
  );
});

test('an item is replaced in its place', () => {
  const queue = new Queue<{ n: number }>();
  for (const n of [1, 2, 3]) queue.push({ n });
  queue.shift();
  expect(queue.replace(({ n }) => n === 2, { n: 20 })).toBe(true);
  expect(queue.replace(({ n }) => n === 1, { n: 10 })).toBe(false);
  expect(queue.drain()).toEqual([{ n: 20 }, { n: 3 }]);
  expect(queue.size).toBe(0);
});
