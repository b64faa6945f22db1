/**
 * A TypeScript program of the tests in a process of its own, for what cannot be done in the test's: to be killed.
 */
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { resolve } from 'node:path';

const project = resolve(import.meta.dirname, '../..');

/** Starts the program at `path`, as in `test/server/programs/owner.ts`, with the project as its folder. */
export function startProgram(
  path: string,
  args: readonly string[],
  options: SpawnOptions = {},
): ChildProcess {
  return spawn(process.execPath, ['--import', 'tsx', path, ...args], { cwd: project, ...options });
}
