/**
 * A Debian archive in a folder, with a package of nats-server, signed by a key of its own.
 *
 * Made with the tools that make real ones (dpkg-deb, gpg), so that apt has everything to check, and no network.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmod, mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

export interface DebianArchive {
  /** What `aptFolder` is to be: sources that name the archive, as under /etc/apt. */
  readonly aptFolder: string;
  /** The signed list of lists, the list of packages, and the package. */
  readonly inRelease: string;
  readonly packages: string;
  readonly package: string;
  /** Signs the archive as it is now with a key that the sources do not name. */
  signAsStranger(): Promise<void>;
}

/** Reports whether this machine has what it takes. */
export async function canMakeArchives(): Promise<boolean> {
  const tools = ['apt-get', 'dpkg-deb', 'gpg', 'gpgconf'].map((tool) => run(tool, ['--version']));
  return (
    process.platform === 'linux' &&
    (await Promise.allSettled(tools)).every(({ status }) => status === 'fulfilled')
  );
}

/** Returns an archive in `folder` whose nats-server is a script that says it is `version`. */
export async function makeDebianArchive(folder: string, version = '2.10.99'): Promise<DebianArchive> {
  const root = join(folder, 'archive');
  const architecture = (await run('dpkg', ['--print-architecture'])).stdout.trim();
  const stem = join(folder, 'package');
  const program = join(stem, 'usr/sbin/nats-server');
  const control = `Package: nats-server\nVersion: ${version}-1\nArchitecture: ${architecture}\nMaintainer: Test <test@example.org>\nDescription: a server\n`;
  await write(program, `#!/bin/sh\necho 'nats-server: v${version}'\n`);
  await chmod(program, 0o755);
  await write(join(stem, 'DEBIAN/control'), control);
  const deb = join(root, 'pool/nats-server.deb');
  await mkdir(dirname(deb), { recursive: true });
  await run('dpkg-deb', ['--root-owner-group', '--build', stem, deb]);

  const { size } = await stat(deb);
  const packages = join(root, `dists/trixie/main/binary-${architecture}/Packages`);
  await write(
    packages,
    `${control}Filename: pool/nats-server.deb\nSize: ${size}\nSHA256: ${await sha256Of(deb)}\n\n`,
  );
  const list = `main/binary-${architecture}/Packages`;
  const release = `Suite: stable
Codename: trixie
Date: ${new Date(Date.now() - 60_000).toUTCString()}
Architectures: ${architecture}
Components: main
SHA256:
 ${await sha256Of(packages)} ${(await stat(packages)).size} ${list}
`;
  const inRelease = join(root, 'dists/trixie/InRelease');
  const keyring = join(folder, 'archive.gpg');
  await sign(release, inRelease, join(folder, 'gpg'), keyring);

  const aptFolder = join(folder, 'apt');
  await write(
    join(aptFolder, 'sources.list.d/archive.sources'),
    `Types: deb\nURIs: file:${root}\nSuites: bookworm\nComponents: main\nSigned-By: ${keyring}\n`,
  );
  return {
    aptFolder,
    inRelease,
    packages,
    package: deb,
    signAsStranger: () => sign(release, inRelease, join(folder, 'gpg2'), join(folder, 'stranger.gpg')),
  };
}

/** Writes `text`, signed by a new key, to `path`, and the public key to `keyring`. */
async function sign(text: string, path: string, home: string, keyring: string): Promise<void> {
  await mkdir(home, { mode: 0o700 });
  const gpg = (...args: string[]): Promise<{ stdout: string }> =>
    run('gpg', ['--homedir', home, '--batch', '--yes', '--quiet', '--passphrase', '', ...args]);
  try {
    await gpg('--quick-generate-key', 'Archive <archive@example.org>', 'ed25519', 'sign', 'never');
    await gpg('--output', keyring, '--export');
    await write(`${home}/Release`, text);
    await gpg('--output', path, '--clearsign', `${home}/Release`);
  } finally {
    await run('gpgconf', ['--homedir', home, '--kill', 'all']); // the agent that gpg started for this folder
  }
}

async function write(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, text);
}

async function sha256Of(path: string): Promise<string> {
  return createHash('sha256')
    .update(await readFile(path))
    .digest('hex');
}
