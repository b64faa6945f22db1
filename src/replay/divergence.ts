/**
 * All that can be different when an agent is run again, each as a value and as a sentence.
 */
import diff from 'microdiff';
import type { Sha256Hex } from '../base/encoding.ts';
import type { Position } from '../log/reader.ts';

/** Every code of a divergence, with what it means. */
export const divergenceCodes = {
  'publish-changed': 'A message is said otherwise than it was.',
  'publish-moved': 'Messages are said in another order.',
  'publish-missing': 'A message that was said is not said.',
  'publish-extra': 'A message is said that was not.',
  'step-changed': 'A step is given something else; the recorded answer was used.',
  'step-untaken': 'A step that was taken is not taken.',
  'step-unrecorded':
    'A step is taken that was not. Where no other of its name can answer it, the rest of its handling is not compared.',
  'throws-otherwise':
    'A handler throws where it did not, or does not where it did, or throws something else.',
  'no-handler': 'No filter of the agent takes a message that was delivered to it.',
  'no-return': 'A handler did not return in time; the rest of its handling is not compared.',
  withheld: 'The payload of a delivery or step is withheld, so that it cannot be handled again.',
} as const;

export type DivergenceCode = keyof typeof divergenceCodes;

/** One place in which two JSON values differ. */
export interface Change {
  /** A JSON pointer (RFC 6901); empty for the whole. */
  readonly path: string;
  /** Absent where it was not there. */
  readonly expected?: unknown;
  /** Absent where it is not there. */
  readonly actual?: unknown;
  /** What is wrong with it, where a rule for payloads says so. */
  readonly why?: string;
}

export interface Divergence {
  readonly code: DivergenceCode;
  /** Which of the agent's deliveries it is about, counted from 0 in the order in which they were handled again. */
  readonly index: number;
  readonly threadId: string;
  /** The subject of the message that was delivered. */
  readonly subject: string;
  /** The leaf of the BUS.DELIVER. */
  readonly delivery: Sha256Hex;
  /** Where the record stands that it is held against: the one changed or missing, else the BUS.DELIVER. */
  readonly at: Position;
  /** What differs: `subject`, `payload`, `refs`, `meta`, `trace`, `args`, `error`; absent where all of it does. */
  readonly field?: string;
  readonly expected?: unknown;
  readonly actual?: unknown;
  /** Where `expected` and `actual` differ, if both are JSON. */
  readonly changes?: readonly Change[];
  /** In a sentence. */
  readonly detail: string;
}

/** Returns where two JSON values differ. */
export function changesBetween(expected: unknown, actual: unknown): readonly Change[] {
  return diff({ value: expected }, { value: actual }, { cyclesFix: false }).map((change) => ({
    path: pointer(change.path.slice(1)),
    ...(change.type !== 'CREATE' && { expected: change.oldValue as unknown }),
    ...(change.type !== 'REMOVE' && { actual: change.value as unknown }),
  }));
}

function pointer(path: readonly (string | number)[]): string {
  return path.map((part) => `/${String(part).replaceAll('~', '~0').replaceAll('/', '~1')}`).join('');
}

const spokenLength = 80;
const spokenBefore = 20;

/** Returns a value in a few words, for a sentence; of a long one what stands at `from` and after it. */
export function spoken(value: unknown, from = 0): string {
  if (value === undefined) return 'nothing';
  if (value instanceof Uint8Array) return `${value.length} bytes that are no JSON`;
  const text = JSON.stringify(value);
  if (text.length <= spokenLength) return text;
  const start = from < spokenLength ? 0 : from - spokenBefore;
  const end = start + spokenLength;
  return `${start > 0 ? '…' : ''}${text.slice(start, end)}${end < text.length ? '…' : ''}`;
}

/** Returns where the spellings of two values begin to differ. */
function partingOf(one: unknown, other: unknown): number {
  const [text = '', same = ''] = [JSON.stringify(one), JSON.stringify(other)];
  let at = 0;
  while (at < text.length && text[at] === same[at]) at += 1;
  return at;
}

/** Returns the changes in a few words: `/n: 1, now 2`. */
export function spokenChanges(changes: readonly Change[]): string {
  const shown = changes.slice(0, 3).map(({ path, why, ...change }) => {
    const parting = partingOf(change.expected, change.actual);
    const was = 'expected' in change ? spoken(change.expected, parting) : 'not there';
    const is = 'actual' in change ? spoken(change.actual, parting) : 'not there';
    return `${path === '' ? '' : `${path}: `}${was}, now ${is}${why === undefined ? '' : ` (${why})`}`;
  });
  const more = changes.length - shown.length;
  return more > 0 ? `${shown.join('; ')}; and ${more} more` : shown.join('; ');
}
