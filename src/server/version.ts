/**
 * Which nats-server this is, asked of the program itself, and whether it is new enough.
 */
import { run } from './run.ts';

/** The oldest nats-server that will do: the first with everything the swarm's streams are configured with. */
export const oldestVersion = '2.10';

/** Returns the version of the nats-server at `path`, as in `2.10.27`; throws an `Error` if it is none or does not run. */
export async function readVersion(path: string): Promise<string> {
  const said = await run(path, ['--version'], { timeoutMs: 10_000 });
  const version = /^nats-server: v?(\d+\.\d+\.[0-9A-Za-z.+-]+)$/m.exec(said)?.[1];
  if (version === undefined) throw new Error('it runs, but does not say that it is a nats-server');
  return version;
}

/** Reports whether `version` is `oldestVersion` or newer. */
export function isNewEnough(version: string): boolean {
  return compareVersions(version, oldestVersion) >= 0;
}

/** Returns a number below, at or above 0 as `a` is older than, as old as, or newer than `b`, by their numbers. */
export function compareVersions(a: string, b: string): number {
  const [left, right] = [numbersOf(a), numbersOf(b)];
  for (let index = 0; index < 3; index++) {
    const difference = (left[index] ?? 0) - (right[index] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

function numbersOf(version: string): number[] {
  return version.split(/[-+]/, 1).flatMap((core) => core.split('.').map(Number));
}
