import type { ChildProcess } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { temporaryFolder } from '../support/folder.ts';
import { natsServerPath, withServer } from '../support/nats.ts';
import { startProgram } from '../support/program.ts';

/** Starts a process that owns a server; resolves to both once the server is ready. */
async function startOwner(
  storeDir: string,
): Promise<{ owner: ChildProcess; pid: number; nextLine(): Promise<string> }> {
  const owner = startProgram('test/server/programs/owner.ts', [await natsServerPath(), storeDir], {
    stdio: ['ignore', 'pipe', 'ignore'],
    env: { ...process.env, TMPDIR: storeDir }, // what a killed owner leaves goes with the test's folder
    detached: true, // a process group of its own, as a shell gives each command
  });
  if (owner.stdout === null) throw new Error('not piped');
  const lines = createInterface({ input: owner.stdout })[Symbol.asyncIterator]();
  const nextLine = async (): Promise<string> => String((await lines.next()).value);
  return { owner, pid: Number(await nextLine()), nextLine };
}

/** Reports whether `pid` still runs; one that has ended and was not waited for does not. */
async function runs(pid: number): Promise<boolean> {
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  const status = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return !/^\d+ \(.*\) Z/.test(status);
}

async function goneWithin(pid: number, ms: number): Promise<boolean> {
  for (const deadline = performance.now() + ms; performance.now() < deadline; await sleep(20)) {
    if (!(await runs(pid))) return true;
  }
  return false;
}

describe.skipIf(process.platform === 'win32')(
  'a nats-server does not outlive the process that started it',
  () => {
    test.each([
      ['is killed', 'SIGKILL'],
      ['calls process.exit', 'SIGTERM'],
      ['throws what nobody catches', 'SIGUSR2'],
    ] as const)('when that process %s', async (_, signal) => {
      await using folder = await temporaryFolder();
      const { owner, pid } = await startOwner(folder.path);
      expect(await runs(pid)).toBe(true);
      owner.kill(signal);
      expect(await goneWithin(pid, 5_000)).toBe(true);
      await withServer(async () => {}, { storeDir: folder.path }); // and its store is free again
    });

    test('and while it does, the store stays locked', async () => {
      await using folder = await temporaryFolder();
      const { owner, pid } = await startOwner(folder.path);
      process.kill(pid, 'SIGSTOP'); // it cannot obey until it is continued
      owner.kill('SIGKILL');
      await sleep(200);
      await expect(withServer(async () => {}, { storeDir: folder.path })).rejects.toThrow(
        /another one is at work/,
      );
      process.kill(pid, 'SIGCONT');
      expect(await goneWithin(pid, 5_000)).toBe(true);
    });

    test('and one that obeys no signal is killed', async () => {
      await using folder = await temporaryFolder();
      const { owner, pid } = await startOwner(folder.path);
      process.kill(pid, 'SIGSTOP');
      owner.kill('SIGKILL');
      expect(await goneWithin(pid, 10_000)).toBe(true);
    });
  },
);

test.skipIf(process.platform === 'win32')(
  "the terminal's Ctrl-C reaches the owner alone, which then stops the server itself",
  async () => {
    await using folder = await temporaryFolder();
    const { owner, nextLine } = await startOwner(folder.path);
    process.kill(-Number(owner.pid), 'SIGINT'); // to the whole group, as a terminal does
    expect(await nextLine()).toBe('it still ran {"code":0,"signal":null} 1');
  },
);
