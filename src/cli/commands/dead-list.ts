/**
 * `swarm dead list`: what was given up, and not said again since.
 */
import type { Command } from '@commander-js/extra-typings';
import { type FoundDeadLetter, readLetterData } from '../../agent/dead-reading.ts';
import { readSettings } from '../../agent/settings.ts';
import { connectBus } from '../../bus/connection.ts';
import { ownBusOptions } from '../broker.ts';
import { cutTo } from '../columns.ts';
import { deadLetters, factsOf, timeOf, whyInDoubt } from '../dead-letters.ts';
import type { Invocation } from '../invocation.ts';
import { knownKeys } from '../keys-used.ts';
import { readingSettings, settingsOf } from '../options.ts';
import { type Piece, styled } from '../output.ts';
import { jsonWithPayload, shownPayload } from '../payload.ts';

export function define(command: Command, { out }: Invocation): void {
  readingSettings(command)
    .summary('print the messages that were given up')
    .description(
      `Print the dead letters that nobody has said again, oldest first, one a line: number, time (UTC), who gave it up and
whose message it is, subject, reason and how many attempts there were, payload. Each was checked: the message is its
sender's, and the one who gave it up signed that. Of a message that is too large for the stream DEAD, only the log of its agent
knows: BUS.DEAD.`,
    )
    .option('--all', 'those too that were said again')
    .option('--json', 'print each as one JSON object')
    .addHelpText(
      'after',
      `
Examples:
  $ swarm dead list
  $ swarm dead list --all --json | jq -r '[.seq, .reason, .subject] | @tsv'`,
    )
    .action(async ({ all, json, ...options }) => {
      const settings = await readSettings(settingsOf(options));
      const { keyring } = await knownKeys(settings, out);
      if (keyring === undefined) return;
      await using bus = await connectBus(await ownBusOptions(settings));
      const { letters } = await deadLetters(bus, settings, keyring, out);
      const shown = letters.filter(({ requeued }) => all === true || requeued.length === 0);
      for (const letter of shown) {
        const data = await readLetterData(bus, letter);
        if (json === true) out.jsonText(jsonWithPayload(factsOf(letter), data));
        else out.data(...cutTo(out.columns, describe(letter, data)));
      }
      const inDoubt = shown.filter(({ mayBeRequeued }) => mayBeRequeued).length;
      if (inDoubt > 0) out.warn(`${inDoubt} of them may have been said again: ${whyInDoubt(settings)}`);
      const hidden = letters.length - shown.length;
      if (hidden > 0) out.note(`${hidden} more were said again; --all shows them.`);
      else if (letters.length === 0) out.note('No message was given up.');
    });
}

function describe(letter: FoundDeadLetter, data: Uint8Array): Piece[] {
  const { seq, timestampNs, givenUpBy, sender, record, reason, delivery, requeued, mayBeRequeued } = letter;
  return [
    styled('bold', String(seq)),
    ' ',
    styled('dim', timeOf(timestampNs)),
    ` ${givenUpBy.name} < ${sender.name} `,
    styled('cyan', record.header.subject),
    ' ',
    styled('red', reason),
    ` (attempt ${delivery.attempt}) `,
    ...(requeued.length > 0 ? [styled('green', 'requeued'), ' '] : []),
    ...(mayBeRequeued ? [styled('yellow', 'requeued?'), ' '] : []),
    shownPayload(data),
  ];
}
