/**
 * `swarm keys`: an agent's own key pair, and the keyring of those whom it trusts.
 *
 * Secrets are written to the env file by `identity/` and never said: what is printed here is public.
 */
import type { Command } from '@commander-js/extra-typings';
import type { Invocation } from '../invocation.ts';
import * as add from './keys-add.ts';
import * as list from './keys-list.ts';
import * as make from './keys-new.ts';
import * as remove from './keys-remove.ts';
import * as revoke from './keys-revoke.ts';
import * as show from './keys-show.ts';

export function define(command: Command, invocation: Invocation): void {
  command
    .description(
      `Make an agent's key pair, and keep the keyring: the file that says whose key is whose and what each agent may
publish on. The secret stays in the env file; what is handed to others is one line of public keys.`,
    )
    .addHelpText(
      'after',
      `
Examples:
  $ swarm keys new --name planner            a key pair into .env, its public keys into swarm.keys.json
  $ swarm keys show                          the line to hand to the others
  $ swarm keys add 'planner 9a3f… … U…'      take over the line that another agent handed out
  $ swarm keys list`,
    );
  const subcommand = (name: string): Command =>
    command.command(name).showHelpAfterError(`\`swarm keys ${name} --help\` shows how it is used.`);
  make.define(subcommand('new'), invocation);
  show.define(subcommand('show'), invocation);
  add.define(subcommand('add'), invocation);
  list.define(subcommand('list'), invocation);
  revoke.define(subcommand('revoke'), invocation);
  remove.define(subcommand('remove'), invocation);
}
