/**
 * The agents that a module of the user's exports, to be run by the command.
 */
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { messageOf, SwarmError } from '../base/errors.ts';
import type { DefinedAgent } from '../handler/definition.ts';

/**
 * Returns the agents that the module at `path` exports, under whatever names; only that called `name` where one is asked
 * for. Throws `USAGE` where it cannot be loaded or has no such agent.
 */
export async function agentsOf(path: string, name?: string): Promise<readonly DefinedAgent[]> {
  const exported = await load(path);
  const agents = [...new Set(Object.values(exported).flat().filter(isAgent))];
  const wanted = agents.filter((agent) => name === undefined || agent.name === name);
  if (wanted.length > 0) return wanted;
  const what = agents.length === 0 ? 'no agent' : `only ${agents.map((agent) => agent.name).join(', ')}`;
  throw new SwarmError('USAGE', `${path} exports ${what}; export what \`defineAgent\` returns`);
}

async function load(path: string): Promise<Record<string, unknown>> {
  try {
    return (await import(pathToFileURL(resolve(path)).href)) as Record<string, unknown>;
  } catch (cause) {
    const isTypeScript = (cause as NodeJS.ErrnoException).code === 'ERR_UNKNOWN_FILE_EXTENSION';
    const wayOut = isTypeScript
      ? "; this Node does not run TypeScript by itself: install tsx, and set NODE_OPTIONS='--import tsx'"
      : '';
    throw new SwarmError('USAGE', `cannot load ${path}: ${messageOf(cause)}${wayOut}`, { cause });
  }
}

/** Agents may come from another copy of this package than the command does. */
function isAgent(value: unknown): value is DefinedAgent {
  const { name, durable, begin } = (value ?? {}) as Partial<DefinedAgent>;
  return typeof name === 'string' && typeof durable === 'string' && typeof begin === 'function';
}
