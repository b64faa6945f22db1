/**
 * One record explained, for people and for programs.
 */

import type { Step } from '../verify/explain.ts';
import type { FoundLine } from '../verify/prove.ts';
import { type Output, styled } from './output.ts';

/** Says each step on a line, the members of a header below it, and last whether all hold. */
export function printExplanation({ file, line }: FoundLine, steps: readonly Step[], out: Output): void {
  for (const { name, ok, sentence, members = [] } of steps) {
    out.data(ok ? styled('green', 'ok     ') : styled('red', 'NOT OK '), name.padEnd(10), sentence);
    for (const [member, value] of members) out.data(`         ${member.padEnd(13)} `, value);
  }
  const bad = steps.filter(({ ok }) => !ok).map(({ name }) => name);
  if (bad.length === 0) out.data(styled('green', `${file}:${line} holds`));
  else out.data(styled('red', `${file}:${line} does not hold: ${bad.join(', ')}`));
}

/** Returns the explanation as one JSON object. */
export function explanationAsJson({ file, line, leaf, index }: FoundLine, steps: readonly Step[]): object {
  return {
    file,
    line,
    leaf,
    index,
    ok: steps.every(({ ok }) => ok),
    steps: steps.map(({ members, ...step }) => ({
      ...step,
      members: members && Object.fromEntries(members),
    })),
  };
}
