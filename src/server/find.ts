/**
 * A nats-server that will do: the one that was named, one that is installed, one fetched before, or one fetched now.
 *
 * `SWARM_NATS_SERVER` settles it: a path that turns out unusable is an error, because going on to another
 * server would hide it. Everything else is tried in turn, and what was tried is in the error if all of it failed.
 */
import { constants } from 'node:fs';
import { access, readdir, stat } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { messageOf, SwarmError } from '../base/errors.ts';
import { downloadFromDebian } from './debian.ts';
import { projectFolder } from './project.ts';
import { compareVersions, isNewEnough, oldestVersion, readVersion } from './version.ts';

/** A nats-server that runs on this machine and is new enough. */
export interface FoundServer {
  readonly path: string;
  /** As in `2.10.27`. */
  readonly version: string;
  readonly source: 'named' | 'installed' | 'cache' | 'debian';
}

export interface FindOptions {
  /** Fetch one from Debian's packages if there is none yet. @default false */
  readonly download?: boolean;
  /** Told what is passed over and what is fetched, a line at a time. */
  readonly note?: (line: string) => void;
  /** A program that somebody named, and how, as in `--server`: like SWARM_NATS_SERVER, and before it. */
  readonly named?: { readonly path: string; readonly by: string };
  /** Where PATH and SWARM_NATS_SERVER are read. @default process.env */
  readonly env?: NodeJS.ProcessEnv;
  /** The folder whose project keeps the cache. @default the current one */
  readonly from?: string;
  /** Folders to look in after those of PATH. @default where packages put servers, often not on a user's PATH */
  readonly alsoLookIn?: readonly string[];
  /** Where apt's sources are read from. @default /etc/apt */
  readonly aptFolder?: string;
}

const onWindows = process.platform === 'win32';
const programName = onWindows ? 'nats-server.exe' : 'nats-server';
const serverFolders = onWindows
  ? []
  : ['/usr/local/bin', '/usr/local/sbin', '/usr/sbin', '/opt/homebrew/bin'];

/** Returns a nats-server, fetched if `download` allows it; throws `SERVER_NOT_FOUND` with what to type instead. */
export async function findNatsServer(options: FindOptions = {}): Promise<FoundServer> {
  const { env = process.env, note = () => {} } = options;
  const {
    named = env.SWARM_NATS_SERVER ? { path: env.SWARM_NATS_SERVER, by: 'SWARM_NATS_SERVER' } : undefined,
  } = options;
  if (named !== undefined) return useNamed(named);

  const tried: string[] = [];
  const pass = (line: string): void => {
    tried.push(line);
    note(`passing over ${line}`);
  };
  const installed = await findInstalled(env, options.alsoLookIn ?? serverFolders, pass);
  if (installed !== undefined) return installed;
  tried.push('PATH: nothing that will do');

  const cache = join(projectFolder(options.from), 'nats-server');
  const cached = await findCached(cache, pass);
  if (cached !== undefined) return cached;
  tried.push(`${cache}: nothing that will do`);

  if (options.download !== true) throw notFound([...tried, "Debian's packages: not asked to fetch one"]);
  if (process.platform !== 'linux') throw notFound([...tried, "Debian's packages: only for Linux"]);
  try {
    const { aptFolder } = options;
    const fetched = await downloadFromDebian({ cache, note, env, ...(aptFolder ? { aptFolder } : {}) });
    return { ...fetched, source: 'debian' };
  } catch (cause) {
    throw notFound([...tried, `Debian's packages: ${messageOf(cause)}`], cause);
  }
}

async function useNamed({ path, by }: { path: string; by: string }): Promise<FoundServer> {
  try {
    const version = await readVersion(path);
    if (isNewEnough(version)) return { path, version, source: 'named' };
    throw new Error(`it is ${version}, and ${oldestVersion} or newer is needed`);
  } catch (cause) {
    const problem = `${by} names ${path}, which will not do: ${messageOf(cause)}`;
    throw new SwarmError(
      'SERVER_NOT_FOUND',
      `${problem}; correct it, or leave it out to have one looked for`,
      {
        cause,
      },
    );
  }
}

async function findInstalled(
  env: NodeJS.ProcessEnv,
  alsoLookIn: readonly string[],
  pass: (line: string) => void,
): Promise<FoundServer | undefined> {
  const onPath = (env.PATH ?? env.Path ?? '').split(delimiter).filter((folder) => folder !== '');
  for (const folder of new Set([...onPath, ...alsoLookIn])) {
    const path = join(folder, programName);
    if (!(await isProgram(path))) continue;
    const version = await versionOrPass(path, pass);
    if (version !== undefined) return { path, version, source: 'installed' };
  }
  return undefined;
}

async function findCached(cache: string, pass: (line: string) => void): Promise<FoundServer | undefined> {
  const names = await readdir(cache).catch(() => []);
  const versions = names.filter((name) => /^\d/.test(name)).sort((a, b) => compareVersions(b, a));
  for (const name of versions) {
    const path = join(cache, name, programName);
    if (!(await isProgram(path))) continue;
    const version = await versionOrPass(path, pass);
    if (version !== undefined) return { path, version, source: 'cache' };
  }
  return undefined;
}

async function versionOrPass(path: string, pass: (line: string) => void): Promise<string | undefined> {
  try {
    const version = await readVersion(path);
    if (isNewEnough(version)) return version;
    pass(`${path}: it is ${version}, and ${oldestVersion} or newer is needed`);
  } catch (failure) {
    pass(`${path}: ${messageOf(failure)}`);
  }
  return undefined;
}

async function isProgram(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return (await stat(path)).isFile();
  } catch {
    return false;
  }
}

function notFound(tried: readonly string[], cause?: unknown): SwarmError {
  const message = `no nats-server ${oldestVersion} or newer was found; one of these brings one:
  macOS             brew install nats-server
  Windows           winget install NATSAuthors.NATSServer
  Debian, Ubuntu    sudo apt-get install nats-server     (Debian 13, Ubuntu 24.04 or newer)
  with Docker       docker compose up -d nats            (where this project's docker-compose.yml is)
                    docker run -d -p 127.0.0.1:4222:4222 nats:2.10-alpine -js
  any other         set SWARM_NATS_SERVER to the path of the program
It was looked for here:
${tried.map((line) => `  ${line}`).join('\n')}`;
  return new SwarmError('SERVER_NOT_FOUND', message, cause === undefined ? undefined : { cause });
}
