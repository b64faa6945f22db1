/**
 * What one handling did otherwise than it is recorded, put into divergences: each with its place, its fields and its
 * sentence.
 */
import type { Sha256Hex } from '../base/encoding.ts';
import { decodePayload } from '../handler/payload.ts';
import type { Thrown } from '../handler/step.ts';
import type { Position } from '../log/reader.ts';
import type { Pair, Said } from './compare.ts';
import type { KnownPublish, StepDivergence } from './context.ts';
import { changesBetween, type Divergence, type DivergenceCode, spoken, spokenChanges } from './divergence.ts';
import type { Place } from './recorded.ts';

/** A delivery that is handled again. */
export interface Handled {
  readonly index: number;
  readonly delivery: Place;
  readonly threadId: string;
  readonly subject: string;
}

type Details = Omit<Divergence, 'code' | 'index' | 'threadId' | 'subject' | 'delivery' | 'at'>;

/** Makes the divergences of one handling. */
export class Findings {
  readonly #handled: Handled;
  readonly #list: Divergence[] = [];

  constructor(handled: Handled) {
    this.#handled = handled;
  }

  get list(): readonly Divergence[] {
    return this.#list;
  }

  add(code: DivergenceCode, details: Details, place: Place = this.#handled.delivery): void {
    const { index, threadId, subject, delivery } = this.#handled;
    const at: Position = { file: place.file, line: place.line, offset: place.offset };
    this.#list.push({ code, index, threadId, subject, delivery: delivery.leaf, at, ...details });
  }

  addStep(divergence: StepDivergence): void {
    switch (divergence.kind) {
      case 'changed': {
        const { step, change } = divergence;
        const how = spokenChanges(change.changes);
        this.add(
          'step-changed',
          { field: 'args', ...change, detail: `step ${step.name} is given something else: ${how}` },
          step.place,
        );
        return;
      }
      case 'untaken': {
        const { name, place, content } = divergence.step;
        const detail = `step ${name}, given ${spoken(content.args)}, is not taken`;
        this.add('step-untaken', { expected: name, detail }, place);
        return;
      }
      case 'unrecorded': {
        const { name, args, inPlaceOf, answeredAs } = divergence;
        const there = inPlaceOf === undefined ? '' : `, where step ${inPlaceOf} was taken`;
        const then =
          answeredAs === undefined
            ? 'what follows it is not compared'
            : `it is answered as the one given ${spoken(answeredAs)}`;
        const detail = `step ${name}, given ${spoken(args)}, is not on the record${there}; ${then}`;
        this.add('step-unrecorded', { ...(inPlaceOf && { expected: inPlaceOf }), actual: name, detail });
        return;
      }
    }
  }

  addPublish({ recorded, said, changed, isMoved }: Pair<KnownPublish>): void {
    if (recorded === undefined) {
      if (said === undefined) return;
      const detail = `${inWords(said)} is said, and was not`;
      this.add('publish-extra', { actual: messageIn(said), detail });
    } else if (said === undefined) {
      const detail = `${inWords(recorded.said)} was said, and is not`;
      this.add('publish-missing', { expected: messageIn(recorded.said), detail }, recorded.place);
    } else if (isMoved) {
      const detail = `${inWords(said)} is said in another order than it was`;
      this.add('publish-moved', { expected: messageIn(recorded.said), detail }, recorded.place);
    } else {
      for (const { field, expected, actual, changes } of changed) {
        const how =
          changes === undefined
            ? `${spoken(expected)}, now ${spoken(actual)}`
            : spokenChanges(changes) || 'the same JSON, spelled otherwise';
        const detail = `the ${field} of ${recorded.said.subject} is another: ${how}`;
        this.add(
          'publish-changed',
          { field, expected, actual, ...(changes && { changes }), detail },
          recorded.place,
        );
      }
    }
  }

  /** Holds what a handler threw against what it threw when it was recorded. */
  addThrown(expected: Thrown | undefined, actual: Thrown | undefined, place: Place | undefined): void {
    const changes = changesBetween(expected, actual);
    if (changes.length === 0 || isSameOfOurs(expected, actual)) return;
    const words = (thrown: Thrown | undefined): string =>
      thrown === undefined ? 'returned' : `threw ${thrown.name}: ${thrown.message}`;
    const now = actual === undefined ? 'returns' : `throws ${actual.name}: ${actual.message}`;
    const detail = `the handler ${words(expected)}, and now ${now}`;
    this.add('throws-otherwise', { field: 'error', expected, actual, changes, detail }, place);
  }
}

/** Reports whether both are the same error of ours: its code says which, and its words may name what was there then. */
function isSameOfOurs(one: Thrown | undefined, other: Thrown | undefined): boolean {
  return one?.name === 'SwarmError' && other?.name === 'SwarmError' && one.code === other.code;
}

function inWords({ subject, payload, payloadHash }: Said): string {
  const what = payload === undefined ? `what hashes to ${payloadHash}` : spoken(decodePayload(payload));
  return `${what} on ${subject}`;
}

/** Returns what was said, as a program reads it. */
function messageIn({ subject, payload, payloadHash }: Said): {
  readonly subject: string;
  readonly payload: unknown;
  readonly payloadHash?: Sha256Hex;
} {
  return payload === undefined
    ? { subject, payload: undefined, payloadHash }
    : { subject, payload: decodePayload(payload) };
}
