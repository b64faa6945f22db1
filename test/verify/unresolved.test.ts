import { readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { sha256 } from '../../src/base/encoding.ts';
import { Unresolved } from '../../src/verify/unresolved.ts';

const hash = (n: number): Buffer => sha256(Buffer.from(String(n)));
const spills = (): string[] => readdirSync(tmpdir()).filter((name) => name.startsWith('can-swarm-spilled-'));

test('what was asked for and never given is counted, in whatever order they come', () => {
  const act = fc.record({ isQuestion: fc.boolean(), n: fc.nat(60) });
  fc.assert(
    fc.property(fc.array(act, { maxLength: 200 }), (acts) => {
      using unresolved = new Unresolved();
      for (const { isQuestion, n } of acts) unresolved[isQuestion ? 'ask' : 'give'](hash(n));
      const given = new Set(acts.filter(({ isQuestion }) => !isQuestion).map(({ n }) => n));
      const questions = acts.filter(({ isQuestion }) => isQuestion);
      expect(unresolved.hasQuestions).toBe(questions.length > 0);
      expect(unresolved.count()).toBe(questions.filter(({ n }) => !given.has(n)).length);
    }),
  );
});

test('what does not fit into memory is counted as well, and its files are gone at the end', () => {
  const before = spills();
  {
    using unresolved = new Unresolved();
    // All of one part, of which memory holds 32768 on each side.
    const bytes = Buffer.concat(Array.from({ length: 90_000 }, (_, n) => hash(n)));
    for (let at = 8; at < bytes.length; at += 32) bytes[at] = 5;
    for (let n = 0; n < 90_000; n += 1) if (n % 3 !== 0) unresolved.give(bytes, n * 32);
    for (let n = 89_999; n >= 0; n -= 1) unresolved.ask(bytes, n * 32);
    expect(unresolved.count()).toBe(30_000);
    expect(spills().length).toBeGreaterThan(before.length);
    expect(unresolved.count()).toBe(30_000); // asking for the count changes nothing
  }
  expect(spills().filter((name) => !before.includes(name))).toEqual([]);
});
