/**
 * Changing the keyring: pure functions from one `Keyring` to the next, and the one way to change its file.
 *
 * `updateKeyring` reads, changes and writes under the lock of `<path>.lock`, so that of many at once none
 * loses another's entry; the file is replaced whole. A key, once in, is never dropped by adding: its old
 * records must go on verifying, so a new key stands beside it.
 */
import { dirname } from 'node:path';
import { makeFolderDurably, resolveLinks, writeFileDurably } from '../base/durable.ts';
import { messageOf, SwarmError } from '../base/errors.ts';
import type { PublicKey } from './key.ts';
import {
  type AgentEntry,
  Keyring,
  type KeyringKey,
  loadKeyring,
  printKeyring,
  type Revocation,
} from './keyring.ts';
import { openLocked } from './locked-file.ts';
import { quoted } from './quoted.ts';

/** A keyring without an agent. */
export const emptyKeyring: Keyring = Keyring.from({ version: 1, agents: [] }, 'the empty keyring');

export interface WithAgentOptions {
  /** Put a new key beside the ones that an agent of this name has. @default false */
  readonly rotate?: boolean;
}

/**
 * Returns `keyring` with `entry` in it, and `keyring` itself if it is there already. Rights that the entry names, to
 * publish or to durables, are then all that the agent has, so that the same entry always means the same; those that it
 * does not name a new agent has by default and another keeps. Throws `KEYRING_CONFLICT` where the name has another key
 * and `rotate` is not set, where a key is another agent's, and where the entry says otherwise than the keyring of a key
 * that both have; `KEYRING_INVALID` for an entry that no keyring could hold.
 */
export function withAgent(keyring: Keyring, entry: AgentEntry, options: WithAgentOptions = {}): Keyring {
  for (const { record } of entry.keys) {
    const owner = keyring.find(record)?.agent.name;
    if (owner !== undefined && owner !== entry.name) {
      throw new SwarmError('KEYRING_CONFLICT', `the key ${record} is already that of ${owner}`);
    }
  }
  const present = keyring.file.agents.find(({ name }) => name === entry.name);
  if (present === undefined) return withEntries(keyring, [...keyring.file.agents, entry]);
  const added = entry.keys.filter(({ record }) => !present.keys.some((key) => key.record === record));
  if (added.length > 0 && options.rotate !== true) {
    throw new SwarmError(
      'KEYRING_CONFLICT',
      `${entry.name} is already in the keyring with another key; if this is a new key of the same agent, --rotate puts it beside the old one`,
    );
  }
  const kept = present.keys.map((key) => {
    const again = entry.keys.find(({ record }) => record === key.record);
    return again === undefined ? key : merged(entry.name, key, again);
  });
  const { publish, durables } = entry;
  const rights = { ...(publish && { publish }), ...(durables && { durables }) };
  const agent = { ...present, ...rights, keys: [...kept, ...added] };
  if (sameJson(agent, present)) return keyring;
  return withEntries(
    keyring,
    keyring.file.agents.map((other) => (other === present ? agent : other)),
  );
}

/** Returns `key` with what `again` adds to it. */
function merged(name: string, key: KeyringKey, again: KeyringKey): KeyringKey {
  for (const member of ['checkpoint', 'nkey', 'revoked'] as const) {
    if (again[member] !== undefined && key[member] !== undefined && !sameJson(again[member], key[member])) {
      throw new SwarmError(
        'KEYRING_CONFLICT',
        `${name} is already in the keyring with this key and another "${member}"; change it in the file`,
      );
    }
  }
  return { ...key, ...again };
}

/**
 * Returns `keyring` with the agent of that name as its operator. Throws `USAGE` where there is no such agent, and
 * `KEYRING_CONFLICT` where another is the operator and `replace` is not set.
 */
export function withOperator(
  keyring: Keyring,
  name: string,
  { replace = false }: { readonly replace?: boolean } = {},
): Keyring {
  if (keyring.named(name) === undefined) throw noAgent(keyring, name);
  const { operator } = keyring;
  if (operator === name) return keyring;
  if (operator !== undefined && !replace) {
    const way = `\`swarm keys add LINE --operator --force\` puts ${name} in its place`;
    throw new SwarmError('KEYRING_CONFLICT', `${operator} is the operator; ${way}`);
  }
  const { agents, ...rest } = keyring.file;
  return Keyring.from({ ...rest, operator: name, agents }, 'the keyring with this change');
}

/** Returns `keyring` without the agent of that name, and without an operator if it was that; throws `USAGE` where there is none. */
export function withoutAgent(keyring: Keyring, name: string): Keyring {
  const { operator, ...rest } = keyring.file;
  const agents = keyring.file.agents.filter((agent) => agent.name !== name);
  if (agents.length === keyring.file.agents.length) throw noAgent(keyring, name);
  if (operator !== name) return withEntries(keyring, agents);
  return Keyring.from({ ...rest, agents }, 'the keyring with this change');
}

/** Returns the error for a name that is no agent's: it says whose there are. */
export function noAgent(keyring: Keyring, name: string): SwarmError {
  const names = keyring.agents.map((agent) => agent.name).join(', ') || 'nobody';
  return new SwarmError('USAGE', `no agent ${quoted(name)} in the keyring, which has: ${names}`);
}

/**
 * Returns `keyring` with the key `record` revoked from `place` on. Throws `USAGE` where no agent has the key,
 * `KEYRING_CONFLICT` where it is revoked from another place on already and `replace` is not set, and `KEYRING_INVALID`
 * for a place that is none.
 */
export function withRevoked(
  keyring: Keyring,
  record: PublicKey,
  place: Revocation,
  { replace = false }: { readonly replace?: boolean } = {},
): Keyring {
  const known = keyring.find(record);
  if (known === undefined) throw new SwarmError('USAGE', `no agent in the keyring has the key ${record}`);
  const { revoked } = known.key;
  if (sameJson(revoked, place)) return keyring;
  if (revoked !== undefined && !replace) {
    throw new SwarmError(
      'KEYRING_CONFLICT',
      `the key ${record} of ${known.agent.name} is already revoked; --force revokes it from another place on`,
    );
  }
  const agents = keyring.file.agents.map((agent) => ({
    ...agent,
    keys: agent.keys.map((key) => (key.record === record ? { ...key, revoked: place } : key)),
  }));
  return withEntries(keyring, agents);
}

function withEntries(keyring: Keyring, agents: readonly AgentEntry[]): Keyring {
  return Keyring.from({ ...keyring.file, agents }, 'the keyring with this change');
}

function sameJson(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}

/** Writes `keyring` to `path`, whole and durably; its permissions stay, a new one follows the umask. Throws `KEYRING_FILE`. */
export async function saveKeyring(path: string, keyring: Keyring): Promise<void> {
  try {
    const file = await resolveLinks(path); // a link stays a link, and leads to the new file
    await makeFolderDurably(dirname(file));
    await writeFileDurably(file, printKeyring(keyring));
  } catch (cause) {
    throw new SwarmError('KEYRING_FILE', `cannot write the keyring ${path}: ${messageOf(cause)}`, { cause });
  }
}

/**
 * Replaces the keyring in the file at `path`, an empty one where there is none, by what `change` makes of it,
 * and returns that; a `change` that returns its argument writes nothing. Throws what `change` throws,
 * `KEYRING_FILE` and `KEYRING_INVALID`.
 */
export async function updateKeyring(path: string, change: (keyring: Keyring) => Keyring): Promise<Keyring> {
  await using _lock = await lockOf(path);
  const before = await loadKeyring(path)
    .then(({ keyring }) => keyring)
    .catch((thrown: unknown) => {
      if (thrown instanceof SwarmError && thrown.code === 'KEYRING_MISSING') return emptyKeyring;
      throw thrown;
    });
  const after = change(before);
  if (after !== before) await saveKeyring(path, after);
  return after;
}

async function lockOf(path: string): Promise<AsyncDisposable> {
  try {
    const file = await resolveLinks(path); // one lock for the file, whichever link leads to it
    await makeFolderDurably(dirname(file));
    return await openLocked(`${file}.lock`, 'a+', { like: file }); // who may change the keyring may lock it
  } catch (cause) {
    throw new SwarmError('KEYRING_FILE', `cannot lock the keyring ${path}: ${messageOf(cause)}`, { cause });
  }
}
