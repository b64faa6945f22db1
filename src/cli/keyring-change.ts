/**
 * What the command does to a keyring, beyond adding: the rights of an agent that is there are replaced by those named.
 */
import { parsePattern } from '../base/subject.ts';
import { type AgentEntry, Keyring } from '../identity/keyring.ts';
import { type WithAgentOptions, withAgent } from '../identity/keyring-edit.ts';

/**
 * Returns `keyring` with `entry` in it. Rights that the entry names are then all that the agent has, so that the same
 * command always means the same; without any, a new agent has its default ones and another keeps what it has. Throws
 * what `withAgent` throws of names and keys.
 */
export function withAgentAndRights(
  keyring: Keyring,
  entry: AgentEntry,
  options: WithAgentOptions = {},
): Keyring {
  const present = keyring.file.agents.find(({ name }) => name === entry.name);
  const { publish, ...keys } = entry;
  if (present === undefined || publish === undefined) return withAgent(keyring, entry, options);
  const added = withAgent(keyring, keys, options);
  if (JSON.stringify(publish) === JSON.stringify(present.publish)) return added;
  const agents = added.file.agents.map((agent) =>
    agent.name === entry.name ? { ...agent, publish } : agent,
  );
  return Keyring.from({ ...added.file, agents }, 'the keyring with this change');
}

/** Returns what an agent may publish on, said or not; nothing if it is not in the keyring. */
export function rightsOf(keyring: Keyring, name: string): readonly string[] {
  return keyring.agents.find((agent) => agent.name === name)?.publish ?? [];
}

/** Returns `patterns`, each a subject pattern; throws `SUBJECT_INVALID`. */
export function parsePatterns(patterns: readonly string[] | undefined): readonly string[] | undefined {
  return patterns?.map(parsePattern);
}
