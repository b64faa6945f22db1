/**
 * A swarm at work, and everything that can happen to its broker, its processes, its disks and its clocks. Whatever it was: in
 * the end the log and the stream agree, what was acknowledged is there once, and all of it was handled.
 *
 * On the project's nats-server and on the newest. The moments are random, by the seed that is printed: FAULTS_SEED takes
 * the same ones again, FAULTS_KILLS=1000 kills processes more often, FAULTS_SERVER=2.15 runs on that version alone.
 */
import { randomInt } from 'node:crypto';
import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, describe, test } from 'vitest';
import { startNatsServer } from '../../src/server/nats-server.ts';
import { bundle } from '../support/bundle.ts';
import { chance } from '../support/chance.ts';
import { temporaryFolder } from '../support/folder.ts';
import { type TestedServer, testedServers } from '../support/servers.ts';
import { SwarmAtWork, type Worker } from '../support/swarm-at-work.ts';

const seed = Number(process.env.FAULTS_SEED ?? randomInt(1_000_000));
const kills = Number(process.env.FAULTS_KILLS ?? 50);
const servers = (await testedServers()).filter(({ version }) =>
  version.startsWith(process.env.FAULTS_SERVER ?? ''),
);
const programs = await bundle('test/fixtures/talker.ts', 'test/fixtures/hearer.ts');
afterAll(() => programs[Symbol.dispose]());

interface Scene {
  readonly swarm: SwarmAtWork;
  /** Waits for a random time, at most so many ms. */
  moment(atMostMs: number): Promise<void>;
  /** Returns true as often as not. */
  maybe(): boolean;
}

interface Fault {
  strike(scene: Scene): Promise<void>;
  /** Whether it takes `swarm reconcile --resend` afterwards. */
  readonly resend?: boolean;
}

/** Kills `worker` again and again, while it joins, while it works, and while the broker does not answer. */
async function killAtRandom({ swarm: { server }, moment, maybe }: Scene, worker: Worker): Promise<void> {
  for (let kill = 0; kill < kills; kill += 1) {
    if (maybe()) await worker.ready();
    await moment(300);
    const isStalled = maybe(); // which leaves more between the log and the acknowledgement
    if (isStalled) server.kill('SIGSTOP');
    await moment(isStalled ? 50 : 0);
    await worker.kill();
    if (isStalled) server.kill('SIGCONT');
    worker.start();
  }
  await worker.ready();
}

const faults: Readonly<Record<string, Fault>> = {
  [`a talker that is killed at ${kills} random moments`]: {
    strike: (scene) => killAtRandom(scene, scene.swarm.talker),
  },
  [`a hearer that is killed at ${kills} random moments`]: {
    strike: (scene) => killAtRandom(scene, scene.swarm.hearer),
  },
  'a server that is killed and started again under load': {
    strike: async ({ swarm, moment }) => {
      for (let kill = 0; kill < 5; kill += 1) {
        await moment(1_000);
        swarm.server.kill('SIGKILL');
        await swarm.server.exited;
        await moment(500);
        await swarm.server.restart();
        await swarm.hears(50);
      }
    },
  },
  'a machine that dies and takes the newest messages of the stream with it': {
    strike: async ({ swarm, moment }) => {
      const { server, place } = swarm;
      const messages = join(server.storeDir, 'jetstream/$G/streams/THREADS/msgs');
      const copy = join(place.folder, 'copy-of-messages');
      server.kill('SIGKILL');
      await server.exited;
      cpSync(messages, copy, { recursive: true });
      await server.restart();
      await swarm.hears(500);
      await moment(2_000);
      server.kill('SIGKILL');
      await Promise.all([server.exited, swarm.talker.kill()]);
      rmSync(messages, { recursive: true });
      cpSync(copy, messages, { recursive: true });
      await server.restart();
      await swarm.joinOnceMore('talker', true); // before anything new is said: docs/reconcile.md
      swarm.talker.start();
      await swarm.talker.ready();
      await swarm.hears(500);
    },
    resend: true,
  },
};

for (const { path, version, isMissing } of servers) {
  describe.skipIf(isMissing)(`nats-server ${version}`, () => {
    test.each(Object.entries(faults))('%s loses nothing, and repeats nothing', async (name, fault) => {
      const next = chance(seed);
      await using folder = await temporaryFolder();
      await using server = await startNatsServer({ path, stopWithinMs: 1_000 });
      await using swarm = await SwarmAtWork.begin(folder.path, [server], programs);
      await fault.strike({
        swarm,
        moment: (atMostMs) => sleep(next() * atMostMs),
        maybe: () => next() < 0.5,
      });
      await swarm.finish({ resend: fault.resend ?? false });
      const counts = await swarm.expectPromisesKept();
      console.log(`${version}, ${name}: FAULTS_SEED=${seed} ${JSON.stringify(counts)}`);
    });
  });
}
