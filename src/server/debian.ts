/**
 * A nats-server from Debian's own packages, without root and without touching the system.
 *
 * Debian 12 has nats-server 2.9, Debian 13 (`trixie`) has 2.10. This asks apt, with folders of its own
 * beside the system's, for trixie's package from the archive that the machine uses anyway, and unpacks it.
 * apt checks Debian's signature on the list of packages and the package's hash in that list, as it does
 * for every package; what the machine's configuration may say to the contrary is overruled here.
 *
 * Everything happens in a temporary folder inside the cache. The last step moves the program into place by
 * one rename of one file: whoever finds it there finds it whole, whatever was killed or ran at the same time.
 */
import { chmod, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { makeFolder } from '../base/durable.ts';
import { messageOf } from '../base/errors.ts';
import { type DebianArchive, parseAptSources } from './apt-sources.ts';
import { run } from './run.ts';
import { isNewEnough, oldestVersion, readVersion } from './version.ts';

const debianKeyring = '/usr/share/keyrings/debian-archive-keyring.gpg';
const temporaryPrefix = '.download-';
const abandonedAfterMs = 60 * 60_000;

export interface DebianDownloadOptions {
  /** The folder that gets `<version>/nats-server`. */
  readonly cache: string;
  /** The release whose package it is to be. @default trixie */
  readonly suite?: string;
  /** Told what is being done, a line at a time. */
  readonly note?: (line: string) => void;
  /** @default process.env */
  readonly env?: NodeJS.ProcessEnv;
  /** Where apt's sources are read from. @default /etc/apt */
  readonly aptFolder?: string;
}

/** Returns a nats-server fetched from Debian into the cache; throws an `Error` that says why there is none. */
export async function downloadFromDebian(
  options: DebianDownloadOptions,
): Promise<{ path: string; version: string }> {
  const { suite = 'trixie', note = () => {}, env = process.env, aptFolder = '/etc/apt' } = options;
  const cache = resolve(options.cache); // apt works in a folder of its own
  const archives = await readDebianArchives(aptFolder);
  if (archives.length === 0) throw new Error(`no Debian archive among the apt sources in ${aptFolder}`);

  await makeFolder(cache);
  await writeFile(join(cache, '.gitignore'), '*\n'); // it may lie in anybody's repository
  await removeAbandoned(cache);
  const temporary = await mkdtemp(join(cache, temporaryPrefix));
  try {
    const failures: string[] = [];
    for (const archive of archives) {
      try {
        return await downloadFrom(archive, { cache, temporary, suite, note, env });
      } catch (failure) {
        failures.push(messageOf(failure));
      }
    }
    throw new Error(failures.join('; '));
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

/** Returns the Debian archives among the apt sources in `aptFolder`, those with Debian's own keyring first. */
async function readDebianArchives(aptFolder: string): Promise<DebianArchive[]> {
  const parts = join(aptFolder, 'sources.list.d');
  const names = await readdir(parts).catch(() => []);
  const files = names.filter((name) => /\.(?:list|sources)$/.test(name)).map((name) => join(parts, name));
  const archives = new Map<string, DebianArchive>();
  for (const file of [join(aptFolder, 'sources.list'), ...files.sort()]) {
    const text = await readFile(file, 'utf8').catch(() => '');
    for (const archive of parseAptSources(file, text)) {
      archives.set(`${archive.uri} ${archive.signedBy ?? ''}`, archive);
    }
  }
  const isOthers = (archive: DebianArchive): boolean =>
    archive.signedBy !== undefined && !basename(archive.signedBy).startsWith('debian-archive-');
  return [...archives.values()].sort((a, b) => Number(isOthers(a)) - Number(isOthers(b)));
}

interface Place {
  readonly cache: string;
  readonly temporary: string;
  readonly suite: string;
  readonly note: (line: string) => void;
  readonly env: NodeJS.ProcessEnv;
}

async function downloadFrom(
  archive: DebianArchive,
  place: Place,
): Promise<{ path: string; version: string }> {
  const folder = await mkdtemp(join(place.temporary, 'apt-'));
  const configuration = await writeAptFolder(folder, archive, place.suite);
  const env = { ...place.env, LC_ALL: 'C' };
  const apt = (...args: string[]): Promise<string> =>
    run('apt-get', ['-c', configuration, '-q', ...args], { cwd: folder, env, timeoutMs: 180_000 });

  place.note(
    `fetching nats-server from Debian ${place.suite} into ${place.cache}, signatures checked by apt`,
  );
  await apt('update');
  await apt('download', 'nats-server');
  const packaged = (await readdir(folder)).find((name) => name.endsWith('.deb'));
  if (packaged === undefined) throw new Error('apt-get download left no package');
  const unpacked = join(folder, 'unpacked');
  await run('dpkg-deb', ['-x', join(folder, packaged), unpacked], { env, timeoutMs: 60_000 });

  const program = join(unpacked, 'usr/sbin/nats-server');
  await chmod(program, 0o755);
  const version = await readVersion(program);
  if (!isNewEnough(version))
    throw new Error(`Debian has ${version}, and ${oldestVersion} or newer is needed`);
  const final = join(place.cache, version);
  await makeFolder(final);
  const path = join(final, 'nats-server');
  await rename(program, path);
  return { path, version };
}

/** Writes what apt needs to work in `folder` alone, and returns the configuration file's path. */
async function writeAptFolder(folder: string, archive: DebianArchive, suite: string): Promise<string> {
  if (folder.includes('"'))
    throw new Error(`apt cannot work in a folder with a quote in its name: ${folder}`);
  for (const part of ['state', 'lists/partial', 'cache/archives/partial']) {
    await makeFolder(join(folder, part));
  }
  const sources = join(folder, 'debian.sources');
  await writeFile(
    sources,
    // `Targets` keeps translations and lists of contents, which may be large, from being fetched too.
    `Types: deb
URIs: ${archive.uri}
Suites: ${suite}
Components: main
Targets: Packages
Signed-By: ${archive.signedBy ?? debianKeyring}
`,
  );
  const configuration = join(folder, 'apt.conf');
  await writeFile(
    configuration,
    // Read after the system's configuration, whose proxies stay and whose hooks, pins and laxness do not.
    `Dir::Etc::sourcelist "${sources}";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "${join(folder, 'state')}";
Dir::State::lists "${join(folder, 'lists')}";
Dir::Cache "${join(folder, 'cache')}";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Default-Release;
APT::Update::Error-Mode "any";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::Languages "none";
Acquire::Retries "2";
${process.getuid?.() === 0 ? 'APT::Sandbox::User "root"; // the _apt user may not be let into this folder\n' : ''}`,
  );
  return configuration;
}

/** Removes temporary folders that a killed download left, once they are too old to belong to a running one. */
async function removeAbandoned(cache: string): Promise<void> {
  for (const name of await readdir(cache)) {
    if (!name.startsWith(temporaryPrefix)) continue;
    const folder = join(cache, name);
    const changed = await stat(folder).catch(() => undefined);
    if (changed === undefined || Date.now() - changed.mtimeMs < abandonedAfterMs) continue;
    await rm(folder, { recursive: true, force: true });
  }
}
