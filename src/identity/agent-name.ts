/** The names of agents: a token of a subject, so that `thread.*.<name>` is a subject pattern. */
import { SwarmError } from '../base/errors.ts';
import { quoted } from './quoted.ts';

export const agentNameGrammar: RegExp = /^[A-Za-z0-9_-]{1,64}$/;

/** Returns `text` if it can be an agent's name; throws `USAGE`. */
export function parseAgentName(text: string): string {
  if (agentNameGrammar.test(text)) return text;
  throw new SwarmError('USAGE', `not an agent's name: ${quoted(text)} (1 to 64 letters, digits, _ and -)`);
}
