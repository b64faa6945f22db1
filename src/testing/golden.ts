/**
 * Records a golden log: agents run live, over a nats-server of their own, each with a key pair made for the occasion.
 *
 * Everything happens in a temporary folder. What a regression test needs, the sealed log, its tree and the keyring of
 * public keys, is copied out when it is whole; the secret keys go with the temporary folder.
 */
import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkpointKeyOf } from '../agent/self.ts';
import { joinSwarm, type Swarm } from '../agent/swarm.ts';
import { messageOf, SwarmError } from '../base/errors.ts';
import { connectBus } from '../bus/connection.ts';
import { awaitQuiet } from '../bus/quiet.ts';
import { threadsStream } from '../bus/stream.ts';
import type { DefinedAgent } from '../handler/definition.ts';
import { parseAgentName } from '../identity/agent-name.ts';
import { saveIdentity } from '../identity/envfile.ts';
import { generateKey } from '../identity/key.ts';
import { type AgentEntry, Keyring, printKeyring } from '../identity/keyring.ts';
import { startNatsServer } from '../server/nats-server.ts';

export interface GoldenOptions {
  /** The name of who drives the agents; it may publish everywhere. @default 'driver' */
  readonly driver?: string;
  /** How long the agents have, once the scenario has ended, to handle all that is said, in ms. @default 60000 */
  readonly quietWithinMs?: number;
}

/** What sets the agents going: it publishes through the driver's swarm, and may wait for what it hears there. */
export type Scenario = (driver: Swarm) => Promise<void> | void;

/** Where a golden log is. */
export interface Golden {
  readonly log: string;
  readonly keyring: string;
}

/** The files of a golden log, in its folder. */
const names = { log: 'swarm.jsonl', tree: 'swarm.tlog', keyring: 'swarm.keys.json' } as const;

/**
 * Runs `agents` live while `scenario` speaks to them through the driver's swarm, waits until everything said is handled,
 * and leaves the log, its tree and the keyring in `folder`. Nothing is left there if anything throws.
 *
 * Throws `FILE_FAILED` where one of the files is there already or cannot be written, `NOT_QUIET`, `SERVER_NOT_FOUND`, and
 * what `scenario`, `joinSwarm` and `run` throw.
 */
export async function recordGolden(
  folder: string,
  agents: readonly DefinedAgent[],
  scenario: Scenario,
  options: GoldenOptions = {},
): Promise<Golden> {
  requireVacant(folder);
  const work = await mkdtemp(join(tmpdir(), 'can-swarm-golden-'));
  try {
    await record(work, agents, scenario, options);
    await keep(join(work, 'golden'), folder);
  } finally {
    await rm(work, { recursive: true, force: true, maxRetries: 5 });
  }
  return { log: join(folder, names.log), keyring: join(folder, names.keyring) };
}

function requireVacant(folder: string): void {
  const there = Object.values(names).find((name) => existsSync(join(folder, name)));
  if (there === undefined) return;
  throw new SwarmError(
    'FILE_FAILED',
    `${join(folder, there)} is there already, and a golden log is not overwritten; delete ${folder}, or name another folder`,
  );
}

async function record(
  work: string,
  agents: readonly DefinedAgent[],
  scenario: Scenario,
  { driver: driverName = 'driver', quietWithinMs = 60_000 }: GoldenOptions,
): Promise<void> {
  const golden = join(work, 'golden');
  const keyring = join(golden, names.keyring);
  await mkdir(golden);
  await writeFile(keyring, await makeKeys(work, driverName, agents));
  await using server = await startNatsServer();
  const settings = {
    environment: {},
    url: server.url,
    log: join(golden, names.log),
    keyring,
    state: join(work, 'sealed'),
  };
  const joinAs = (name: string): Promise<Swarm> => joinSwarm({ ...settings, env: join(work, `${name}.env`) });
  await whileRunning(agents, joinAs, async () => {
    await using driver = await joinAs(driverName);
    await scenario(driver);
    await using bus = await connectBus({ url: server.url });
    const durables = agents.map(({ durable }) => durable);
    await awaitQuiet(bus, { stream: threadsStream.name, durables, withinMs: quietWithinMs });
  });
}

/** Does `work` while the agents run, each in a swarm of its own. They leave in reverse, and each seals what is there. */
async function whileRunning(
  [agent, ...others]: readonly DefinedAgent[],
  joinAs: (name: string) => Promise<Swarm>,
  work: () => Promise<void>,
): Promise<void> {
  if (agent === undefined) return await work();
  await using swarm = await joinAs(agent.name);
  await agent.run(swarm);
  await whileRunning(others, joinAs, work);
}

/** Makes a key pair for each, its env file in `folder`, and returns the keyring's text. */
async function makeKeys(folder: string, driver: string, agents: readonly DefinedAgent[]): Promise<string> {
  const everyone = [parseAgentName(driver), ...agents.map(({ name }) => name)];
  const twice = everyone.find((name, at) => everyone.indexOf(name) !== at);
  if (twice !== undefined) {
    throw new SwarmError('USAGE', `two are named ${twice}: the names of the agents and the driver differ`);
  }
  const entries: AgentEntry[] = [];
  for (const name of everyone) {
    const key = generateKey();
    await saveIdentity(join(folder, `${name}.env`), key);
    const keys = [{ record: key.publicKey, checkpoint: checkpointKeyOf(key).publicKey }];
    entries.push({ name, ...(name === driver && { publish: ['thread.>'] }), keys });
  }
  return printKeyring(Keyring.from({ version: 1, agents: entries }, 'the keyring of the golden log'));
}

async function keep(from: string, folder: string): Promise<void> {
  requireVacant(folder);
  try {
    const filter = (file: string): boolean => !file.endsWith('.lock');
    await cp(from, folder, { recursive: true, errorOnExist: true, force: false, filter });
  } catch (cause) {
    throw new SwarmError('FILE_FAILED', `cannot write the golden log to ${folder}: ${messageOf(cause)}`, {
      cause,
    });
  }
}
