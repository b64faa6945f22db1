/**
 * The dead letters of the swarm, for the commands that show them and say them again.
 */
import type { DeadLetter } from '../agent/dead-letter.ts';
import { type DeadLettersFound, type FoundDeadLetter, readDeadLetters } from '../agent/dead-reading.ts';
import type { Settings } from '../agent/settings.ts';
import { SwarmError } from '../base/errors.ts';
import type { Bus } from '../bus/connection.ts';
import type { Keyring } from '../identity/keyring.ts';
import { given } from './options.ts';
import type { Output } from './output.ts';

/** Returns what the stream DEAD holds by `keyring`, and warns of what is in it and is no dead letter. Throws what `readDeadLetters` throws. */
export async function deadLetters(
  bus: Bus,
  settings: Settings,
  keyring: Keyring,
  out: Output,
): Promise<DeadLettersFound> {
  const swarm = settings.swarm ?? keyring.swarm;
  const found = await readDeadLetters(bus, { stream: settings.stream, swarm, keyring });
  for (const { seq, subject, problem } of found.others) {
    out.warn(`message ${seq} of the stream DEAD, on ${subject}, is no dead letter: ${problem}`);
  }
  return found;
}

const leafGrammar = /^[0-9a-f]{64}$/;

/** Throws `USAGE` for a name that no dead letter has. */
export function requireLetterName(name: string): void {
  if (leafGrammar.test(name) || /^[1-9]\d{0,14}$/.test(name)) return;
  throw new SwarmError(
    'USAGE',
    `no dead letter is named by ${JSON.stringify(name.slice(0, 80))}: give its number in \`swarm dead list\`, or the leaf of its BUS.DEAD`,
  );
}

/** Returns the letter that `name` names, by any of its copies; or why there is none. */
export function letterNamed({ letters, others }: DeadLettersFound, name: string): FoundDeadLetter | string {
  const isNamed = leafGrammar.test(name)
    ? ({ dead }: DeadLetter) => dead.leaf === name
    : ({ seq }: DeadLetter) => seq === Number(name);
  const letter = letters.find((found) => [found, ...found.givenUpAgain].some(isNamed));
  if (letter !== undefined) return letter;
  const other = others.find(({ seq }) => seq === Number(name));
  const why = other === undefined ? 'swarm dead list --all names those there are' : other.problem;
  return `the stream DEAD has no dead letter ${name}: ${why}`;
}

/** Returns why it cannot be told whether a letter was said again. */
export function whyInDoubt({ stream }: Settings): string {
  return `the stream ${stream} has dropped messages since`;
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
  mayBeRequeued,
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
    ...(mayBeRequeued && { may_be_requeued: true }),
  };
}

/** Returns a time as people read it, in UTC. */
export function timeOf(ns: bigint): string {
  return new Date(Number(ns / 1_000_000n)).toISOString();
}
