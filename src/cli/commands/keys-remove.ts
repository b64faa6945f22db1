/**
 * `swarm keys remove`: takes an agent out of the keyring, as if it had never been there.
 */
import type { Command } from '@commander-js/extra-typings';
import { readSettings } from '../../agent/settings.ts';
import { loadKeyring } from '../../identity/keyring.ts';
import { updateKeyring, withoutAgent } from '../../identity/keyring-edit.ts';
import type { Invocation } from '../invocation.ts';
import { given } from '../options.ts';

export function define(command: Command, { out }: Invocation): void {
  command
    .summary('take an agent out of the keyring')
    .description(
      `Take an agent with all its keys out of the keyring. What it signed before then counts as signed by a stranger
(unknown-key); to keep that and trust nothing new, use \`swarm keys revoke\` instead.`,
    )
    .argument('<name>', 'the agent')
    .option('--keyring <file>', 'SWARM_KEYRING, else swarm.keys.json')
    .addHelpText(
      'after',
      `
Examples:
  $ swarm keys remove listener`,
    )
    .action(async (name, { keyring: path }) => {
      const { keyring } = await readSettings(given({ keyring: path }));
      const before = await loadKeyring(keyring); // from a keyring that is not there, nobody can be removed
      await updateKeyring(keyring, (current) => withoutAgent(current, name));
      out.note(`Removed ${name} from ${keyring}. Its records no longer verify against it.`);
      if (before.keyring.operator === name) {
        out.note('It was the operator: `swarm keys add LINE --operator` names another.');
      }
    });
}
