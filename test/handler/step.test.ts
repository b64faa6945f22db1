/** What an AGENT.STEP holds, there and back. */
import { expect, test } from 'vitest';
import { SwarmError } from '../../src/base/errors.ts';
import {
  describeThrown,
  parseStep,
  requireStepName,
  stepDraft,
  thrownAgain,
} from '../../src/handler/step.ts';

const named = (name: unknown): Error => Object.assign(new Error('no'), { name });

test.each([
  ['an error', new TypeError('no'), { name: 'TypeError', message: 'no' }],
  ['an error of ours', new SwarmError('BUS_CLOSED', 'no'), { name: 'SwarmError', code: 'BUS_CLOSED' }],
  ['an error whose name is a number', named(5), { name: '5', message: 'no' }],
  ['an error whose name is a symbol', named(Symbol('odd')), { name: 'Symbol(odd)' }],
  ['an error without a name', named(undefined), { name: 'undefined' }],
  ['a text', 'no', { name: 'string', message: 'no' }],
  ['nothing', undefined, { name: 'undefined' }],
])('%s that was thrown is read back as it was recorded', (_, thrown, expected) => {
  const { payload = Buffer.alloc(0) } = stepDraft('tool', { error: describeThrown(thrown) });
  const error = parseStep(payload)?.error;
  expect(error).toMatchObject(expected);
  if (error === undefined) return;
  const again = thrownAgain(error);
  expect(describeThrown(again)).toEqual(error);
  expect(again instanceof SwarmError).toBe(thrown instanceof SwarmError);
});

test.each(['handler', 'context.publish'])('the step name %s is taken', (name) => {
  expect(() => requireStepName(name)).toThrow(`the step name ${name} is taken`);
});
