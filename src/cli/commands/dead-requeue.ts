/**
 * `swarm dead requeue`: says again what was given up, as a message of one's own.
 */
import type { Command } from '@commander-js/extra-typings';
import { type DeadLettersFound, type FoundDeadLetter, readLetterData } from '../../agent/dead-reading.ts';
import { readSettings, type Settings } from '../../agent/settings.ts';
import type { Swarm } from '../../agent/swarm.ts';
import { type ErrorCode, SwarmError } from '../../base/errors.ts';
import { connectBus } from '../../bus/connection.ts';
import { findStreamState } from '../../bus/stored.ts';
import { firstSaidAs } from '../../handler/received.ts';
import { ownBusOptions } from '../broker.ts';
import { deadLetters, letterNamed, requireLetterName, whyInDoubt } from '../dead-letters.ts';
import type { Invocation } from '../invocation.ts';
import { asItIs, joined, untilInterrupted } from '../joining.ts';
import { given, settingsOf, takingSettings } from '../options.ts';
import type { Output } from '../output.ts';

export function define(command: Command, invocation: Invocation): void {
  const { out } = invocation;
  takingSettings(command)
    .summary('say them again')
    .description(
      `Publish dead letters anew, on their subjects, as the agent whose key is here: a new message, that names the BUS.DEAD in its
\`refs\`. So the keyring must let that agent publish there. One that was requeued before is left alone, unless --again. What
cannot be requeued is named, the others are, and the exit code is 1. Nothing is taken out of the stream DEAD: a letter counts
as requeued because its new message is there.`,
    )
    .argument('[letter...]', 'numbers of `swarm dead list`, or leaves of BUS.DEAD records')
    .option('--all', 'every one that was not requeued')
    .option('--again', 'those too that were requeued before')
    .option('--json', 'print one JSON object for each that was requeued')
    .addHelpText(
      'after',
      `
Examples:
  $ swarm dead requeue 3 4
  $ swarm dead requeue --all --env operator.env`,
    )
    .action(async (names, { all, again, json, ...options }) => {
      requireNamed(names, all === true, again === true);
      const settings = await readSettings(settingsOf(options));
      await using bus = await connectBus(await ownBusOptions(settings));
      const requeueAll = async (swarm: Swarm, interrupted: AbortSignal): Promise<void> => {
        // A requeue of ours that was killed may not be in the stream yet, and its letter looks as if nobody had said it again.
        await swarm.caughtUp();
        const found = await deadLetters(bus, settings, swarm.keyring, out);
        const chosen = choose(found, { names, isAgain: again === true, settings }, out);
        if (chosen.isSomeLeft) invocation.end('findings');
        if (chosen.letters.length === 0) out.note('Nothing is to be requeued.');
        for (const letter of chosen.letters) {
          interrupted.throwIfAborted();
          const data = await readLetterData(bus, letter);
          if (!(await requeue(swarm, letter, data, json === true, out))) invocation.end('findings');
        }
      };
      const use = (swarm: Swarm, interrupted: AbortSignal): Promise<void> =>
        untilInterrupted(swarm, interrupted, () => requeueAll(swarm, interrupted));
      await joined(options, invocation, use, asItIs(await findStreamState(bus, settings.stream)));
    });
}

function requireNamed(names: readonly string[], isAll: boolean, isAgain: boolean): void {
  if (names.length === 0 && !isAll) {
    throw new SwarmError(
      'USAGE',
      'which dead letters? Name them by their numbers in `swarm dead list`, or say --all',
    );
  }
  for (const name of names) requireLetterName(name);
  if (names.length > 0 && isAll) throw new SwarmError('USAGE', '--all takes no names');
  if (isAll && isAgain)
    throw new SwarmError('USAGE', '--again takes names: --all is for those not requeued yet');
}

interface Choice {
  readonly names: readonly string[];
  readonly isAgain: boolean;
  readonly settings: Settings;
}

/** Returns the letters to say again, and whether some that were asked for are not; those are told of. */
function choose(
  found: DeadLettersFound,
  { names, isAgain, settings }: Choice,
  out: Output,
): { readonly letters: readonly FoundDeadLetter[]; readonly isSomeLeft: boolean } {
  const asked = new Set(
    names.length === 0
      ? found.letters.filter(({ requeued }) => requeued.length === 0)
      : names.map((name) => letterNamed(found, name)),
  );
  const letters: FoundDeadLetter[] = [];
  for (const letter of asked) {
    const problem = typeof letter === 'string' ? letter : isAgain ? undefined : saidBefore(letter, settings);
    if (problem !== undefined) out.fail(problem);
    else if (typeof letter !== 'string') letters.push(letter);
  }
  return { letters, isSomeLeft: letters.length < asked.size };
}

function saidBefore(
  { seq, requeued: [before], mayBeRequeued }: FoundDeadLetter,
  settings: Settings,
): string | undefined {
  if (before !== undefined)
    return `${seq} is not requeued: ${before.by.name} did, as message ${before.seq}; --again does it once more`;
  if (mayBeRequeued)
    return `${seq} is not requeued: it may have been before, as ${whyInDoubt(settings)}; \`swarm dead requeue ${seq} --again\` does it all the same`;
  return undefined;
}

/** What is wrong with one letter, and not with the next. */
const ofOneLetter: ReadonlySet<ErrorCode> = new Set([
  'PUBLISH_NOT_PERMITTED',
  'BUS_PERMISSION',
  'BUS_PAYLOAD_TOO_LARGE',
  'BUS_REFUSED',
]);

/** Reports whether `letter` was said again; if not, tells why. */
async function requeue(
  swarm: Swarm,
  { seq, dead, record }: FoundDeadLetter,
  data: Uint8Array,
  asJson: boolean,
  out: Output,
): Promise<boolean> {
  const { subject, trace, meta } = record.header;
  const { [firstSaidAs]: _, ...facts } = meta ?? {};
  try {
    const published = await swarm.publish(subject, data, {
      refs: [dead],
      ...given({ trace }),
      ...(Object.keys(facts).length > 0 && { meta: facts }),
    });
    if (asJson) out.json({ letter: seq, subject, seq: published.seq, leaf: published.record.leaf });
    else out.data(`${seq}  ${subject}  seq ${published.seq}  leaf ${published.record.leaf}`);
    return true;
  } catch (error) {
    if (!(error instanceof SwarmError) || !ofOneLetter.has(error.code)) throw error;
    out.fail(`${seq} is not requeued: ${error.message}`);
    return false;
  }
}
