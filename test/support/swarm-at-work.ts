/**
 * A swarm at work, to be disturbed: real servers, an agent that talks and one that hears, each a process, on one log. And
 * what must hold of it afterwards, whatever was done to it: `expectPromisesKept`.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { StreamInfo } from '@nats-io/jetstream';
import { expect } from 'vitest';
import { parseEnvelope } from '../../src/agent/envelope.ts';
import { reconcile } from '../../src/agent/reconcile.ts';
import type { SwarmOptions } from '../../src/agent/swarm.ts';
import { messagesResent } from '../../src/base/events.ts';
import { type Bus, connectBus } from '../../src/bus/connection.ts';
import { throughElection } from '../../src/bus/election.ts';
import { awaitQuiet } from '../../src/bus/quiet.ts';
import { readMessages } from '../../src/bus/stored.ts';
import { firstSaidAs } from '../../src/handler/received.ts';
import { loadKeyring } from '../../src/identity/keyring.ts';
import { parseLine } from '../../src/record/line.ts';
import type { SignedRecord } from '../../src/record/signed.ts';
import type { NatsCluster } from '../../src/server/nats-cluster.ts';
import { agentsIn, type Place } from './agents.ts';
import type { Bundles } from './bundle.ts';
import { linesOf } from './log.ts';

export const stream = 'THREADS';
const durable = 'hearer';
const freshForNs = 15_000_000_000n;

export interface AtWorkOptions {
  /** What the agents join with beyond their place. */
  readonly join?: Pick<SwarmOptions, 'replicas'>;
  /** Where the log is, and nothing else is. @default in the folder */
  readonly logIn?: string;
  /** How long the talker waits after each ten messages, in ms. @default 8: a thousand a second */
  readonly pauseMs?: number;
  /** More of the environment, for the agents' processes. */
  readonly env?: Readonly<Record<string, string>>;
}

/** An agent's process, that is killed and started again as often as it takes. */
export class Worker {
  readonly #start: () => ChildProcess;
  #child: ChildProcess | undefined;
  #said = '';
  #ended: Promise<number | null> = Promise.resolve(0);

  constructor(start: () => ChildProcess) {
    this.#start = start;
  }

  start(): void {
    const child = this.#start();
    this.#child = child;
    this.#said = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.#said += text;
      });
    }
    this.#ended = new Promise((resolve) => child.on('close', (code) => resolve(code)));
  }

  /** Resolves once it has joined. */
  async ready(): Promise<void> {
    let hasEnded = false;
    void this.#ended.then(() => {
      hasEnded = true;
    });
    while (!this.#said.includes('ready')) {
      if (hasEnded) throw new Error(`it has ended before it joined: ${this.#said}`);
      await sleep(5);
    }
  }

  /** Resolves with the exit code once it has ended by itself. */
  async ended(): Promise<number | null> {
    return await this.#ended;
  }

  /** What it said, mostly what went wrong. */
  get said(): string {
    return this.#said;
  }

  async kill(): Promise<void> {
    this.#child?.kill('SIGKILL');
    await this.#ended;
  }

  /** Has it leave; throws where it cannot, or had ended before. */
  async stop(): Promise<void> {
    await this.ready();
    const impatience = setTimeout(() => this.#child?.kill('SIGKILL'), 120_000);
    this.#child?.kill('SIGTERM');
    const code = await this.#ended;
    clearTimeout(impatience);
    if (code !== 0) throw new Error(`it ended with ${code}: ${this.#said}`);
  }
}

/** Resolves once `holds` does; throws after two minutes. */
export async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 120_000;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`it does not come to it that ${what}`);
    await sleep(20);
  }
}

/** Returns which servers have the stream, once it has a leader to say so. */
async function clusterOf(bus: Bus): Promise<StreamInfo['cluster']> {
  const info = await throughElection(bus.patience, () => bus.manager.streams.info(stream));
  return info.cluster;
}

export class SwarmAtWork implements AsyncDisposable {
  readonly place: Place;
  readonly talker: Worker;
  readonly hearer: Worker;
  /** Where the agents note what they were told. */
  readonly notes: string;
  readonly #options: AtWorkOptions;
  readonly #url: string;
  #resent = 0;

  private constructor(place: Place, url: string, programs: Bundles, options: AtWorkOptions) {
    this.place = place;
    this.notes = join(place.folder, 'notes');
    this.#url = url;
    this.#options = options;
    mkdirSync(this.notes);
    const worker = (name: string): Worker =>
      new Worker(() => {
        const { folder, log, keyring } = place;
        const state = join(folder, 'sealed');
        const joined = { env: join(folder, `${name}.env`), url, log, keyring, state, ...options.join };
        return spawn(
          process.execPath,
          [programs.of(name), this.notes, JSON.stringify(joined), `${options.pauseMs ?? 8}`],
          {
            stdio: ['ignore', 'pipe', 'pipe'],
            env: { PATH: process.env.PATH, ...options.env },
          },
        );
      });
    this.talker = worker('talker');
    this.hearer = worker('hearer');
  }

  /** Starts both agents in `folder`, and resolves once both are at work. */
  static async begin(
    folder: string,
    { url }: Pick<NatsCluster, 'url'>,
    programs: Bundles,
    options: AtWorkOptions = {},
  ): Promise<SwarmAtWork> {
    const { logIn = join(folder, 'logs') } = options;
    const place = await agentsIn(folder, url, ['talker', 'hearer'], join(logIn, 'swarm.jsonl'));
    const atWork = new SwarmAtWork(place, url, programs, options);
    atWork.talker.start();
    atWork.hearer.start();
    await Promise.all([atWork.talker.ready(), atWork.hearer.ready()]);
    await atWork.hears(100);
    return atWork;
  }

  /** Why publishes failed: the codes. */
  refused(): string[] {
    return this.#notesIn('refused').map((line) => line.split(' ', 1)[0] ?? '');
  }

  /** Resolves once as many more messages were acknowledged. */
  async says(more: number): Promise<void> {
    await this.#grows('acknowledged', more);
  }

  /** Resolves once as many more messages were handled. */
  async hears(more: number): Promise<void> {
    await this.#grows('heard', 2 * more);
  }

  async #grows(name: string, more: number): Promise<void> {
    const wanted = this.#notesIn(name).length + more;
    await until(`${name} goes on`, () => this.#notesIn(name).length >= wanted).catch((cause: unknown) => {
      const said = `talker said ${this.talker.said}, hearer said ${this.hearer.said}`;
      throw new Error(`${(cause as Error).message}: ${said}`, { cause });
    });
  }

  #notesIn(name: string): string[] {
    const path = join(this.notes, name);
    return existsSync(path) ? linesOf(path) : [];
  }

  /** Returns the name of the server that leads the stream; waits until there is one. */
  async leader(): Promise<string> {
    await using bus = await connectBus({ url: this.#url });
    let leader: string | undefined;
    await until('the stream has a leader', async () => {
      leader = (await clusterOf(bus))?.leader;
      return leader !== undefined && leader !== '';
    });
    return leader ?? '';
  }

  /** Resolves once every copy of the stream is as far as its leader. */
  async replicated(): Promise<void> {
    await using bus = await connectBus({ url: this.#url });
    await until('the stream is replicated', async () => {
      const cluster = await clusterOf(bus);
      return cluster?.replicas?.every(({ current, offline }) => current && offline !== true) ?? false;
    });
  }

  /**
   * Lets both agents finish and leave. Each joins once more, and with that sends what its killed processes left. With
   * `resend` also what `swarm reconcile --resend` finds.
   */
  async finish({ resend = false } = {}): Promise<void> {
    await this.talker.stop();
    await this.joinOnceMore('talker', { resend });
    await using bus = await connectBus({ url: this.#url });
    await awaitQuiet(bus, { stream, durables: [durable], withinMs: 120_000 });
    await this.hearer.stop();
    await this.joinOnceMore('hearer', { resend });
  }

  /** Joins as an agent and leaves: with `resend` after `swarm reconcile --resend`, else after what joining sends by itself. */
  async joinOnceMore(name: string, { resend }: { readonly resend: boolean }): Promise<void> {
    const { log } = this.place;
    const failures: string[] = [];
    const stop = messagesResent.subscribe((event) => {
      if (event.log !== log) return;
      failures.push(...event.failures);
      this.#resent += event.resent;
    });
    const swarm = await this.place.join(name, { resend: !resend, ...this.#options.join });
    if (resend) {
      const { resent } = await swarm.reconcile({ resend: true });
      failures.push(...(resent?.failures ?? []));
      this.#resent += resent?.resent ?? 0;
    }
    await swarm.close();
    stop();
    expect(failures.slice(0, 3)).toEqual([]);
  }

  /**
   * Holds log, stream and what the agents noted against each other: the log verifies, `reconcile` is clean, everything
   * acknowledged is logged, and where it was said to be, unless the broker `loses` what it has, everything logged is in the stream once, as itself or said anew, unless a BUS.UNSENT says
   * that it is not, and everything of the talker's was handled, never before its BUS.DELIVER was in the log. Returns counts.
   */
  async expectPromisesKept({ loses = false } = {}): Promise<Record<string, number>> {
    const { place } = this;
    await using bus = await connectBus({ url: this.#url });
    const { keyring } = await loadKeyring(place.keyring);
    expect(await place.verify()).toMatchObject({ findings: [], bad: 0 });
    const report = await reconcile(bus, { log: place.log, stream, keyring });
    const { differences, differenceCounts, counted } = report;
    expect(differences.slice(0, 3), JSON.stringify([...differenceCounts])).toEqual([]);
    expect(counted).toMatchObject({ repeated: 0, underWay: 0, gone: 0, elsewhere: 0 });

    const inStream = new Map<string, number[]>();
    let stale = 0;
    for await (const { seq, headers, timestampNs } of readMessages(bus, { stream, headersOnly: true })) {
      const envelope = parseEnvelope(headers);
      if (envelope.state !== 'well-formed') throw new Error(`a message without a record: ${envelope.state}`);
      const age = timestampNs - envelope.record.header.tsNs;
      if (age > freshForNs || age < -freshForNs) stale += 1;
      else inStream.set(firstOf(envelope.record), [...(inStream.get(firstOf(envelope.record)) ?? []), seq]);
    }
    const records = linesOf(place.log).flatMap((line) => {
      const parsed = parseLine(line);
      return parsed.ok ? [parsed.record] : []; // torn, and named by a LOG.RECOVER, else it would be a finding
    });
    const ofKind = (kind: string): SignedRecord[] => records.filter(({ header }) => header.kind === kind);
    const said = new Map(ofKind('BUS.PUBLISH').map((record) => [firstOf(record), record.header]));
    const unsent = new Set(ofKind('BUS.UNSENT').map((record) => firstOf(record)));
    const isOnce = ([first]: [string, unknown]): boolean =>
      (inStream.get(first)?.length ?? 0) === (unsent.has(first) ? 0 : 1);
    expect([...said].filter((each) => !isOnce(each)).map(([first]) => first)).toEqual([]);
    const acknowledged = this.#notesIn('acknowledged').map((line) => line.split(' '));
    const isThere = ([first = '', seq]: string[]): boolean =>
      inStream.has(first) && said.has(first) && (loses || inStream.get(first)?.[0] === Number(seq));
    expect(acknowledged.filter((each) => !isThere(each))).toEqual([]);

    const heard = this.#notesIn('heard').map((line) => line.split(' '));
    const delivered = new Set<string | undefined>(ofKind('BUS.DELIVER').map(({ leaf }) => leaf));
    const begun = heard.filter(([step]) => step === 'begun');
    expect(begun.filter(([, , leaf, state]) => state !== 'logged' || !delivered.has(leaf))).toEqual([]);
    const done = new Set(heard.flatMap(([step, id]) => (step === 'done' ? [id] : [])));
    const meant = [...said].filter(
      ([first, { subject }]) => subject.endsWith('.talker') && inStream.has(first),
    );
    expect(meant.filter(([first, { signer }]) => !done.has(`${signer}/${first}`))).toEqual([]);
    expect(meant.length).toBeGreaterThan(100);
    return {
      acknowledged: acknowledged.length,
      refused: this.refused().length,
      logged: said.size,
      unsent: unsent.size,
      handlings: begun.length,
      resent: this.#resent,
      stale,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.talker.kill(), this.hearer.kill()]);
  }
}

/** Returns the first leaf of the row of records that `record` is in. */
function firstOf({ leaf, header }: SignedRecord): string {
  return header.meta?.[firstSaidAs] ?? (header.kind === 'BUS.UNSENT' ? (header.cause ?? '') : leaf);
}
