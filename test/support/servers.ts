/** The nats-servers that a test of faults is run on: the one that the project finds, and the newest that Debian has. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf } from '../../src/base/errors.ts';
import { downloadFromDebian } from '../../src/server/debian.ts';
import { projectFolder } from '../../src/server/project.ts';
import { compareVersions, readVersion } from '../../src/server/version.ts';
import { natsServerPath } from './nats.ts';

export interface TestedServer {
  readonly path: string;
  /** As in `2.10.27`; what cannot be had says so, and why. */
  readonly version: string;
  readonly isMissing: boolean;
}

/** Debian's next release. */
const suite = 'forky';

/** Returns the project's own server and the newest one. What cannot be had is said on stderr too. */
export async function testedServers(): Promise<readonly TestedServer[]> {
  const path = await natsServerPath();
  const own = { path, version: await readVersion(path), isMissing: false };
  try {
    const newest = { ...(await newestServer()), isMissing: false };
    return newest.version === own.version ? [own] : [own, newest];
  } catch (failure) {
    const version = `from Debian ${suite}: skipped, because ${messageOf(failure)}`;
    process.stderr.write(`nats-server ${version}\n`);
    return [own, { path: '', version, isMissing: true }];
  }
}

/** Returns the newest server, fetched where it is not there; it has a folder of its own, so that nobody else comes to run it. */
async function newestServer(): Promise<{ readonly path: string; readonly version: string }> {
  const cache = join(projectFolder(), `nats-server-${suite}`);
  const versions = namesIn(cache).filter((name) => /^\d/.test(name));
  const [version] = versions.sort((a, b) => compareVersions(b, a));
  if (version === undefined) return await downloadFromDebian({ cache, suite });
  const path = join(cache, version, 'nats-server');
  return { path, version: await readVersion(path) };
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
