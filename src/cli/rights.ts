/**
 * What an agent may do at a broker that knows the agents (`swarm up --secure`), besides publishing, for people.
 */
import type { Keyring } from '../identity/keyring.ts';
import type { Output } from './output.ts';

/** Says which durables the agent of that name has, and that it is the operator; nothing where it is neither. */
export function tellOfBrokerRights(keyring: Keyring, name: string, out: Output): void {
  const durables = printDurables(keyring.named(name)?.durables ?? {});
  if (durables.length > 0) out.note(`Its durables: ${durables.join(', ')}`);
  if (keyring.operator === name) out.note('It is the operator.');
}

/** Returns each durable with its filters, as in `worker=thread.*.planner`. */
export function printDurables(durables: Readonly<Record<string, readonly string[]>>): string[] {
  return Object.entries(durables).flatMap(([name, filters]) => filters.map((filter) => `${name}=${filter}`));
}
