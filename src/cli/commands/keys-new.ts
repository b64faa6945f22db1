/**
 * `swarm keys new`: a key pair into the env file, its public keys into the keyring.
 *
 * What would be refused is refused before anything is written. Between the two files another process may change the
 * keyring; then the pair is there, nothing of it is lost, and the message says how to go on.
 */
import type { Command } from '@commander-js/extra-typings';
import { readSettings } from '../../agent/settings.ts';
import { messageOf, SwarmError } from '../../base/errors.ts';
import { parsePattern } from '../../base/subject.ts';
import { parseAgentName } from '../../identity/agent-name.ts';
import { loadIdentity, pairPresent, readEnvFile, saveIdentity } from '../../identity/envfile.ts';
import { parseHandover, printHandover } from '../../identity/handover.ts';
import { generateKey, type PublicKey } from '../../identity/key.ts';
import { type AgentEntry, type Durables, type Keyring, loadKeyring } from '../../identity/keyring.ts';
import { emptyKeyring, updateKeyring, withAgent, withOperator } from '../../identity/keyring-edit.ts';
import { nameFromEnvFile } from '../agent-file.ts';
import type { Invocation } from '../invocation.ts';
import { collect, collectDurable, given } from '../options.ts';
import { type Output, styled } from '../output.ts';
import { tellOfBrokerRights } from '../rights.ts';

export function define(command: Command, { out }: Invocation): void {
  command
    .summary('make a key pair and add its agent to the keyring')
    .description(
      `Make a key pair: the secret goes into the env file (mode 600), the public keys into the keyring, and the line to
hand to others to stdout. With --force a pair that is there makes way: its file is kept beside the new one, and in the
keyring the new key stands beside the old, so that what was signed before still verifies.`,
    )
    .option('--name <name>', 'the agent (default: that of the env file, as in planner.env, else agent)')
    .option('--env <file>', 'where the pair goes (SWARM_ENV, else .env)')
    .option('--keyring <file>', 'SWARM_KEYRING, else swarm.keys.json')
    .option(
      '--publish <pattern>',
      'what it may publish on, once for each (default: thread.*.NAME and below)',
      collect,
    )
    .option('--durable <name=filter>', 'a durable that it may read, once for each filter', collectDurable)
    .option('--operator', 'it runs `swarm up --secure`, and may create streams and durables')
    .option('--force', 'replace a pair that is there')
    .addHelpText(
      'after',
      `
Examples:
  $ swarm keys new --name planner
  $ swarm keys new --env listener.env --publish 'thread.*.listener' --publish 'thread.*.alerts'
  $ swarm keys new --env boss.env --operator   for \`swarm up --secure\`
  $ swarm keys new --env worker.env --durable 'worker=thread.*.planner'
  $ swarm keys new --force                     a new key for the same agent`,
    )
    .action(async ({ name, env, keyring, publish, durable, operator = false, force = false }) => {
      const settings = await readSettings(given({ env, keyring }));
      const plan = await planFor(
        { name, publish: publish?.map(parsePattern), durables: durable, operator, force },
        settings.envFile,
        settings.keyring,
      );
      await carryOut(plan, settings.envFile, settings.keyring, out);
      if (!settings.envFileNamed && settings.environment.SWARM_SIGNING_SK_B64) {
        out.warn(
          `SWARM_SIGNING_SK_B64 in the environment goes before ${settings.envFile}: unset it to use the new key`,
        );
      }
    });
}

interface Wanted {
  readonly name: string | undefined;
  readonly publish: readonly string[] | undefined;
  readonly durables: Durables | undefined;
  readonly operator: boolean;
  readonly force: boolean;
}

interface Plan {
  readonly key: ReturnType<typeof generateKey>;
  readonly line: string;
  readonly name: string;
  readonly force: boolean;
  /** Whether the key stands beside an older one of the same agent. */
  readonly isRotation: boolean;
  /** Puts the new key into a keyring; throws `KEYRING_CONFLICT`. */
  change(keyring: Keyring): Keyring;
}

/** Returns what is to be done; throws what would stop it half-way. */
async function planFor(wanted: Wanted, envFile: string, keyringFile: string): Promise<Plan> {
  const { force } = wanted;
  const old = await oldKeyIn(envFile, force);
  const keyring = await loadKeyringOrNone(keyringFile);
  const oldName = old && keyring.find(old)?.agent.name;
  const name = parseAgentName(wanted.name ?? oldName ?? nameFromEnvFile(envFile));
  const isRotation = oldName === name;
  if (!isRotation && keyring.named(name) !== undefined) {
    throw new SwarmError(
      'KEYRING_CONFLICT',
      `${keyringFile} already has an agent ${name}, with another key; call this one otherwise (--name)`,
    );
  }
  const key = generateKey();
  const line = printHandover(name, key);
  const { record, checkpoint, nkey } = parseHandover(line);
  const entry: AgentEntry = {
    name,
    ...given({ publish: wanted.publish, durables: wanted.durables }),
    keys: [{ record, checkpoint, nkey }],
  };
  const change = (to: Keyring): Keyring => {
    const changed = withAgent(to, entry, { rotate: isRotation });
    return wanted.operator ? withOperator(changed, name) : changed;
  };
  change(keyring);
  return { key, line, name, force, isRotation, change };
}

/**
 * Returns the public key of the pair in `envFile`, if there is one and it can be read. Throws `KEY_EXISTS` if there is
 * one, readable or not, and `force` is not set.
 */
async function oldKeyIn(envFile: string, force: boolean): Promise<PublicKey | undefined> {
  const values = await readEnvFile(envFile);
  const present = pairPresent(values ?? {}, envFile);
  if (present === undefined) return undefined;
  if (!force) throw present;
  const identity = await loadIdentity(envFile).catch(() => undefined); // what cannot be read can still be replaced
  return identity?.key.publicKey;
}

async function loadKeyringOrNone(path: string): Promise<Keyring> {
  try {
    return (await loadKeyring(path)).keyring;
  } catch (thrown) {
    if (thrown instanceof SwarmError && thrown.code === 'KEYRING_MISSING') return emptyKeyring;
    throw thrown;
  }
}

async function carryOut(plan: Plan, envFile: string, keyringFile: string, out: Output): Promise<void> {
  const { key, line, name, force, isRotation, change } = plan;
  const kept = await saveIdentity(envFile, key, { force });
  out.note(`Wrote a new key pair to ${envFile}. It holds the secret: keep it to yourself, and out of git.`);
  if (kept !== undefined) out.note(`The file as it was is now ${kept}.`);
  let keyring: Keyring;
  try {
    keyring = await updateKeyring(keyringFile, change);
  } catch (cause) {
    throw new SwarmError(
      cause instanceof SwarmError ? cause.code : 'KEYRING_FILE',
      `the key pair is in ${envFile}, but not in the keyring: ${messageOf(cause)}; mend that, then: swarm keys add '${line}'`,
      { cause },
    );
  }
  out.note(
    isRotation
      ? `Added the key to ${name} in ${keyringFile}. Its older keys still count there until \`swarm keys revoke\` ends that.`
      : `Added ${name} to ${keyringFile}. It may publish on: ${keyring.named(name)?.publish.join(', ')}`,
  );
  tellOfBrokerRights(keyring, name, out);
  out.note(styled('dim', 'To hand to others, for their `swarm keys add`:'));
  out.data(line);
}
