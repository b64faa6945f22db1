/**
 * What an agent is called if nobody says: after its env file.
 */
import { basename } from 'node:path';
import { nameGrammar } from '../base/subject.ts';

/** Returns `planner` for `planner.env` and `.env.planner`, else `agent`. */
export function nameFromEnvFile(path: string): string {
  const name = /^(?:\.env\.(.+)|(.+)\.env)$/.exec(basename(path));
  const found = name?.[1] ?? name?.[2] ?? '';
  return nameGrammar.test(found) ? found : 'agent';
}
