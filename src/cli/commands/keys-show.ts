/**
 * `swarm keys show`: the public keys of the agent whose env file this is, on the line that others add.
 */
import type { Command } from '@commander-js/extra-typings';
import { loadKey, loadKnownKeys } from '../../agent/self.ts';
import { readSettings } from '../../agent/settings.ts';
import { SwarmError } from '../../base/errors.ts';
import { printHandover } from '../../identity/handover.ts';
import { nameFromEnvFile } from '../agent-file.ts';
import type { Invocation } from '../invocation.ts';
import { given } from '../options.ts';

export function define(command: Command, { out }: Invocation): void {
  command
    .summary("print the line of an agent's public keys")
    .description(
      `Print the agent's name and public keys on one line: name record-key checkpoint-key nkey. The name is the one that
the keyring has for the key; for a key that it does not have, --name, else that of the env file.`,
    )
    .option('--env <file>', 'where the pair is (SWARM_ENV, else .env)')
    .option('--name <name>', 'the name of an agent that the keyring does not have')
    .option('--keyring <file>', 'SWARM_KEYRING, else swarm.keys.json')
    .addHelpText(
      'after',
      `
Examples:
  $ swarm keys show
  $ swarm keys show --env listener.env | ssh auditor swarm keys add -`,
    )
    .action(async ({ env, name, keyring }) => {
      const settings = await readSettings(given({ env, keyring }));
      const { key, warnings } = await loadKey(settings);
      for (const warning of warnings) out.warn(warning);
      const known = (await loadKnownKeys(settings))?.keyring.find(key.publicKey)?.agent.name;
      if (name !== undefined && known !== undefined && name !== known) {
        throw new SwarmError(
          'USAGE',
          `${settings.keyring} calls the agent with this key ${known}, not ${name}`,
        );
      }
      out.data(printHandover(known ?? name ?? nameFromEnvFile(settings.envFile), key));
    });
}
