/**
 * What can differ between a log and a stream, and what differs about one message. Pure.
 *
 * Differences are values, as a verifier's findings are: each needs a person, or a resend. What has an explanation is
 * counted.
 */
import { rejectReasons } from '../record/kind.ts';
import type { Entry } from './ledger.ts';

export type DifferenceCode = 'missing' | 'off-camera' | 'different' | 'never-stored' | 'unsigned' | 'refused';

/** Every difference, in a sentence that fits any. */
export const differenceCodes: Readonly<Record<DifferenceCode, string>> = {
  missing: 'It was said here, and the stream does not have it: never sent, or lost by the broker.',
  'off-camera': 'The stream has it from a writer of this log, and no record here says it.',
  different: 'The stream has it otherwise than it was signed.',
  'never-stored': 'It was heard here, and the stream does not have it.',
  unsigned: 'A message of the stream carries no record of who said it.',
  refused: 'A message of the stream that no receiver takes, of nobody who writes here.',
};

/** What is explained, and counted. */
export interface ReconcileCounts {
  /** Messages that log and stream have. */
  readonly agreed: number;
  /** Said, refused by the broker or never taken, and named so by a BUS.UNSENT. */
  readonly unsent: number;
  /** From before the first message that the stream still has: purged or expired. */
  readonly gone: number;
  /** Being sent right now, by a writer that lives. */
  readonly underWay: number;
  /** Stored when they were stale: no receiver takes them. */
  readonly stale: number;
  /** Stored more than once, as one that was said anew: receivers know it by its id. */
  readonly repeated: number;
  /** In the stream, of agents who do not write here, or from before this log begins. */
  readonly elsewhere: number;
}

export const noCounts: ReconcileCounts = {
  agreed: 0,
  unsent: 0,
  gone: 0,
  underWay: 0,
  stale: 0,
  repeated: 0,
  elsewhere: 0,
};

/** What is known of the stream as a whole. */
export interface StreamTerms {
  readonly firstSeq: number;
  /** Of the first message that it has. */
  readonly firstTimeNs: bigint | undefined;
  /** How far a record's time may be from the broker's. */
  readonly freshForNs: bigint;
}

/** One difference about one message: at a place of the log, or a number of the stream. */
export interface MessageDifference {
  readonly code: Exclude<DifferenceCode, 'unsigned'>;
  /** Of what was said or heard. */
  readonly place?: number;
  readonly seq?: number;
  readonly entry: Entry;
  readonly detail: string;
}

export interface Judgement {
  readonly differences: readonly MessageDifference[];
  readonly counted: readonly (keyof ReconcileCounts)[];
}

/** Judges the entries about one message. */
export function judge(entries: readonly Entry[], terms: StreamTerms): Judgement {
  const of = (...kinds: Entry['kind'][]): Entry[] => entries.filter(({ kind }) => kinds.includes(kind));
  const said = of('said', 'under-way');
  const heard = of('heard');
  const leavesSaid = new Set(said.map(({ leaf }) => leaf));
  const leavesHere = new Set([...said, ...heard].map(({ leaf }) => leaf));
  const differences: MessageDifference[] = [];
  const counted: (keyof ReconcileCounts)[] = [];

  for (const entry of of('altered')) {
    const reason = rejectReasons[Number(entry.about)];
    const isHere = leavesHere.has(entry.leaf);
    differences.push({
      code: isHere ? 'different' : 'refused',
      seq: entry.at,
      entry,
      detail: isHere
        ? `it is refused (${reason}), and the log has it as it was signed`
        : `it is refused (${reason})`,
    });
  }
  for (const entry of of('barred')) {
    const reason = rejectReasons[Number(entry.about)];
    if (leavesHere.has(entry.leaf)) continue;
    if (reason === 'revoked-key')
      counted.push('elsewhere'); // whether that was before its key was revoked, its own log shows
    else differences.push({ code: 'refused', seq: entry.at, entry, detail: `it is refused (${reason})` });
  }
  for (const entry of of('stored', 'stale')) {
    if (entry.kind === 'stale') counted.push('stale');
    if (leavesSaid.has(entry.leaf)) continue;
    if (entry.about === 1n) {
      differences.push({ code: 'off-camera', seq: entry.at, entry, detail: 'no record of the log says it' });
    } else if (entry.kind === 'stored' && !leavesHere.has(entry.leaf)) counted.push('elsewhere');
  }

  const stored = [...of('stored'), ...of('barred').filter(({ leaf }) => leavesHere.has(leaf))];
  if (said.length + heard.length === 0) return { differences, counted };
  if (stored.length > 0) {
    counted.push('agreed');
    if (stored.length > 1) counted.push('repeated');
    return { differences, counted };
  }
  if (differences.some(({ code }) => code === 'different')) return { differences, counted }; // which says it
  const explanation = explain(entries, said, heard, terms);
  if (explanation !== undefined) return { differences, counted: [...counted, explanation] };
  const last = said.at(-1);
  const [first] = heard;
  if (last !== undefined) {
    const detail =
      first === undefined
        ? 'the stream does not have it: it was never sent, or the broker has lost it'
        : `the broker delivered it as message ${first.about}, and has lost it`;
    differences.push({ code: 'missing', place: last.at, entry: last, detail });
  } else if (first !== undefined) {
    const detail = `it was delivered as message ${first.about}, and the stream does not have it`;
    differences.push({ code: 'never-stored', place: first.at, entry: first, detail });
  }
  return { differences, counted };
}

/** Returns why the stream rightly does not have a message, if there is a reason. */
function explain(
  entries: readonly Entry[],
  said: readonly Entry[],
  heard: readonly Entry[],
  { firstSeq, firstTimeNs, freshForNs }: StreamTerms,
): 'gone' | 'unsent' | 'underWay' | undefined {
  if (heard.some(({ about }) => about >= BigInt(firstSeq))) return undefined;
  if (heard.length > 0) return 'gone';
  if (entries.some(({ kind }) => kind === 'unsent')) return 'unsent';
  const last = said.at(-1);
  if (last?.kind === 'under-way') return 'underWay';
  // A clock may be so far ahead that what was stored before the first message seems to be later.
  const mayBeBefore = firstTimeNs === undefined || (last?.about ?? 0n) - freshForNs <= firstTimeNs;
  return firstSeq > 1 && mayBeBefore ? 'gone' : undefined;
}
