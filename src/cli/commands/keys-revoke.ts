/**
 * `swarm keys revoke`: from a place in a log on, a key counts no more.
 *
 * What it signed before goes on verifying. The place is never a time: who has stolen a key chooses what time it claims.
 */
import type { Command } from '@commander-js/extra-typings';
import { readSettings } from '../../agent/settings.ts';
import { parseSha256Hex } from '../../base/encoding.ts';
import { SwarmError } from '../../base/errors.ts';
import { nameGrammar } from '../../base/subject.ts';
import { type PublicKey, parsePublicKey } from '../../identity/key.ts';
import { type Keyring, loadKeyring, type Revocation } from '../../identity/keyring.ts';
import { noAgent, updateKeyring, withRevoked } from '../../identity/keyring-edit.ts';
import { quoted } from '../../identity/quoted.ts';
import type { Invocation } from '../invocation.ts';
import { given, parseCount } from '../options.ts';

export function define(command: Command, { out }: Invocation): void {
  command
    .summary('let a key count no more, from a place in a log on')
    .description(
      `Revoke a key: from a record on (--from), or after the first N records of a log (--log, --size), nothing that it
signs counts any more, checkpoints included. What it signed before still verifies. The place is one in a log and not a
time, for a thief can claim any time. An agent with more than one key that counts is named by the key.`,
    )
    .argument('<name-or-key>', 'the agent, or its record key')
    .option('--from <leaf>', 'the first record that no longer counts: its leaf')
    .option('--log <origin>', "the log, by the first line of its checkpoints: 'swarm/32 hex digits'")
    .option('--size <n>', 'how many records of that log still count', parseCount)
    .option('--keyring <file>', 'SWARM_KEYRING, else swarm.keys.json')
    .option('--force', 'revoke from here on what is revoked from another place on')
    .addHelpText(
      'after',
      `
Examples:
  $ swarm keys revoke listener --from 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
  $ swarm keys revoke listener --log swarm/8b13f3f5391a83844409aec3dba5a7ec --size 1200
  $ swarm verify --json | jq .trees            the files of a log, with their sizes`,
    )
    .action(async (who, { from, log, size, keyring: path, force = false }) => {
      const place = placeOf(from, log, size);
      const settings = await readSettings(given({ keyring: path }));
      await loadKeyring(settings.keyring); // in a keyring that is not there, nobody can be revoked
      let key: PublicKey | undefined;
      const after = await updateKeyring(settings.keyring, (current) => {
        key = keyOf(who, current);
        return withRevoked(current, key, place, { replace: force });
      });
      const name = key && after.find(key)?.agent.name;
      const where =
        'leaf' in place ? `from record ${place.leaf} on` : `after ${place.size} records of ${place.log}`;
      out.note(`Revoked the key ${key} of ${name} in ${settings.keyring}, ${where}.`);
      out.note(
        'Agents read the keyring when they join: who is in the swarm now hears that key until it joins again.',
      );
    });
}

/** Returns the place that the options name; throws `USAGE` unless they name one. */
function placeOf(from: string | undefined, log: string | undefined, size: number | undefined): Revocation {
  if (from !== undefined && log === undefined && size === undefined) {
    const leaf = parseSha256Hex(from);
    if (leaf !== undefined) return { leaf };
    throw new SwarmError(
      'USAGE',
      `not a leaf: ${quoted(from)} (64 lowercase hex digits, as \`swarm pub\` prints it)`,
    );
  }
  if (from === undefined && log !== undefined && size !== undefined) {
    if (/^[^\s+]+\/[0-9a-f]{32}$/.test(log)) return { log, size };
    throw new SwarmError(
      'USAGE',
      `not a log's origin: ${quoted(log)} (a checkpoint's first line, name/32 hex digits)`,
    );
  }
  throw new SwarmError('USAGE', 'from where on? Either --from LEAF, or --log ORIGIN with --size N');
}

/** Returns the record key that `who` names: its own, or that of an agent that has one only, or one only that counts. */
function keyOf(who: string, keyring: Keyring): PublicKey {
  const agent = keyring.named(who);
  if (agent === undefined) {
    if (!nameGrammar.test(who)) return parsePublicKey(who);
    throw noAgent(keyring, who);
  }
  const counting = agent.keys.filter(({ revoked }) => revoked === undefined);
  const [key, ...others] = counting.length === 0 ? agent.keys : counting;
  if (key !== undefined && others.length === 0) return key.record;
  const keys = agent.keys.map(({ record }) => `\n${record}`).join('');
  throw new SwarmError('USAGE', `${who} has more than one key; name the one to revoke:${keys}`);
}
