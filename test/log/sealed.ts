/** What tests of sealed logs share: writers that seal, and what their tree says. */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { SigningKey } from '../../src/identity/key.ts';
import { Keyring } from '../../src/identity/keyring.ts';
import { treeFolderOf } from '../../src/log/files.ts';
import type { SealOptions } from '../../src/log/last-seal.ts';
import type { SealingOptions } from '../../src/log/sealing.ts';
import { openLog } from '../../src/log/writer.ts';
import { type Checkpoint, openCheckpoint } from '../../src/merkle/checkpoint.ts';
import { rootOf } from '../../src/merkle/tree.ts';
import { leafOfLine } from '../../src/record/entry.ts';
import { linesOf, said } from '../support/log.ts';

export function checkpointKey(key: SigningKey): SigningKey {
  return key.derive('can-swarm/checkpoint/v1');
}

/** Returns a keyring of agents with their checkpoint keys, each of which may say everything. */
export function keyringOf(keys: Readonly<Record<string, SigningKey>>): Keyring {
  const agents = Object.entries(keys).map(([name, key]) => ({
    name,
    publish: ['>'],
    keys: [{ record: key.publicKey, checkpoint: checkpointKey(key).publicKey }],
  }));
  return Keyring.from({ version: 1, agents }, 'the keyring of the test');
}

/** Returns how `key` seals the log at `path`; what it remembers is in a folder beside that of the log. */
export function sealOptions(path: string, key: SigningKey, more: Partial<SealingOptions> = {}): SealOptions {
  return { key: checkpointKey(key), state: join(dirname(path), 'remembered'), ...more };
}

/** Appends `count` records, some at a time, to the log at `path`, and seals it with the close. */
export async function writeSealed(
  path: string,
  count: number,
  key: SigningKey,
  more: Partial<SealingOptions> & { readonly rotateBytes?: number } = {},
): Promise<void> {
  const { rotateBytes, ...seal } = more;
  const log = await openLog(path, {
    key,
    ...(rotateBytes !== undefined && { rotateBytes }),
    seal: { ...sealOptions(path, key), ...seal },
  });
  for (let written = 0; written < count; written += 7) {
    const records = Array.from({ length: Math.min(7, count - written) }, (_, index) => {
      return log.append(said(`number ${written + index}`));
    });
    await Promise.all(records);
  }
  await log.close();
}

/** Returns the checkpoint beside `file`, if one of `keys` signed it. */
export function checkpointBeside(file: string, ...keys: SigningKey[]): Checkpoint {
  const text = readFileSync(join(treeFolderOf(file), 'checkpoint'), 'utf8');
  const opened = openCheckpoint(
    text,
    keys.map((key) => checkpointKey(key).publicKey),
  );
  if (!opened.ok) throw new Error(opened.detail);
  return opened.checkpoint;
}

/** Returns the root over the first `size` lines of a file, computed anew. */
export function rootOfLines(file: string, size?: number): string {
  const leaves = linesOf(file)
    .filter((line) => line !== '')
    .slice(0, size)
    .map((line) => Buffer.from(leafOfLine(Buffer.from(line)), 'hex'));
  return rootOf(leaves).toString('hex');
}
