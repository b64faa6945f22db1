/**
 * `swarm seal`: the tree over a log's lines and a checkpoint over that, by hand.
 *
 * Agents seal as they go; this is for a log that nobody writes any more, or whose last seal failed. It may run beside
 * writers and other sealers: one seal is at work at a time, and writers do not wait for it.
 */
import type { Command } from '@commander-js/extra-typings';
import { checkpointKeyOf, loadKey, loadKnownKeys } from '../../agent/self.ts';
import { readSettings } from '../../agent/settings.ts';
import type { PublicKey } from '../../identity/key.ts';
import type { Keyring } from '../../identity/keyring.ts';
import { writeAllBundles } from '../../log/bundles.ts';
import { sealLog } from '../../log/sealer.ts';
import type { Invocation } from '../invocation.ts';
import { given } from '../options.ts';
import type { Output } from '../output.ts';

export function define(command: Command, { out }: Invocation): void {
  command
    .description(
      `Seal what a log holds, its closed segments included: tiles of the tree over its lines, and a checkpoint signed
with a key that is derived from our own, beside each file. A log that does not extend what was sealed of it is refused.
Each file that was sealed further is named on stdout, with its size and root.`,
    )
    .argument('[log]', 'the log (SWARM_LOG, else logs/swarm.jsonl)')
    .option('--env <file>', 'where our own key is (SWARM_ENV, else .env)')
    .option('--keyring <file>', 'whose checkpoints may be extended (SWARM_KEYRING, else swarm.keys.json)')
    .option('--state <folder>', 'where we remember what we sealed (SWARM_STATE, else .swarm/sealed)')
    .option(
      '--entries',
      'write the entry bundles too, for clients that read the entries of a log from its tree',
    )
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      `
Examples:
  $ swarm seal
  $ swarm seal logs/swarm.jsonl --env planner.env
  $ swarm seal --entries --json | jq -r '.sealed[].root'`,
    )
    .action(async (log, { env, keyring, state, entries, json }) => {
      const settings = await readSettings(given({ log, env, keyring, state }));
      const { key, warnings } = await loadKey(settings);
      for (const warning of warnings) out.warn(warning);
      const ours = checkpointKeyOf(key);
      const known = (await loadKnownKeys(settings))?.keyring;
      warnOfStranger(ours.publicKey, known, settings.keyring, out);
      const seals = await sealLog(settings.log, { key: ours, keyring: known, state: settings.state });
      const bundles = entries === true ? await writeAllBundles(settings.log) : undefined;
      const sealed = seals.map(({ file, checkpoint: { origin, size, root } }) => ({
        file,
        origin,
        size,
        root: root.toString('hex'),
      }));
      if (json === true) out.json({ log: settings.log, sealed, bundles: bundles ?? null });
      else for (const { file, size, root } of sealed) out.data(`${file}  size ${size}  root ${root}`);
      if (sealed.length === 0) out.note(`Nothing is new: all whole lines of ${settings.log} are sealed.`);
      if (bundles !== undefined) out.note(`Wrote ${bundles} entry bundle${bundles === 1 ? '' : 's'}.`);
    });
}

function warnOfStranger(ours: PublicKey, keyring: Keyring | undefined, path: string, out: Output): void {
  if (keyring === undefined || keyring.checkpointKeys.includes(ours)) return;
  out.warn(
    `${path} does not have our checkpoint key ${ours}: who verifies against it takes our checkpoints for nobody's`,
  );
}
