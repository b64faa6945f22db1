import { existsSync } from 'node:fs';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { connect } from '@nats-io/transport-node';
import { describe, expect, test } from 'vitest';
import { type StartOptions, startNatsServer } from '../../src/server/nats-server.ts';
import { temporaryFolder } from '../support/folder.ts';
import { natsServerPath, testServer, withServer } from '../support/nats.ts';

/** Opens the stream `KEPT` at `url`, publishes one message and returns how many it holds then. */
async function publishOne(url: string): Promise<number> {
  const connection = await connect({ servers: url });
  try {
    const manager = await jetstreamManager(connection);
    await manager.streams.add({ name: 'KEPT', subjects: ['kept'] });
    await jetstream(connection).publish('kept', 'one');
    return (await manager.streams.info('KEPT')).state.messages;
  } finally {
    await connection.close();
  }
}

describe('a local nats-server', () => {
  test('keeps messages from the moment that it is reported ready', async () => {
    await using server = await testServer();
    expect(await publishOne(server.url)).toBe(1);
    expect(server.url).toBe(`nats://127.0.0.1:${server.port}`);
  });

  test('listens on the port that was asked for, and answers over HTTP where that was asked for', async () => {
    const port = await withServer(async (server) => server.port);
    await using server = await testServer({ port, monitorPort: 0 });
    expect(server.port).toBe(port);
    const health = await fetch(`${server.monitorUrl}/healthz?js-enabled-only=true`);
    expect(health.status).toBe(200);
  });

  test('ten at once get ten ports', async () => {
    const servers = await Promise.all(Array.from({ length: 10 }, () => testServer()));
    try {
      expect(new Set(servers.map((server) => server.port)).size).toBe(10);
    } finally {
      await Promise.all(servers.map((server) => server.stop()));
    }
  });

  test('has its own name and obeys its configuration file', async () => {
    await using folder = await temporaryFolder();
    const configFile = join(folder.path, 'nats.conf');
    await writeFile(configFile, 'max_payload: 4242\n');
    await using server = await testServer({ serverName: 'swarm-1', configFile, jetstream: false });
    const connection = await connect({ servers: server.url });
    expect(connection.info).toMatchObject({ server_name: 'swarm-1', max_payload: 4242 });
    expect(connection.info?.jetstream).not.toBe(true);
    await connection.close();
  });

  test('hands over each line of its log', async () => {
    const lines: string[] = [];
    await withServer(async () => {}, { onLog: (line) => lines.push(line) });
    expect(lines.join('\n')).toContain('Server is ready');
    expect(lines.at(-1)).toContain('Server Exiting');
  });
});

describe('the end of a nats-server', () => {
  test('stop ends it cleanly, closes its port and takes the temporary store with it', async () => {
    const server = await testServer();
    expect(existsSync(server.storeDir)).toBe(true);
    await Promise.all([server.stop(), server.stop()]);
    expect(await server.exited).toEqual({ code: 0, signal: null });
    expect(existsSync(server.storeDir)).toBe(false);
    await expect(connect({ servers: server.url, reconnect: false })).rejects.toThrow();
  });

  test('stop leaves a store that was named', async () => {
    await using folder = await temporaryFolder();
    const storeDir = join(folder.path, 'store');
    await withServer((server) => publishOne(server.url), { storeDir });
    await withServer(async (server) => expect(await publishOne(server.url)).toBe(2), { storeDir });
  });

  test('a server that does not listen to reason is killed', async () => {
    await using server = await testServer({ stopWithinMs: 200 });
    server.kill('SIGSTOP'); // a stopped process handles no signal but SIGKILL
    await server.stop();
    expect(await server.exited).toEqual({ code: null, signal: 'SIGKILL' });
  });

  test.each(['SIGKILL', 'SIGTERM'] as const)(
    'after a %s, restart brings back port and messages',
    async (signal) => {
      await using server = await testServer({ monitorPort: 0 });
      const { url, monitorUrl, pid } = server;
      await publishOne(url);
      server.kill(signal);
      await server.exited;
      await server.restart();
      expect(server).toMatchObject({ url, monitorUrl });
      expect(server.pid).not.toBe(pid);
      expect(await publishOne(url)).toBe(2);
    },
  );

  test('restart ends a server that still runs, and refuses one that was stopped', async () => {
    const server = await testServer();
    const first = server.exited;
    await server.restart();
    expect(await first).toEqual({ code: 0, signal: null });
    await server.stop();
    await expect(server.restart()).rejects.toMatchObject({ code: 'SERVER_START' });
  });

  test.each([0, 1, 10, 40, 80])('stop %d ms into a restart leaves no server and no folder', async (ms) => {
    const server = await testServer();
    const { port, storeDir } = server;
    const restarted = server.restart().then(
      () => undefined,
      (failure: unknown) => failure,
    );
    await new Promise((resolve) => setTimeout(resolve, ms));
    await server.stop();
    const failure = await restarted; // unless it was just done
    if (failure !== undefined) expect(failure).toMatchObject({ code: 'SERVER_START' });
    expect(existsSync(dirname(storeDir))).toBe(false);
    const free = createServer().listen(port, '127.0.0.1');
    await new Promise((resolve, reject) => free.once('listening', resolve).once('error', reject));
    await new Promise((resolve) => free.close(resolve));
  });
});

describe('a nats-server that cannot start says so at once, and how to go on', () => {
  const failures: Record<string, { options(folder: string): Promise<StartOptions>; says: RegExp }> = {
    'another nats-server has the port': {
      options: async () => ({ port: (await other()).port }),
      says: /did not start: Error listening on port: 127\.0\.0\.1:\d+.* choose another port/,
    },
    'another nats-server has the port for monitoring': {
      options: async () => ({ monitorPort: (await other()).port }),
      says: /monitor port.* choose another port/,
    },
    'the store cannot be made': {
      options: async (folder) => {
        await writeFile(join(folder, 'file'), '');
        return { storeDir: join(folder, 'file', 'store') };
      },
      says: /cannot start: cannot make the folder .*: ENOTDIR.* choose a folder for its data that can be written/,
    },
    'the store is not a store': {
      options: async (folder) => {
        await writeFile(join(folder, 'jetstream'), '');
        return { storeDir: folder };
      },
      says: /storage directory.*; JetStream must be able to write to \//,
    },
    'the configuration is broken': {
      options: async (folder) => {
        const configFile = join(folder, 'bad.conf');
        await writeFile(configFile, 'streams: {');
        return { configFile };
      },
      says: /Parse error.*; correct \/.*bad\.conf/,
    },
    'an argument is unknown': {
      options: async () => ({ args: ['--nonsense'] }),
      says: /flag provided but not defined: -nonsense; correct the additional arguments/,
    },
    'the program is not there': {
      options: async (folder) => ({ path: join(folder, 'absent') }),
      says: /absent.*; \/.*absent is not a program that runs here/,
    },
    'the program is something else': {
      options: async (folder) => {
        const path = join(folder, 'other');
        await writeFile(path, '#!/bin/sh\nexec sleep 60\n');
        await chmod(path, 0o755);
        return { path, readyWithinMs: 300, stopWithinMs: 300 };
      },
      says: /was not ready within 0\.3 s/,
    },
  };
  let running: Awaited<ReturnType<typeof testServer>> | undefined;
  const other = async (): ReturnType<typeof testServer> => {
    running ??= await testServer({ jetstream: false });
    return running;
  };

  test.each(Object.entries(failures))('when %s', async (_, { options, says }) => {
    await using folder = await temporaryFolder();
    try {
      const started = startNatsServer({ path: await natsServerPath(), ...(await options(folder.path)) });
      await expect(started).rejects.toMatchObject({
        code: 'SERVER_START',
        message: expect.stringMatching(says),
      });
    } finally {
      await running?.stop();
      running = undefined;
    }
  });

  test('when another one is at work in the store, but not once that one has stopped', async () => {
    await using folder = await temporaryFolder();
    const storeDir = join(folder.path, 'store');
    await mkdir(storeDir);
    await using first = await testServer({ storeDir });
    await expect(testServer({ storeDir })).rejects.toMatchObject({
      code: 'SERVER_START',
      message: expect.stringContaining(`another one is at work in ${storeDir}`),
    });
    await first.restart(); // its own lock is not in its way
    await first.stop();
    await withServer(async () => {}, { storeDir });
  });

  test('when its port belongs to something that is no NATS server', async () => {
    const stranger = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => stranger.once('listening', resolve));
    const address = stranger.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    try {
      await expect(testServer({ port })).rejects.toThrow('address already in use');
    } finally {
      stranger.close();
    }
  });
});
