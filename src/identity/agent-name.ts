/** The names of agents: a token of a subject, so that `thread.*.<name>` is a subject pattern. */
import { SwarmError } from '../base/errors.ts';
import { nameGrammar } from '../base/subject.ts';
import { quoted } from './quoted.ts';

/** Returns `text` if it can be an agent's name; throws `USAGE`. */
export function parseAgentName(text: string): string {
  if (nameGrammar.test(text)) return text;
  throw new SwarmError('USAGE', `not an agent's name: ${quoted(text)} (1 to 64 letters, digits, _ and -)`);
}
