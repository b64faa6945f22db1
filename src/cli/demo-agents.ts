/**
 * The two agents of the demo: keys of their own, made the first time and kept in a folder, and a keyring of just them.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf, SwarmError } from '../base/errors.ts';
import { loadIdentity, saveIdentity } from '../identity/envfile.ts';
import { parseHandover, printHandover } from '../identity/handover.ts';
import { generateKey } from '../identity/key.ts';
import { updateKeyring, withAgent } from '../identity/keyring-edit.ts';

export interface DemoAgents {
  /** The env file of each. */
  readonly planner: string;
  readonly listener: string;
  readonly keyring: string;
  /** Whether their keys were made just now. */
  readonly made: boolean;
}

/** Returns the agents whose files are in `folder`, making what is missing; throws what reading and writing keys throws. */
export async function demoAgentsIn(folder: string): Promise<DemoAgents> {
  const keyring = join(folder, 'swarm.keys.json');
  try {
    const planner = await agentIn(folder, 'planner', keyring);
    const listener = await agentIn(folder, 'listener', keyring);
    return {
      planner: planner.envFile,
      listener: listener.envFile,
      keyring,
      made: planner.made || listener.made,
    };
  } catch (cause) {
    if (!(cause instanceof SwarmError)) throw cause;
    const way = `what is in ${folder} is the demo's alone and can be deleted`;
    throw new SwarmError(cause.code, `${messageOf(cause)} (${way})`, { cause });
  }
}

async function agentIn(
  folder: string,
  name: string,
  keyring: string,
): Promise<{ envFile: string; made: boolean }> {
  const envFile = join(folder, `${name}.env`);
  const made = !existsSync(envFile);
  if (made) await saveIdentity(envFile, generateKey());
  const { key } = await loadIdentity(envFile);
  const { record, checkpoint, nkey } = parseHandover(printHandover(name, key));
  // Where an older key is known by the name, the new one stands beside it.
  await updateKeyring(keyring, (current) =>
    withAgent(current, { name, keys: [{ record, checkpoint, nkey }] }, { rotate: true }),
  );
  return { envFile, made };
}
