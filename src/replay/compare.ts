/**
 * What a handling said, held against what it said when it was recorded. Pure.
 *
 * A message that is said exactly as it was is the same message wherever it stands; those that then stand out of order are
 * moved. What is left on both sides was changed, where it is on the same subject or says the same, else is missing or extra.
 */
import type { Sha256Hex } from '../base/encoding.ts';
import { decodePayload } from '../handler/payload.ts';
import { type Change, changesBetween } from './divergence.ts';

/** A message as a handler says it. */
export interface Said {
  readonly subject: string;
  /** `undefined` where the record withholds it. */
  readonly payload: Uint8Array | undefined;
  readonly payloadHash: Sha256Hex;
  readonly refs: readonly Sha256Hex[];
  readonly meta: Readonly<Record<string, string>>;
  readonly trace: string | undefined;
}

export interface FieldChange {
  readonly field: keyof Said;
  readonly expected: unknown;
  readonly actual: unknown;
  readonly changes?: readonly Change[];
}

/** Returns those of the differences of a payload from the recorded one that count. */
export type PayloadRule = (expected: unknown, actual: unknown) => readonly Change[];

/** Returns where a message differs from the recorded one. */
export function changedFields(expected: Said, actual: Said, rule?: PayloadRule): readonly FieldChange[] {
  const changed: FieldChange[] = [];
  const compare = (field: keyof Said, one: unknown, other: unknown): void => {
    const changes = changesBetween(one, other);
    if (changes.length > 0) changed.push({ field, expected: one, actual: other, changes });
  };
  compare('subject', expected.subject, actual.subject);
  if (expected.payloadHash !== actual.payloadHash) {
    const [one, other] = [jsonOf(expected), jsonOf(actual)];
    const isJson = one !== undefined && other !== undefined;
    const changes = isJson ? (rule ?? changesBetween)(one.json, other.json) : undefined;
    // Without a rule its spelling counts, too: other bytes are another message.
    if (changes === undefined || changes.length > 0 || rule === undefined) {
      const [was, is] = [one?.json ?? expected.payloadHash, other?.json ?? actual.payloadHash];
      changed.push({ field: 'payload', expected: was, actual: is, ...(changes && { changes }) });
    }
  }
  compare('refs', expected.refs, actual.refs);
  compare('meta', expected.meta, actual.meta);
  compare('trace', expected.trace, actual.trace);
  return changed;
}

/** Returns what a payload says, if that is known and JSON. */
function jsonOf({ payload }: Said): { readonly json: unknown } | undefined {
  const json = payload && decodePayload(payload);
  return json === undefined || json instanceof Uint8Array ? undefined : { json };
}

/** A message that was recorded, and which of those said now it is, if any. */
export interface Pair<Recorded> {
  readonly recorded: Recorded | undefined;
  readonly said: Said | undefined;
  readonly changed: readonly FieldChange[];
  /** Whether it is said as it was, but after one that followed it, or before one that went ahead. */
  readonly isMoved: boolean;
}

/**
 * Holds `said`, each with the recorded message that it is found to be if any, against `recorded`, both in their order.
 * Returns what is not as it was.
 */
export function compareSaid<Recorded extends { readonly said: Said }>(
  recorded: readonly Recorded[],
  said: readonly { readonly message: Said; readonly match: Recorded | undefined }[],
  rule?: PayloadRule,
): readonly Pair<Recorded>[] {
  const matched = said.filter(({ match }) => match !== undefined);
  const places = matched.map(({ match }) => recorded.indexOf(match as Recorded));
  const inOrder = longestRise(places);
  const moved = matched
    .filter((_, at) => !inOrder.has(at))
    .map(({ message, match }) => ({ recorded: match, said: message, changed: [], isMoved: true }));
  const found = new Set(matched.map(({ match }) => match));
  const missing = recorded.filter((one) => !found.has(one));
  const extra = said.filter(({ match }) => match === undefined).map(({ message }) => message);
  const pairs: Pair<Recorded>[] = [];
  const pairOff = (isSame: (one: Recorded, message: Said) => boolean): void => {
    for (const one of [...missing]) {
      const message = extra.find((candidate) => isSame(one, candidate));
      if (message === undefined) continue;
      missing.splice(missing.indexOf(one), 1);
      extra.splice(extra.indexOf(message), 1);
      pairs.push({
        recorded: one,
        said: message,
        changed: changedFields(one.said, message, rule),
        isMoved: false,
      });
    }
  };
  pairOff((one, message) => one.said.subject === message.subject);
  pairOff((one, message) => one.said.payloadHash === message.payloadHash);
  return [
    ...moved,
    ...pairs,
    ...missing.map((one) => ({ recorded: one, said: undefined, changed: [], isMoved: false })),
    ...extra.map((message) => ({ recorded: undefined, said: message, changed: [], isMoved: false })),
  ];
}

/** Returns the indices of a longest rising part of `numbers`. */
function longestRise(numbers: readonly number[]): ReadonlySet<number> {
  const best: { readonly length: number; readonly before: number | undefined }[] = [];
  for (const [at, number] of numbers.entries()) {
    let before: number | undefined;
    for (let earlier = 0; earlier < at; earlier += 1) {
      if ((numbers[earlier] as number) > number) continue;
      if (before === undefined || (best[earlier]?.length ?? 0) > (best[before]?.length ?? 0))
        before = earlier;
    }
    best.push({ length: (before === undefined ? 0 : (best[before]?.length ?? 0)) + 1, before });
  }
  const kept = new Set<number>();
  const longest = Math.max(0, ...best.map(({ length }) => length));
  let at: number | undefined = best.findIndex(({ length }) => length === longest);
  while (at !== undefined && at >= 0) {
    kept.add(at);
    at = best[at]?.before;
  }
  return kept;
}
