/**
 * `swarm keys add`: takes the line that an agent handed out into the keyring.
 */
import { text } from 'node:stream/consumers';
import type { Command } from '@commander-js/extra-typings';
import { loadKey } from '../../agent/self.ts';
import { readSettings, type Settings } from '../../agent/settings.ts';
import { SwarmError } from '../../base/errors.ts';
import { parsePattern } from '../../base/subject.ts';
import { parseHandover, refuseSecrets } from '../../identity/handover.ts';
import { type Keyring, loadKeyring } from '../../identity/keyring.ts';
import { emptyKeyring, updateKeyring, withAgent, withOperator } from '../../identity/keyring-edit.ts';
import type { Invocation } from '../invocation.ts';
import { collect, collectDurable, given } from '../options.ts';
import type { Output } from '../output.ts';
import { printDurables, tellOfBrokerRights } from '../rights.ts';

export function define(command: Command, { out }: Invocation): void {
  command
    .summary("add an agent's public keys to the keyring")
    .description(
      `Add the line that \`swarm keys new\` or \`swarm keys show\` printed: as one argument or as its four words, or from
stdin (-), where several may stand. --publish names everything that the agent may publish on, so for an agent that is
there it replaces what it had; without it a new agent may publish on thread.*.NAME and below, another keeps its rights.
--durable likewise names all durables that it may read at a broker that knows the agents (\`swarm up --secure\`).`,
    )
    .argument('<line...>', 'name record-key checkpoint-key nkey; or - for stdin')
    .option('--publish <pattern>', 'what it may publish on, once for each', collect)
    .option('--durable <name=filter>', 'a durable that it may read, once for each filter', collectDurable)
    .option('--operator', 'it runs `swarm up --secure`, and may create streams and durables')
    .option('--force', 'with --operator: in the place of another agent that is it')
    .option('--rotate', 'the line is a new key of an agent that is there: keep the old one beside it')
    .option('--keyring <file>', 'SWARM_KEYRING, else swarm.keys.json')
    .addHelpText(
      'after',
      `
Examples:
  $ swarm keys add 'listener 9a3f… … U…'
  $ swarm keys add 'listener 9a3f… … U…' --publish 'thread.*.listener' --publish 'thread.*.alerts'
  $ swarm keys add "$(swarm keys show --env boss.env)" --operator
  $ ssh agent@host swarm keys show | swarm keys add - --durable 'worker=thread.*.planner'`,
    )
    .action(async (words, options) => {
      const {
        publish,
        durable: durables,
        operator = false,
        force = false,
        rotate = false,
        keyring,
      } = options;
      const patterns = publish?.map(parsePattern);
      const settings = await readSettings(given({ keyring }));
      const lines = await readLines(words);
      await requireNoSecret(lines, settings);
      const handovers = lines.map(parseHandover);
      if (operator && handovers.length > 1) throw new SwarmError('USAGE', 'a swarm has one operator');
      if (force && !operator)
        throw new SwarmError('USAGE', '--force is about who is the operator, and goes with --operator');
      let before: Keyring = emptyKeyring;
      const after = await updateKeyring(settings.keyring, (current) => {
        before = current;
        return handovers.reduce((keyring, { name, ...key }) => {
          const entry = { name, ...given({ publish: patterns, durables }), keys: [key] };
          const changed = withAgent(keyring, entry, { rotate });
          return operator ? withOperator(changed, name, { replace: force }) : changed;
        }, current);
      });
      for (const { name } of handovers) tellOfChange(name, before, after, settings.keyring, out);
    });
}

async function readLines(words: readonly string[]): Promise<readonly string[]> {
  if (words.length !== 1 || words[0] !== '-') return [words.join(' ')];
  const lines = (await text(process.stdin)).split('\n').filter((line) => line.trim() !== '');
  if (lines.length === 0) throw new SwarmError('USAGE', 'there is no line on stdin');
  return lines;
}

/** Throws `KEY_IS_SECRET` where our own secret key is in `lines`, or that of an agent in the keyring or of the line. */
async function requireNoSecret(lines: readonly string[], settings: Settings): Promise<void> {
  // Without a key of our own, and with a keyring that is missing or broken, there is less to know a secret by.
  const own = await loadKey(settings).catch(() => undefined);
  const known = await loadKeyring(settings.keyring).catch(() => undefined);
  for (const line of lines) {
    refuseSecrets(line, (key) => key === own?.key.publicKey || known?.keyring.find(key) !== undefined);
  }
}

function tellOfChange(name: string, before: Keyring, after: Keyring, path: string, out: Output): void {
  const keysIn = (keyring: Keyring): number => keyring.named(name)?.keys.length ?? 0;
  const [had, has] = [rightsIn(before, name), rightsIn(after, name)];
  const lost = had.filter((right) => !has.includes(right));
  const rights = `It may publish on: ${after.named(name)?.publish.join(', ') || 'nothing'}`;
  if (keysIn(before) === 0) out.note(`Added ${name} to ${path}. ${rights}`);
  else if (keysIn(after) > keysIn(before)) out.note(`Added a key to ${name} in ${path}. ${rights}`);
  else if (had.join() !== has.join()) out.note(`Changed what ${name} may do in ${path}. ${rights}`);
  else out.note(`${path} already has ${name} with this key. ${rights}`);
  if (lost.length > 0) out.note(`No longer: ${lost.join(', ')}`);
  tellOfBrokerRights(after, name, out);
  if (before.operator !== undefined && before.operator !== after.operator)
    out.note(`${before.operator} is the operator no longer.`);
}

function rightsIn(keyring: Keyring, name: string): string[] {
  const { publish = [], durables = {} } = keyring.named(name) ?? {};
  return [...publish, ...printDurables(durables), ...(keyring.operator === name ? ['operator'] : [])];
}
