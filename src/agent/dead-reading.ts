/**
 * The dead letters that a swarm has, and which of them were said again since.
 *
 * Nothing is ever taken out of the stream DEAD, and nobody marks anything there: a letter was requeued if the stream of the
 * swarm holds a message that says the same, that its receivers take, and whose `refs` name the letter's BUS.DEAD. Where that
 * stream drops what is old, it forgets that too.
 *
 * However many letters there are, their data are not held: they are read when somebody wants them.
 */
import { sha256Hex } from '../base/encoding.ts';
import { SwarmError } from '../base/errors.ts';
import type { Bus } from '../bus/connection.ts';
import { readNext } from '../bus/read-message.ts';
import { readMessages, readStreamState } from '../bus/stored.ts';
import { deadStream, isStreamMissing } from '../bus/stream.ts';
import type { Agent } from '../identity/keyring.ts';
import type { SignedRecord } from '../record/signed.ts';
import { admit, type Receiver } from './admission.ts';
import { type DeadLetter, deadSubjectOf, type NoDeadLetter, openDeadLetter } from './dead-letter.ts';
import { parseEnvelope } from './envelope.ts';

/** The message that says a dead letter's again. */
export interface Requeued {
  readonly record: SignedRecord;
  readonly by: Agent;
  /** Where the stream of the swarm keeps it. */
  readonly seq: number;
}

export interface FoundDeadLetter extends DeadLetter {
  /** Its later copies, of BUS.DEAD records of their own: its agent died while it gave the message up. */
  readonly givenUpAgain: readonly DeadLetter[];
  readonly requeued: readonly Requeued[];
  /** No requeue is there, but the stream of the swarm has dropped messages since, and one may have been among them. */
  readonly mayBeRequeued: boolean;
}

export interface DeadLettersFound {
  /** Oldest first; one that was given up twice, since its agent died in between, is one. */
  readonly letters: readonly FoundDeadLetter[];
  /** What else stands in the stream. */
  readonly others: readonly NoDeadLetter[];
}

export interface Where extends Pick<Receiver, 'keyring' | 'swarm'> {
  /** The stream of the swarm. */
  readonly stream: string;
}

/** A consumer takes only so many filters; more are read without. */
const filtersAtMost = 100;

interface Found {
  readonly letter: DeadLetter;
  readonly givenUpAgain: DeadLetter[];
  readonly requeued: Requeued[];
}

/** Returns what the stream DEAD holds; nothing where there is none yet. Throws `BUS_STREAM` where a stream cannot be read. */
export async function readDeadLetters(bus: Bus, where: Where): Promise<DeadLettersFound> {
  const byName = new Map<string, Found>();
  const byLeaf = new Map<string, Found>();
  const others: NoDeadLetter[] = [];
  try {
    for await (const stored of readMessages(bus, { stream: deadStream.name })) {
      const letter = openDeadLetter(stored, where);
      if ('problem' in letter) {
        others.push(letter);
        continue;
      }
      const { delivery, dead, givenUpBy } = letter;
      const name = `${givenUpBy.name} ${delivery.consumer} ${delivery.stream} ${delivery.seq} ${letter.record.leaf}`;
      const known = byName.get(name);
      known?.givenUpAgain.push(letter);
      const found = known ?? { letter, givenUpAgain: [], requeued: [] };
      byName.set(name, found);
      byLeaf.set(dead.leaf, found);
    }
  } catch (error) {
    if (error instanceof Error && isStreamMissing(error.cause)) return { letters: [], others: [] };
    throw error;
  }
  const all = [...byName.values()];
  const wholeSinceNs = await findRequeued(bus, where, all, byLeaf);
  const letters = all.map(({ letter, ...found }) => ({
    ...letter,
    ...found,
    mayBeRequeued: found.requeued.length === 0 && letter.timestampNs < wholeSinceNs,
  }));
  return { letters, others };
}

/** Returns the bytes that were signed; throws `RECORD_MISSING` where the stream DEAD has them no more, `BUS_STREAM`. */
export async function readLetterData(bus: Bus, { seq, record }: DeadLetter): Promise<Uint8Array> {
  const { subject, payloadHash } = record.header;
  const stored = await readNext(bus, { stream: deadStream.name, subject: deadSubjectOf(subject), seq });
  if (stored?.seq === seq && sha256Hex(stored.data) === payloadHash) return stored.data;
  throw new SwarmError('RECORD_MISSING', `the stream DEAD does not have the dead letter ${seq} any more`);
}

/**
 * Adds to `letters` the messages that say them again, and returns since when the stream has all that was ever there, by the
 * broker's clock.
 */
async function findRequeued(
  bus: Bus,
  { stream, keyring, swarm }: Where,
  letters: readonly Found[],
  byLeaf: ReadonlyMap<string, Found>,
): Promise<bigint> {
  const [first] = letters;
  if (first === undefined) return 0n;
  const { firstSeq, firstTimeNs, duplicateWindowMs } = await readStreamState(bus, stream);
  const receiver = { keyring, swarm, freshForNs: BigInt(Math.round(duplicateWindowMs * 1e6)) / 2n };
  const subjects = [...new Set(letters.map(({ letter }) => letter.record.header.subject))];
  const filter = subjects.length <= filtersAtMost ? { subjects } : {};
  const sinceNs = first.letter.timestampNs;
  for await (const message of readMessages(bus, { stream, sinceNs, ...filter })) {
    const envelope = parseEnvelope(message.headers);
    if (envelope.state !== 'well-formed') continue;
    const { header } = envelope.record;
    const named = new Set((header.refs ?? []).flatMap((leaf) => byLeaf.get(leaf) ?? []));
    const said = [...named].filter(
      ({ letter: { record } }) =>
        record.header.subject === header.subject && record.header.payloadHash === header.payloadHash,
    );
    if (said.length === 0) continue;
    const admission = admit(message, receiver);
    if (!admission.admitted) continue;
    const { record, sender: by } = admission;
    for (const { requeued } of said) requeued.push({ record, by, seq: message.seq });
  }
  return firstSeq > 1 ? (firstTimeNs ?? 2n ** 63n) : 0n;
}
