/**
 * `swarm dead show`: all that is known of one dead letter.
 */
import type { Command } from '@commander-js/extra-typings';
import { type FoundDeadLetter, readLetterData } from '../../agent/dead-reading.ts';
import { readSettings, type Settings } from '../../agent/settings.ts';
import { SwarmError } from '../../base/errors.ts';
import { connectBus } from '../../bus/connection.ts';
import { ownBusOptions } from '../broker.ts';
import { deadLetters, factsOf, letterNamed, requireLetterName, timeOf, whyInDoubt } from '../dead-letters.ts';
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
its number in \`swarm dead list\`, or the leaf of its BUS.DEAD. One that was given up twice is found by either.`,
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
      requireLetterName(name);
      const settings = await readSettings(settingsOf(options));
      const { keyring } = await knownKeys(settings, out);
      if (keyring === undefined) return;
      await using bus = await connectBus(await ownBusOptions(settings));
      const letter = letterNamed(await deadLetters(bus, settings, keyring, out), name);
      if (typeof letter === 'string') throw new SwarmError('RECORD_MISSING', letter);
      const data = await readLetterData(bus, letter);
      if (json === true) out.jsonText(jsonWithPayload(factsOf(letter), data));
      else describe(letter, data, settings, out);
    });
}

function describe(letter: FoundDeadLetter, data: Uint8Array, settings: Settings, out: Output): void {
  const { dead, delivery, reason, givenUpBy, record, sender, givenUpAgain, requeued } = letter;
  const line = (name: string, ...words: Piece[]): void => out.data(styled('dim', name.padEnd(11)), ...words);
  line('subject', styled('cyan', record.header.subject));
  line('said by', styled('bold', sender.name), ` at ${timeOf(record.header.tsNs)}, leaf ${record.leaf}`);
  line('given up', styled('bold', givenUpBy.name), ` at ${timeOf(dead.header.tsNs)}, leaf ${dead.leaf}`);
  line('because', styled('red', reason), `, at attempt ${delivery.attempt}`);
  line('delivery', `message ${delivery.seq} of ${delivery.stream}, durable ${delivery.consumer}`);
  line('its record', `${dead.header.cause ?? ''} (BUS.DELIVER)`);
  for (const { seq, dead: again } of givenUpAgain) {
    line('once more', `as ${seq}, at ${timeOf(again.header.tsNs)}, leaf ${again.leaf}`);
  }
  for (const { by, seq, record: again } of requeued) {
    line('requeued', styled('bold', by.name), ` as message ${seq}, leaf ${again.leaf}`);
  }
  if (letter.mayBeRequeued) line('requeued?', `nobody can tell: ${whyInDoubt(settings)}`);
  line('payload', shownPayload(data));
}
