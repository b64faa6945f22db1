/** Agents for tests: each with keys of its own, in one folder, on one broker, with one log. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { checkpointKeyOf } from '../../src/agent/self.ts';
import { joinSwarm, type Swarm, type SwarmOptions } from '../../src/agent/swarm.ts';
import { saveIdentity } from '../../src/identity/envfile.ts';
import { SigningKey } from '../../src/identity/key.ts';
import { loadKeyring } from '../../src/identity/keyring.ts';
import { parseLine } from '../../src/record/line.ts';
import type { SignedRecord } from '../../src/record/signed.ts';
import { type LogReport, type VerifyOptions, verifyLog } from '../../src/verify/verify.ts';
import { linesOf } from './log.ts';

export interface Place {
  readonly folder: string;
  readonly log: string;
  readonly keyring: string;
  readonly keys: Readonly<Record<string, SigningKey>>;
  /** Joins as one of the agents. */
  join(name: string, options?: SwarmOptions): Promise<Swarm>;
  /** Returns the log's records, in order; throws where a line is none. */
  records(): SignedRecord[];
  verify(options?: Omit<VerifyOptions, 'keyring'>): Promise<LogReport>;
}

/** Makes a keyring of `names` in `folder`, whose agents talk over the broker at `url`. */
export async function agentsIn(
  folder: string,
  url: string,
  names: readonly string[],
  log: string = join(folder, 'logs', 'swarm.jsonl'),
): Promise<Place> {
  const keyring = join(folder, 'swarm.keys.json');
  const keys = Object.fromEntries(names.map((name) => [name, SigningKey.generate()]));
  for (const [name, key] of Object.entries(keys)) await saveIdentity(join(folder, `${name}.env`), key);
  const agents = Object.entries(keys).map(([name, key]) => ({
    name,
    keys: [{ record: key.publicKey, checkpoint: checkpointKeyOf(key).publicKey }],
  }));
  writeFileSync(keyring, JSON.stringify({ version: 1, agents }));
  return {
    folder,
    log,
    keyring,
    keys,
    join: (name, options = {}) =>
      joinSwarm({
        env: join(folder, `${name}.env`),
        environment: {},
        url,
        log,
        keyring,
        state: join(folder, 'sealed'),
        ...options,
      }),
    records: () => recordsOf(log),
    verify: async (options = {}) =>
      verifyLog(log, { ...options, keyring: (await loadKeyring(keyring)).keyring }),
  };
}

/** Returns a log's records, in order. */
export function recordsOf(log: string): SignedRecord[] {
  return linesOf(log).map((line) => {
    const parsed = parseLine(line);
    if (!parsed.ok) throw new Error(parsed.detail);
    return parsed.record;
  });
}
