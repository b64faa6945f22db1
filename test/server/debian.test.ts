import { once } from 'node:events';
import { appendFile, mkdir, readdir, readFile, rename, rm, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { type FindOptions, findNatsServer } from '../../src/server/find.ts';
import { canMakeArchives, type DebianArchive, makeDebianArchive } from '../support/debian-archive.ts';
import { temporaryFolder } from '../support/folder.ts';
import { startProgram } from '../support/program.ts';

/** Options to fetch from `archive` into `from`, with no server installed. */
function fetching(from: string, archive: DebianArchive): FindOptions {
  return {
    download: true,
    from,
    aptFolder: archive.aptFolder,
    alsoLookIn: [],
    env: { PATH: process.env.PATH },
  };
}

async function edit(path: string, change: (text: string) => string): Promise<void> {
  await writeFile(path, change(await readFile(path, 'utf8')));
}

describe.skipIf(!(await canMakeArchives()))("a nats-server from Debian's packages", () => {
  test('is fetched once, and found in the cache from then on', async () => {
    await using folder = await temporaryFolder();
    const archive = await makeDebianArchive(folder.path);
    const notes: string[] = [];
    const options = { ...fetching(folder.path, archive), note: (line: string) => notes.push(line) };
    const cache = join(folder.path, '.swarm/nats-server');
    const path = join(cache, '2.10.99/nats-server');
    expect(await findNatsServer(options)).toEqual({ path, version: '2.10.99', source: 'debian' });
    expect(notes).toEqual([
      `fetching nats-server from Debian trixie into ${cache}, signatures checked by apt`,
    ]);
    expect(await readdir(cache)).toEqual(['.gitignore', '2.10.99']);
    await rm(archive.aptFolder, { recursive: true });
    expect(await findNatsServer(options)).toEqual({ path, version: '2.10.99', source: 'cache' });
    expect(notes).toHaveLength(1);
  });

  const attacks: Record<string, { on(archive: DebianArchive): Promise<unknown>; says: RegExp }> = {
    'the archive is signed by a stranger': {
      on: (archive) => archive.signAsStranger(),
      says: /NO_PUBKEY|not signed/,
    },
    'the signature is taken off': {
      on: async ({ inRelease }) => {
        await edit(inRelease, (text) => text.replace(/^[\s\S]*?\n\n/, '').replace(/-----BEGIN[\s\S]*$/, ''));
        await rename(inRelease, inRelease.replace('InRelease', 'Release'));
      },
      says: /does not have a Release file|not signed/,
    },
    'the signed list of lists is changed': {
      on: ({ inRelease }) =>
        edit(inRelease, (text) => text.replace('Components: main', 'Components: main extra')),
      says: /BADSIG|not signed/,
    },
    'the list of packages is changed': {
      on: ({ packages }) => edit(packages, (text) => text.replace('a server', 'a Server')),
      says: /Hash Sum mismatch/,
    },
    'the package is changed': {
      on: (archive) => edit(archive.package, (text) => text.replace('!<arch>', '!<Arch>')),
      says: /Hash Sum mismatch|unexpected size/,
    },
    'the package is longer than it should be': {
      on: (archive) => appendFile(archive.package, 'more'),
      says: /Hash Sum mismatch|unexpected size/,
    },
  };
  test.each(Object.entries(attacks))('is refused if %s', async (_, { on, says }) => {
    await using folder = await temporaryFolder();
    const archive = await makeDebianArchive(folder.path);
    await on(archive);
    const failure: unknown = await findNatsServer(fetching(folder.path, archive)).catch((thrown) => thrown);
    expect(failure).toMatchObject({ code: 'SERVER_NOT_FOUND', message: expect.stringMatching(says) });
    expect(await readdir(join(folder.path, '.swarm/nats-server'))).toEqual(['.gitignore']);
  });

  test('is refused unsigned even on a machine whose apt is told to accept that', async () => {
    await using folder = await temporaryFolder();
    const archive = await makeDebianArchive(folder.path);
    await archive.signAsStranger();
    const lax = join(folder.path, 'lax.conf');
    await writeFile(
      lax,
      'Acquire::AllowInsecureRepositories "true";\nAPT::Get::AllowUnauthenticated "true";\nAPT::Default-Release "bookworm";\n',
    );
    await edit(join(archive.aptFolder, 'sources.list.d/archive.sources'), (text) => `${text}Trusted: yes\n`);
    const options = { ...fetching(folder.path, archive), env: { PATH: process.env.PATH, APT_CONFIG: lax } };
    await expect(findNatsServer(options)).rejects.toThrow(/NO_PUBKEY|not signed/);
  });

  test('leaves alone what the machine does after its own updates', async () => {
    await using folder = await temporaryFolder();
    const archive = await makeDebianArchive(folder.path);
    const hooks = join(folder.path, 'hooks.conf');
    const trace = join(folder.path, 'trace');
    const names = ['Pre-Invoke', 'Post-Invoke', 'Post-Invoke-Success'];
    await writeFile(hooks, names.map((name) => `APT::Update::${name} { "touch ${trace}"; };\n`).join(''));
    const env = { PATH: process.env.PATH, APT_CONFIG: hooks };
    await findNatsServer({ ...fetching(folder.path, archive), env });
    expect(await readdir(folder.path)).not.toContain('trace');
  });

  test('is refused if Debian has only an old one', async () => {
    await using folder = await temporaryFolder();
    const archive = await makeDebianArchive(folder.path, '2.9.10');
    await expect(findNatsServer(fetching(folder.path, archive))).rejects.toThrow(/Debian has 2\.9\.10/);
  });

  test('comes from the next archive if the first does not have it', async () => {
    await using folder = await temporaryFolder();
    const archive = await makeDebianArchive(folder.path);
    await writeFile(join(archive.aptFolder, 'sources.list'), `deb file:${folder.path}/empty bookworm main\n`);
    expect(await findNatsServer(fetching(folder.path, archive))).toMatchObject({ version: '2.10.99' });
  });

  test('is whole for both of two that fetch it at the same time', async () => {
    await using folder = await temporaryFolder();
    const archive = await makeDebianArchive(folder.path);
    const options = fetching(folder.path, archive);
    const found = await Promise.all([findNatsServer(options), findNatsServer(options)]);
    expect(found[0]).toEqual(found[1]);
    expect(await readdir(join(folder.path, '.swarm/nats-server'))).toEqual(['.gitignore', '2.10.99']);
  });

  test('is never half there, whenever the download is killed, and what that left is removed in time', async () => {
    await using folder = await temporaryFolder();
    const archive = await makeDebianArchive(folder.path);
    const options = fetching(folder.path, archive);
    const cache = join(folder.path, '.swarm/nats-server');
    for (let afterMs = 0; afterMs <= 600; afterMs += 60) {
      const child = startProgram('test/server/programs/fetch.ts', [JSON.stringify(options)]);
      const ended = once(child, 'close');
      if (child.stdout !== null) await once(child.stdout, 'data'); // it says that it fetches
      await sleep(afterMs);
      child.kill('SIGKILL');
      await ended;
      const left = await readdir(cache).catch(() => []);
      for (const name of left.filter((entry) => !entry.startsWith('.'))) {
        expect(name).toBe('2.10.99');
      }
      await findNatsServer({ ...options, download: false }).catch((failure: unknown) => {
        expect(failure).toMatchObject({ message: expect.not.stringContaining('2.10.99/nats-server:') });
      });
      await rm(join(cache, '2.10.99'), { recursive: true, force: true });
    }
    const twoHoursAgo = new Date(Date.now() - 2 * 60 * 60_000);
    await mkdir(join(cache, '.download-left'), { recursive: true });
    for (const name of await readdir(cache)) await utimes(join(cache, name), twoHoursAgo, twoHoursAgo);
    expect(await findNatsServer(options)).toMatchObject({ version: '2.10.99' });
    expect(await readdir(cache)).toEqual(['.gitignore', '2.10.99']);
  });
});
