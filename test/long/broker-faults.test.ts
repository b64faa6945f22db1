/**
 * A swarm at work, and what can happen to its processes, its broker, its disks and its clocks. Whatever it was: in the end the
 * log and the stream agree, what was acknowledged is there once, and all of it was handled.
 *
 * On the project's nats-server and on the newest. The moments are random, by the seed that is printed: FAULTS_SEED takes
 * the same ones again, FAULTS_KILLS=1000 kills processes more often, FAULTS_SERVER=2.15 runs on that version alone.
 */
import { randomInt } from 'node:crypto';
import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, describe, expect, test } from 'vitest';
import { equipServers } from '../../src/cli/equipping.ts';
import { configureServers } from '../../src/server/configuration.ts';
import {
  clusterOfOne,
  type NatsCluster,
  placesOfCluster,
  startNatsCluster,
} from '../../src/server/nats-cluster.ts';
import { type NatsServer, startNatsServer } from '../../src/server/nats-server.ts';
import { bundle } from '../support/bundle.ts';
import { chance } from '../support/chance.ts';
import { temporaryFolder } from '../support/folder.ts';
import { type TestedServer, testedServers } from '../support/servers.ts';
import { clockIn, type SetClock } from '../support/set-clock.ts';
import { canMount, type SmallDisk, smallDisk } from '../support/small-disk.ts';
import { SwarmAtWork, stream, until, type Worker } from '../support/swarm-at-work.ts';

const seed = Number(process.env.FAULTS_SEED ?? randomInt(1_000_000));
const kills = Number(process.env.FAULTS_KILLS ?? 50);
const servers = (await testedServers()).filter(({ version }) =>
  version.startsWith(process.env.FAULTS_SERVER ?? ''),
);
const programs = await bundle('test/fixtures/talker.ts', 'test/fixtures/hearer.ts');
afterAll(() => programs[Symbol.dispose]());

interface Scene {
  readonly swarm: SwarmAtWork;
  readonly cluster: NatsCluster;
  /** The only server, or the first. */
  readonly server: NatsServer;
  readonly disk: SmallDisk;
  readonly clock: SetClock;
  /** Returns a random number, at most `most`. */
  upTo(most: number): number;
  /** Waits for a random time, at most so many ms. */
  moment(atMostMs: number): Promise<void>;
}

interface Fault {
  readonly strike: (scene: Scene) => Promise<void>;
  /** How many servers. @default 1 */
  readonly servers?: number;
  /** What is on a small disk of its own. */
  readonly small?: 'log' | 'store';
  /** Whether the agents live by a clock that is set. */
  readonly clock?: true;
  /** With which codes publishes may fail. @default none */
  readonly refuses?: readonly string[];
  /** See `AtWorkOptions`. */
  readonly pauseMs?: number;
  /** Whether the broker loses what it acknowledged, and it takes `swarm reconcile --resend` afterwards. */
  readonly loses?: true;
}

/** So slow that joining looks far enough back however often it is killed: docs/reconcile.md. */
const pauseMs = 40;

/** Kills `worker` again and again, while it joins, while it works, and while the broker does not answer. */
async function killAtRandom({ server, upTo, moment }: Scene, worker: Worker): Promise<void> {
  for (let kill = 0; kill < kills; kill += 1) {
    if (upTo(1) < 0.7) await worker.ready();
    await moment(400);
    const isStalled = upTo(1) < 0.5; // which leaves more between the log and the acknowledgement
    if (isStalled) {
      server.kill('SIGSTOP');
      await moment(60);
    }
    await worker.kill();
    if (isStalled) server.kill('SIGCONT');
    worker.start();
  }
  await worker.ready();
}

async function kill(server: NatsServer): Promise<void> {
  server.kill('SIGKILL');
  await server.exited;
}

const freshForMs = 15_000;

const stalledFor = (seconds: number): Fault => ({
  pauseMs,
  // What is still fresh is sent again; else the stream is searched, in which a busy machine may fail: docs/architecture.md.
  refuses: seconds * 1_000 < freshForMs ? [] : ['BUS_UNCONFIRMED'],
  strike: async ({ server, swarm }) => {
    server.kill('SIGSTOP');
    await sleep(seconds * 1_000);
    server.kill('SIGCONT');
    await swarm.says(300);
  },
});

const busy: Readonly<Record<string, Fault>> = {
  [`a talker killed at ${kills} random moments`]: {
    pauseMs,
    strike: (scene) => killAtRandom(scene, scene.swarm.talker),
  },
  [`a hearer killed at ${kills} random moments`]: {
    pauseMs,
    strike: (scene) => killAtRandom(scene, scene.swarm.hearer),
  },
  'a server killed and started again under load, five times': {
    strike: async ({ server, swarm, moment }) => {
      for (let times = 0; times < 5; times += 1) {
        await moment(1_000);
        await kill(server);
        await moment(500);
        await server.restart();
        await swarm.hears(50);
      }
    },
  },
  'a machine that dies, and with it the newest messages of the stream': {
    loses: true,
    strike: async ({ server, swarm, moment }) => {
      const messages = join(server.storeDir, 'jetstream/$G/streams', stream, 'msgs');
      const copy = join(swarm.place.folder, 'copy-of-messages');
      await kill(server);
      cpSync(messages, copy, { recursive: true });
      await server.restart();
      await swarm.hears(500);
      await moment(2_000);
      await Promise.all([kill(server), swarm.talker.kill()]);
      rmSync(messages, { recursive: true });
      cpSync(copy, messages, { recursive: true });
      await server.restart();
      await swarm.joinOnceMore('talker', { resend: true }); // before anything new is said: docs/reconcile.md
      swarm.talker.start();
      await swarm.says(300);
    },
  },
  'a cluster whose leader is killed under load, twice': {
    servers: 3,
    strike: async ({ cluster, swarm, moment }) => {
      for (let times = 0; times < 2; times += 1) {
        await moment(1_000);
        const leader = await swarm.leader();
        const server = cluster.servers[Number(leader.slice(1)) - 1];
        if (server === undefined) throw new Error(`no server is called ${leader}`);
        await kill(server);
        await swarm.hears(300);
        await server.restart();
        await swarm.replicated();
      }
    },
  },
  'a log whose disk is full': {
    small: 'log',
    refuses: ['LOG_WRITE_FAILED'],
    strike: async ({ disk, swarm, moment }) => {
      for (let times = 0; times < 2; times += 1) {
        await moment(500);
        disk.fill();
        expect(await swarm.talker.ended()).toBe(1);
        // Who has heard everything by then has nothing to write, and does not notice.
        const end = await Promise.race([swarm.hearer.ended(), sleep(10_000, 'nothing to write')]);
        expect([1, 'nothing to write']).toContain(end);
        await swarm.hearer.kill();
        disk.clear();
        swarm.talker.start();
        swarm.hearer.start();
        await swarm.hears(200);
      }
    },
  },
};

const idle: Readonly<Record<string, Fault>> = {
  'a server that stands still for 10 s': stalledFor(10),
  'a server that stands still for 40 s': stalledFor(40),
  'a server whose disk is full': {
    small: 'store',
    refuses: ['BUS_REFUSED'],
    pauseMs,
    loses: true,
    strike: async ({ disk, server, swarm, moment }) => {
      await moment(500);
      disk.fill();
      await sleep(3_000);
      disk.clear();
      await server.restart();
      await swarm.hears(200);
    },
  },
  'clocks set back and forward, by up to half the duplicate window and by more': {
    clock: true,
    refuses: ['BUS_CLOCK'],
    pauseMs,
    strike: async ({ clock, swarm, upTo }) => {
      for (let times = 0; times < 5; times += 1) {
        clock.set((upTo(2) - 1) * 13_000);
        await sleep(1_500);
        await swarm.hears(200);
      }
      expect(swarm.refused()).toEqual([]);
      for (const offsetMs of [60_000, -60_000]) {
        const before = swarm.refused().length;
        clock.set(offsetMs);
        await until('a wrong clock is told', () => swarm.refused().length > before);
        clock.set(0);
        await sleep(1_500);
        await swarm.hears(200);
      }
    },
  },
};

async function startServers(
  { path }: TestedServer,
  { servers: size = 1, small }: Fault,
  folder: string,
  disk: SmallDisk | undefined,
): Promise<NatsCluster> {
  const options = { path, stopWithinMs: 1_000 };
  if (size === 1) {
    const storeDir = join(small === 'store' && disk ? disk.path : folder, 'store');
    return clusterOfOne(await startNatsServer({ ...options, storeDir }));
  }
  const places = await placesOfCluster(join(folder, 'stores'), size);
  const members = configureServers(places, () => ({ heading: ['For a test.'], users: 'anybody' }));
  const cluster = await startNatsCluster(members, options);
  await equipServers(cluster, {}, { stream }, { until: new AbortController().signal, mayRestart: true });
  return cluster;
}

async function withstand(tested: TestedServer, name: string, fault: Fault): Promise<void> {
  const next = chance(seed);
  await using folder = await temporaryFolder();
  await using disk = fault.small && (await smallDisk(128));
  const clock = fault.clock && (await clockIn(folder.path));
  await using cluster = await startServers(tested, fault, folder.path, disk);
  const [server] = cluster.servers;
  await using swarm = await SwarmAtWork.begin(folder.path, cluster, programs, {
    join: { replicas: cluster.servers.length },
    ...(fault.small === 'log' && disk && { logIn: disk.path }),
    ...(clock && { env: clock.env }),
    ...(fault.pauseMs !== undefined && { pauseMs: fault.pauseMs }),
  });
  const upTo = (most: number): number => next() * most;
  const moment = (atMostMs: number): Promise<void> => sleep(upTo(atMostMs));
  const scene = { swarm, cluster, server, disk, clock, upTo, moment } as Scene; // each fault has what it asks for
  await fault.strike(scene);
  await swarm.finish({ resend: fault.loses ?? false });
  const { refuses = [] } = fault;
  expect(swarm.refused().filter((code) => !refuses.includes(code))).toEqual([]);
  const counts = await swarm.expectPromisesKept(fault);
  console.log(`${tested.version}, ${name}: FAULTS_SEED=${seed} ${JSON.stringify(counts)}`);
}

for (const tested of servers) {
  describe.skipIf(tested.isMissing)(`nats-server ${tested.version}`, () => {
    for (const [name, fault] of Object.entries(busy)) {
      test.skipIf(fault.small !== undefined && !canMount)(
        `${name}: nothing is lost, and nothing is there twice`,
        () => withstand(tested, name, fault),
      );
    }
  });
}

// Mostly they wait.
describe.concurrent('at the same time', () => {
  for (const tested of servers) {
    for (const [name, fault] of Object.entries(idle)) {
      test.skipIf(tested.isMissing || (fault.small !== undefined && !canMount))(
        `nats-server ${tested.version}, ${name}: nothing is lost, and nothing is there twice`,
        () => withstand(tested, name, fault),
      );
    }
  }
});
