/**
 * The dead letters that a swarm has, and which of them were said again since.
 *
 * Nothing is ever taken out of the stream DEAD, and nobody marks anything there: a letter was requeued if the stream of the
 * swarm holds a message that names its BUS.DEAD in `refs`, signed by an agent that may speak there.
 */
import { isSubject } from '../base/subject.ts';
import type { Bus } from '../bus/connection.ts';
import { readMessages } from '../bus/stored.ts';
import { deadStream, isStreamMissing } from '../bus/stream.ts';
import type { Agent, Keyring } from '../identity/keyring.ts';
import type { SignedRecord } from '../record/signed.ts';
import { type DeadLetter, type NoDeadLetter, openDeadLetter, writerOf } from './dead-letter.ts';
import { parseEnvelope } from './envelope.ts';

/** The message that says a dead letter's again. */
export interface Requeued {
  readonly record: SignedRecord;
  readonly by: Agent;
  /** Where the stream of the swarm keeps it. */
  readonly seq: number;
}

export interface FoundDeadLetter extends DeadLetter {
  readonly requeued: readonly Requeued[];
}

export interface DeadLettersFound {
  /** Oldest first; one that was given up twice, since its agent died in between, is one. */
  readonly letters: readonly FoundDeadLetter[];
  /** What else stands in the stream. */
  readonly others: readonly NoDeadLetter[];
}

export interface Where {
  /** The stream of the swarm. */
  readonly stream: string;
  readonly keyring: Keyring;
}

/** A consumer takes only so many filters; more are read without. */
const filtersAtMost = 100;

/** Returns what the stream DEAD holds; nothing where there is none yet. Throws `BUS_STREAM` where a stream cannot be read. */
export async function readDeadLetters(bus: Bus, { stream, keyring }: Where): Promise<DeadLettersFound> {
  const letters = new Map<string, { readonly letter: DeadLetter; readonly requeued: Requeued[] }>();
  const byLeaf = new Map<string, Requeued[]>();
  const others: NoDeadLetter[] = [];
  try {
    for await (const stored of readMessages(bus, { stream: deadStream.name })) {
      const letter = openDeadLetter(stored, keyring);
      if ('problem' in letter) {
        others.push(letter);
        continue;
      }
      const { delivery, dead, givenUpBy } = letter;
      const name = `${givenUpBy.name} ${delivery.consumer} ${delivery.stream} ${delivery.seq} ${letter.record.leaf}`;
      const known = letters.get(name) ?? { letter, requeued: [] };
      letters.set(name, known);
      byLeaf.set(dead.leaf, known.requeued);
    }
  } catch (error) {
    if (error instanceof Error && isStreamMissing(error.cause)) return { letters: [], others: [] };
    throw error;
  }
  const all = [...letters.values()];
  await findRequeued(bus, { stream, keyring }, all, byLeaf);
  return { letters: all.map(({ letter, requeued }) => ({ ...letter, requeued })), others };
}

/** Adds to `byLeaf` what was said since the first of `letters` that names one of them. */
async function findRequeued(
  bus: Bus,
  { stream, keyring }: Where,
  letters: readonly { readonly letter: DeadLetter }[],
  byLeaf: ReadonlyMap<string, Requeued[]>,
): Promise<void> {
  const [first] = letters;
  if (first === undefined) return;
  const subjects = [...new Set(letters.map(({ letter }) => letter.record.header.subject))];
  const filter = subjects.length <= filtersAtMost ? { subjects } : {};
  for await (const { subject, headers, seq } of readMessages(bus, {
    stream,
    sinceNs: first.letter.timestampNs,
    ...filter,
  })) {
    const envelope = isSubject(subject) ? parseEnvelope(headers) : undefined;
    if (envelope?.state !== 'well-formed' || envelope.record.header.subject !== subject) continue;
    const { record } = envelope;
    const named = (record.header.refs ?? []).flatMap((leaf) => {
      const requeued = byLeaf.get(leaf);
      return requeued === undefined ? [] : [requeued];
    });
    if (named.length === 0) continue;
    const by = writerOf(record, keyring);
    if (typeof by === 'string' || !keyring.mayPublish(by, subject)) continue;
    for (const requeued of named) requeued.push({ record, by, seq });
  }
}
