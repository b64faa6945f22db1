import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { delimiter, dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type FindOptions, findNatsServer } from '../../src/server/find.ts';
import { temporaryFolder } from '../support/folder.ts';
import { natsServerPath } from '../support/nats.ts';

/** Puts a program at `path` that says `said` when asked for its version. */
async function install(path: string, said = 'nats-server: v2.10.27'): Promise<string> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, `#!/bin/sh\necho '${said}'\n`);
  await chmod(path, 0o755);
  return path;
}

/** Options that see nothing of this machine: only `folders` as PATH, and `from` as the project. */
function only(from: string, folders: readonly string[] = [], env: NodeJS.ProcessEnv = {}): FindOptions {
  const path = folders.map((folder) => join(from, folder)).join(delimiter);
  return { from, alsoLookIn: [], aptFolder: join(from, 'no-apt'), env: { PATH: path, ...env } };
}

describe.skipIf(process.platform === 'win32')('findNatsServer', () => {
  test('reads the version of a real nats-server', async () => {
    const path = await natsServerPath();
    const found = await findNatsServer({ env: { SWARM_NATS_SERVER: path } });
    expect(found).toEqual({ path, version: expect.stringMatching(/^\d+\.\d+\.\d+/), source: 'named' });
  });

  test('takes the one that SWARM_NATS_SERVER names before any other', async () => {
    await using folder = await temporaryFolder();
    await install(join(folder.path, 'bin/nats-server'));
    const path = await install(join(folder.path, 'mine'), 'nats-server: v2.11.0');
    const found = await findNatsServer(only(folder.path, ['bin'], { SWARM_NATS_SERVER: path }));
    expect(found).toEqual({ path, version: '2.11.0', source: 'named' });
  });

  const unusable: Record<string, { make(path: string): Promise<unknown>; says: RegExp }> = {
    'is not there': { make: async () => {}, says: /cannot be run here \(ENOENT\)/ },
    'may not be executed': { make: (path) => writeFile(path, ''), says: /cannot be run here \(EACCES\)/ },
    'is too old': {
      make: (path) => install(path, 'nats-server: v2.9.10'),
      says: /it is 2\.9\.10, and 2\.10 or newer/,
    },
    'is something else': {
      make: (path) => install(path, 'v2.10.1'),
      says: /does not say that it is a nats-server/,
    },
    'is a folder': { make: (path) => mkdir(path), says: /cannot be run here \(EACCES\)/ },
  };
  test.each(Object.entries(unusable))(
    'fails, and does not take another, if the one that SWARM_NATS_SERVER names %s',
    async (_, { make, says }) => {
      await using folder = await temporaryFolder();
      await install(join(folder.path, 'bin/nats-server'));
      const path = join(folder.path, 'named');
      await make(path);
      await expect(
        findNatsServer(only(folder.path, ['bin'], { SWARM_NATS_SERVER: path })),
      ).rejects.toMatchObject({ code: 'SERVER_NOT_FOUND', message: expect.stringMatching(says) });
    },
  );

  test('passes over an old one and a broken one on PATH, says so, and takes the next', async () => {
    await using folder = await temporaryFolder();
    const old = await install(join(folder.path, 'old/nats-server'), 'nats-server: v2.9.10');
    const broken = await install(join(folder.path, 'broken/nats-server'), 'what?');
    const path = await install(join(folder.path, 'good/nats-server'));
    const notes: string[] = [];
    const found = await findNatsServer({
      ...only(folder.path, ['none', 'old', 'broken', 'good']),
      note: (line) => notes.push(line),
    });
    expect(found).toEqual({ path, version: '2.10.27', source: 'installed' });
    expect(notes).toEqual([
      `passing over ${old}: it is 2.9.10, and 2.10 or newer is needed`,
      `passing over ${broken}: it runs, but does not say that it is a nats-server`,
    ]);
  });

  test("looks where packages put servers, even if that is not on the user's PATH", async () => {
    await using folder = await temporaryFolder();
    const path = await install(join(folder.path, 'sbin/nats-server'));
    const options = { ...only(folder.path), alsoLookIn: [join(folder.path, 'sbin')] };
    expect(await findNatsServer(options)).toMatchObject({ path, source: 'installed' });
  });

  test("takes the newest that runs from the project's cache, from any folder of the project", async () => {
    await using folder = await temporaryFolder();
    await writeFile(join(folder.path, 'package.json'), '{}');
    const cache = join(folder.path, '.swarm/nats-server');
    await install(join(cache, '2.10.9/nats-server'), 'nats-server: v2.10.9');
    const path = await install(join(cache, '2.10.27/nats-server'));
    await install(join(cache, '2.11.0/nats-server'), 'half a program');
    await mkdir(join(cache, '2.12.0')); // as a download leaves it that was killed just before the end
    await install(join(cache, '.download-x/nats-server'), 'nats-server: v2.13.0');
    const deep = join(folder.path, 'src/deep');
    await mkdir(deep, { recursive: true });
    expect(await findNatsServer(only(deep))).toEqual({ path, version: '2.10.27', source: 'cache' });
  });

  test('finds what is there in less than a second', async () => {
    const env = { SWARM_NATS_SERVER: await natsServerPath() };
    const tookMs: number[] = [];
    for (let n = 0; n < 5; n += 1) {
      const started = performance.now();
      await findNatsServer({ env });
      tookMs.push(performance.now() - started);
    }
    expect(Math.min(...tookMs)).toBeLessThan(1_000); // the machine may be busy with something else
  });

  test('names what to type, and everything that was tried, if there is none', async () => {
    await using folder = await temporaryFolder();
    const old = await install(join(folder.path, 'old/nats-server'), 'nats-server: v2.9.10');
    const failure: unknown = await findNatsServer(only(folder.path, ['old'])).catch((thrown) => thrown);
    expect(failure).toMatchObject({ code: 'SERVER_NOT_FOUND' });
    for (const part of [
      'brew install nats-server',
      'winget install NATSAuthors.NATSServer',
      'sudo apt-get install nats-server',
      'docker compose up -d nats',
      'docker run -d -p 127.0.0.1:4222:4222 nats:2.10-alpine -js',
      `${old}: it is 2.9.10`,
      join(folder.path, '.swarm/nats-server'),
      'not asked to fetch one',
    ]) {
      expect(String(failure)).toContain(part);
    }
  });

  test.skipIf(process.platform !== 'linux')(
    'says why nothing was fetched where there is no Debian archive or no apt',
    async () => {
      await using folder = await temporaryFolder();
      const options = { ...only(folder.path), download: true };
      await expect(findNatsServer(options)).rejects.toThrow(
        /no Debian archive among the apt sources in .*no-apt/,
      );
      await mkdir(join(folder.path, 'no-apt'));
      await writeFile(join(folder.path, 'no-apt/sources.list'), 'deb file:/nowhere bookworm main\n');
      await expect(findNatsServer(options)).rejects.toThrow('apt-get is not on this machine');
    },
  );
});
