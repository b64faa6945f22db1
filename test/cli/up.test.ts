import { existsSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { greets } from '../../src/server/ready.ts';
import { natsServerPath } from '../support/nats.ts';
import { newFolder, type Running, start, swarm } from './swarm.ts';

async function up(folder: string, ...args: string[]): Promise<Running> {
  return start(folder, ['up', '--server', await natsServerPath(), '--port', '0', ...args]);
}

/** Returns what `up --json` printed once it runs. */
async function factsOf(
  running: Running,
): Promise<{ url: string; monitoring: string | null; store: string; pid: number }> {
  let printed = '';
  running.child.stdout?.on('data', (text: string) => {
    printed += text;
  });
  await running.says('Ctrl-C stops it');
  return JSON.parse(printed);
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

test.concurrent.each(['SIGINT', 'SIGTERM'] as const)(
  'a server runs until %s, with its messages in the store',
  async (signal) => {
    const folder = newFolder();
    const running = await up(folder, '--monitor-port', '0', '--json');
    const { url, monitoring, store, pid } = await factsOf(running);
    expect(await greets(url, 5_000)).toBe(true);
    expect((await fetch(`${monitoring}/healthz?js-enabled-only=true`)).status).toBe(200);
    running.signal(signal);
    const { code, stderr } = await running.ended;
    expect(code).toBe(0);
    expect(stderr).toMatch(
      /is running; Ctrl-C stops it\.\nStopping nats-server…\nStopped\. What it keeps is in the store\.\n$/,
    );
    expect(isAlive(pid)).toBe(false);
    expect(store).toBe('.swarm/jetstream');
    expect(existsSync(join(folder, store, 'jetstream'))).toBe(true);
  },
);

test.concurrent('what a person is told are its addresses and its store', async () => {
  const running = await up(newFolder(), '--no-monitor', '--store', 'kept');
  await running.says('Ctrl-C stops it');
  running.signal('SIGINT');
  expect((await running.ended).stdout).toMatch(/^url {9}nats:\/\/127\.0\.0\.1:\d+\nstore {7}kept\n$/);
});

test.concurrent('a server that dies by itself is an error, with its last words', async () => {
  const running = await up(newFolder(), '--no-monitor', '--json');
  const { pid } = await factsOf(running);
  process.kill(pid, 'SIGKILL');
  expect(await running.ended).toMatchObject({
    code: 3,
    stderr: expect.stringMatching(
      /\nswarm: nats-server ended by itself \(SIGKILL\); its last words:\n {2}\[\d+\] .+\n/,
    ),
  });
});

describe.concurrent('a server that cannot run', () => {
  test.each([
    [
      '--port',
      /^swarm: port \d+ is in use; use what runs there if it is a NATS server, or choose another port with --port/,
    ],
    ['--monitor-port', /^swarm: port \d+ is in use; choose another port for monitoring with --monitor-port/],
  ])('since its %s is taken, names it and the way out', async (option, says) => {
    const other = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => other.once('listening', resolve));
    const address = other.address();
    const port = String(typeof address === 'object' ? address?.port : 0);
    try {
      const running = await up(newFolder(), '--monitor-port', '0', option, port);
      expect(await running.ended).toEqual({ code: 3, stdout: '', stderr: expect.stringMatching(says) });
    } finally {
      other.close();
    }
  });

  test('since the program is none, says which, and who named it', async () => {
    for (const program of ['/absent/nats-server', '/bin/ls']) {
      const { code, stderr } = await swarm(newFolder(), ['up', '--server', program], {
        env: { SWARM_NATS_SERVER: '/somewhere/else' },
      });
      expect(code).toBe(3);
      expect(stderr).toMatch(
        new RegExp(`^swarm: --server names ${program}, which will not do: .*; correct it, or leave it out`),
      );
      expect(stderr).not.toContain('SWARM_NATS_SERVER');
    }
  });

  test('since another one works in its store, names it and the option', async () => {
    const folder = newFolder();
    const first = await up(folder, '--no-monitor');
    await first.says('Ctrl-C stops it');
    const second = await up(folder, '--no-monitor');
    expect(await second.ended).toMatchObject({
      code: 3,
      stderr: expect.stringMatching(
        /^swarm: another nats-server is at work in \.swarm\/jetstream; use that one, or choose another folder with --store\n$/,
      ),
    });
    first.signal('SIGINT');
    await first.ended;
  });

  // There a folder that exists answers as one that does not, and Node's own way to make folders asks for ever.
  test.skipIf(process.platform !== 'linux')('since its store cannot be made, names that', async () => {
    const running = await up(newFolder(), '--no-monitor', '--store', '/proc/x/y');
    expect(await running.ended).toMatchObject({
      code: 3,
      stderr: expect.stringMatching(/^swarm: cannot make the folder \/proc\/x: .*; choose another .*--store/),
    });
  });
});
