/**
 * `swarm dead show`: all that is known of one dead letter.
 */
import type { Command } from '@commander-js/extra-typings';
import type { FoundDeadLetter } from '../../agent/dead-reading.ts';
import { readSettings } from '../../agent/settings.ts';
import { deadLetters, factsOf, letterNamed, timeOf } from '../dead-letters.ts';
import type { Invocation } from '../invocation.ts';
import { knownKeys } from '../keys-used.ts';
import { readingSettings, settingsOf } from '../options.ts';
import { type Output, type Piece, styled } from '../output.ts';
import { jsonWithPayload, shownPayload } from '../payload.ts';

export function define(command: Command, { out }: Invocation): void {
  readingSettings(command)
    .summary('print all that is known of one of them')
    .description(
      `Print a dead letter: what was said, by whom, who gave it up and why, where the records are, and who said it again. LETTER is
its number in \`swarm dead list\`, or the leaf of its BUS.DEAD.`,
    )
    .argument('<letter>', 'its number, or the leaf of its BUS.DEAD')
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      `
Examples:
  $ swarm dead show 3
  $ swarm dead show 3 --json | jq .payload`,
    )
    .action(async (name, { json, ...options }) => {
      const settings = await readSettings(settingsOf(options));
      const { keyring } = await knownKeys(settings, out);
      if (keyring === undefined) return;
      const letter = letterNamed(await deadLetters(settings, keyring, out), name);
      if (json === true) out.jsonText(jsonWithPayload(factsOf(letter), letter.data));
      else describe(letter, out);
    });
}

function describe(letter: FoundDeadLetter, out: Output): void {
  const { dead, delivery, reason, givenUpBy, record, sender, data, requeued } = letter;
  const line = (name: string, ...words: Piece[]): void => out.data(styled('dim', name.padEnd(11)), ...words);
  line('subject', styled('cyan', record.header.subject));
  line('said by', styled('bold', sender.name), ` at ${timeOf(record.header.tsNs)}, leaf ${record.leaf}`);
  line('given up', styled('bold', givenUpBy.name), ` at ${timeOf(dead.header.tsNs)}, leaf ${dead.leaf}`);
  line('because', styled('red', reason), `, at attempt ${delivery.attempt}`);
  line('delivery', `message ${delivery.seq} of ${delivery.stream}, durable ${delivery.consumer}`);
  line('its record', `${dead.header.cause ?? ''} (BUS.DELIVER)`);
  for (const { by, seq, record: again } of requeued) {
    line('requeued', styled('bold', by.name), ` as message ${seq}, leaf ${again.leaf}`);
  }
  line('payload', shownPayload(data));
}
