/**
 * `swarm dead`: the messages that no handler could deal with.
 */
import type { Command } from '@commander-js/extra-typings';
import type { Invocation } from '../invocation.ts';
import * as list from './dead-list.ts';
import * as requeue from './dead-requeue.ts';
import * as show from './dead-show.ts';

export function define(command: Command, invocation: Invocation): void {
  command
    .description(
      `See the messages that were given up, because their handler failed too often or said that trying again is pointless,
and say them again. They are in the stream DEAD, and stay there; who gave them up has a BUS.DEAD record on the log.`,
    )
    .addHelpText(
      'after',
      `
Examples:
  $ swarm dead list              what was given up, and not said again
  $ swarm dead show 3            all that is known of one
  $ swarm dead requeue 3 4       once what was wrong with them is mended`,
    );
  const subcommand = (name: string): Command =>
    command.command(name).showHelpAfterError(`\`swarm dead ${name} --help\` shows how it is used.`);
  list.define(subcommand('list'), invocation);
  show.define(subcommand('show'), invocation);
  requeue.define(subcommand('requeue'), invocation);
}
