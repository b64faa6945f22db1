/**
 * `swarm dead requeue`: says again what was given up, as a message of one's own.
 */
import type { Command } from '@commander-js/extra-typings';
import type { DeadLettersFound, FoundDeadLetter } from '../../agent/dead-reading.ts';
import { readSettings } from '../../agent/settings.ts';
import type { Swarm } from '../../agent/swarm.ts';
import { type ErrorCode, SwarmError } from '../../base/errors.ts';
import { firstSaidAs } from '../../handler/received.ts';
import { deadLetters, letterNamed } from '../dead-letters.ts';
import type { Invocation } from '../invocation.ts';
import { joined } from '../joining.ts';
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
      await joined(options, invocation, async (swarm, interrupted) => {
        const found = await deadLetters(settings, swarm.keyring, out);
        const chosen = choose(found, { names, isAgain: again === true }, out);
        if (chosen.isSomeLeft) invocation.end('findings');
        if (chosen.letters.length === 0) out.note('Nothing is to be requeued.');
        for (const letter of chosen.letters) {
          interrupted.throwIfAborted();
          if (!(await requeue(swarm, letter, json === true, out))) invocation.end('findings');
        }
      });
    });
}

function requireNamed(names: readonly string[], isAll: boolean, isAgain: boolean): void {
  if (names.length === 0 && !isAll) {
    throw new SwarmError(
      'USAGE',
      'which dead letters? Name them by their numbers in `swarm dead list`, or say --all',
    );
  }
  if (names.length > 0 && isAll) throw new SwarmError('USAGE', '--all takes no names');
  if (isAll && isAgain)
    throw new SwarmError('USAGE', '--again takes names: --all is for those not requeued yet');
}

/** Returns the letters to say again, and whether some that were named are not; those are told of. */
function choose(
  found: DeadLettersFound,
  { names, isAgain }: { readonly names: readonly string[]; readonly isAgain: boolean },
  out: Output,
): { readonly letters: readonly FoundDeadLetter[]; readonly isSomeLeft: boolean } {
  if (names.length === 0) {
    return { letters: found.letters.filter(({ requeued }) => requeued.length === 0), isSomeLeft: false };
  }
  const named = new Set(names.map((name) => letterNamed(found, name)));
  const letters = [...named].filter(({ seq, requeued: [before] }) => {
    if (before === undefined || isAgain) return true;
    out.fail(
      `${seq} is not requeued: ${before.by.name} did, as message ${before.seq}; --again does it once more`,
    );
    return false;
  });
  return { letters, isSomeLeft: letters.length < named.size };
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
  { seq, dead, record, data }: FoundDeadLetter,
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
