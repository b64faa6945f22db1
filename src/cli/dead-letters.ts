/**
 * The dead letters of the swarm, for the commands that show them and say them again.
 */
import { type DeadLettersFound, type FoundDeadLetter, readDeadLetters } from '../agent/dead-reading.ts';
import type { Settings } from '../agent/settings.ts';
import { SwarmError } from '../base/errors.ts';
import { connectBus } from '../bus/connection.ts';
import type { Keyring } from '../identity/keyring.ts';
import { ownBusOptions } from './broker.ts';
import { given } from './options.ts';
import type { Output } from './output.ts';

/**
 * Returns what the stream DEAD holds by `keyring`, and warns of what is in it and is no dead letter. Throws what
 * `connectBus` and `readDeadLetters` throw.
 */
export async function deadLetters(
  settings: Settings,
  keyring: Keyring,
  out: Output,
): Promise<DeadLettersFound> {
  await using bus = await connectBus(await ownBusOptions(settings));
  const found = await readDeadLetters(bus, { stream: settings.stream, keyring });
  for (const { seq, subject, problem } of found.others) {
    out.warn(`message ${seq} of the stream DEAD, on ${subject}, is no dead letter: ${problem}`);
  }
  return found;
}

/** Returns the letter that `name` names; throws `USAGE` for a name that is none, `RECORD_MISSING` where there is no such letter. */
export function letterNamed({ letters, others }: DeadLettersFound, name: string): FoundDeadLetter {
  const isLeaf = /^[0-9a-f]{64}$/.test(name);
  if (!isLeaf && !/^[1-9]\d{0,14}$/.test(name)) {
    throw new SwarmError(
      'USAGE',
      `no dead letter is named by ${JSON.stringify(name.slice(0, 80))}: give its number in \`swarm dead list\`, or the leaf of its BUS.DEAD`,
    );
  }
  const letter = letters.find(({ dead, seq }) => (isLeaf ? dead.leaf === name : seq === Number(name)));
  if (letter !== undefined) return letter;
  const other = others.find(({ seq }) => seq === Number(name));
  const why = other === undefined ? 'swarm dead list --all names those there are' : other.problem;
  throw new SwarmError('RECORD_MISSING', `the stream DEAD has no dead letter ${name}: ${why}`);
}

/** Returns what programs are told of a letter, but for its payload. */
export function factsOf({
  seq,
  timestampNs,
  dead,
  delivery,
  reason,
  givenUpBy,
  record,
  sender,
  requeued,
}: FoundDeadLetter): object {
  return {
    seq,
    ts_ns: String(timestampNs),
    leaf: dead.leaf,
    reason,
    by: givenUpBy.name,
    delivery,
    subject: record.header.subject,
    sender: sender.name,
    said: { leaf: record.leaf, ts_ns: String(record.header.tsNs), ...given({ meta: record.header.meta }) },
    requeued: requeued.map(({ record: again, by, seq: at }) => ({ by: by.name, seq: at, leaf: again.leaf })),
  };
}

/** Returns a time as people read it, in UTC. */
export function timeOf(ns: bigint): string {
  return new Date(Number(ns / 1_000_000n)).toISOString();
}
