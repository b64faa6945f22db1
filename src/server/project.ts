/**
 * Where a project keeps what was fetched or made for it and can be fetched or made again: `.swarm`.
 */
import { existsSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';

/** Returns `.swarm` beside the nearest package.json at or above `from`, or in `from` itself where there is none. */
export function projectFolder(from: string = process.cwd()): string {
  const start = resolve(from);
  for (let folder = start; ; folder = dirname(folder)) {
    if (existsSync(join(folder, 'package.json'))) return join(folder, '.swarm');
    if (folder === dirname(folder)) return join(start, '.swarm');
  }
}
