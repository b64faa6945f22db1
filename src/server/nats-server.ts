/**
 * A local nats-server: started on a free port, ready when the promise resolves, and gone when it is stopped.
 *
 * `await using server = await startNatsServer()` is a broker with JetStream and an empty store that lasts for
 * the block. It never outlives this process (tether.ts), and no two of them work in one store: nats-server
 * itself would let them, and each would overwrite what the other keeps.
 */
import type { ChildProcess } from 'node:child_process';
import { type FileHandle, mkdir, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { makeFolder } from '../base/durable.ts';
import { messageOf, SwarmError } from '../base/errors.ts';
import { lockFile } from '../base/file-lock.ts';
import { findNatsServer } from './find.ts';
import { type Addresses, greets, readAddresses } from './ready.ts';
import { describeFailedStart } from './start-failure.ts';
import { globalAccount, type StoreAccount, settleStreams } from './store.ts';
import { spawnTethered } from './tether.ts';

const lockWithinMs = 1_000;

export interface StartOptions {
  /** The program. @default whatever `findNatsServer` finds without fetching anything */
  readonly path?: string;
  /** The port for clients; 0 is a free one. @default 0 */
  readonly port?: number;
  /** The address to listen on. @default 127.0.0.1 */
  readonly host?: string;
  /** The port for monitoring over HTTP; 0 is a free one. @default no monitoring */
  readonly monitorPort?: number;
  /** Whether JetStream is on; `configured` if the configuration file says so, with `storeDir`. @default true */
  readonly jetstream?: boolean | 'configured';
  /** Where JetStream keeps its data. @default a temporary folder, removed by `stop` */
  readonly storeDir?: string;
  /** Which account of the store has the streams. @default the global one, of a server that stands alone */
  readonly store?: { readonly account: StoreAccount; readonly isClustered: boolean };
  readonly serverName?: string;
  /** A configuration file; the options here go before what it says. */
  readonly configFile?: string;
  /** Writes that file. Called before each start, when no other server can be at work in the store. @default it is there */
  readonly writeConfigFile?: () => Promise<void>;
  /** More arguments; they go before everything else. */
  readonly args?: readonly string[];
  /** Told each line that the server logs. */
  readonly onLog?: (line: string) => void;
  /** The longest to wait until it is ready. A large store takes its time. @default 60,000 */
  readonly readyWithinMs?: number;
  /** The longest to wait for a clean end before it is killed. @default 10,000 */
  readonly stopWithinMs?: number;
}

/** How a server ended. Both are `null` if it never ran. */
export interface ServerExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** A running nats-server. */
export interface NatsServer extends AsyncDisposable {
  /** For clients, as in `nats://127.0.0.1:4222`. Stays the same through `restart`. */
  readonly url: string;
  readonly port: number;
  /** For monitoring, as in `http://127.0.0.1:8222`, if that was asked for. */
  readonly monitorUrl: string | undefined;
  readonly pid: number;
  readonly storeDir: string;
  /** Resolves when the process that runs now has ended, for whatever reason. */
  readonly exited: Promise<ServerExit>;
  /** Sends the process a signal and waits for nothing. */
  kill(signal: NodeJS.Signals): void;
  /** Runs it again on the same ports and store, having ended it cleanly if it still runs; throws `SERVER_START`. */
  restart(): Promise<void>;
  /** Ends it, cleanly if it can be, and resolves when the process is gone and a temporary store removed. */
  stop(): Promise<void>;
}

/** Returns a server that accepts connections; throws `SERVER_START` with its last words, or `SERVER_NOT_FOUND`. */
export async function startNatsServer(options: StartOptions = {}): Promise<NatsServer> {
  const path = options.path ?? (await findNatsServer()).path;
  const temporary = await mkdtemp(join(tmpdir(), 'can-swarm-nats-'));
  const server = new LocalServer(path, temporary, options);
  try {
    await server.start();
    return server;
  } catch (failure) {
    await server.stop();
    throw failure;
  }
}

interface Running extends Addresses {
  readonly child: ChildProcess;
  readonly pid: number;
  readonly exited: Promise<ServerExit>;
}

const linesKept = 12;

class LocalServer implements NatsServer {
  readonly storeDir: string;
  readonly #path: string;
  readonly #temporary: string;
  readonly #options: StartOptions;
  #running: Running | undefined;
  #latest: { child: ChildProcess; exited: Promise<ServerExit> } | undefined;
  #restarting: Promise<void> | undefined;
  #stopped: Promise<void> | undefined;

  constructor(path: string, temporary: string, options: StartOptions) {
    this.#path = path;
    this.#temporary = temporary;
    this.#options = options;
    this.storeDir = options.storeDir ?? join(temporary, 'store');
  }

  get url(): string {
    return this.#run.url;
  }

  get port(): number {
    return Number(new URL(this.#run.url).port);
  }

  get monitorUrl(): string | undefined {
    return this.#run.monitorUrl;
  }

  get pid(): number {
    return this.#run.pid;
  }

  get exited(): Promise<ServerExit> {
    return this.#run.exited;
  }

  get #run(): Running {
    if (this.#running === undefined) throw new SwarmError('SERVER_START', 'the nats-server did not start');
    return this.#running;
  }

  async start(): Promise<void> {
    const jetstream = this.#options.jetstream ?? true;
    const lock = jetstream === false ? undefined : await this.#lockStore();
    try {
      const { account, isClustered } = this.#options.store ?? { account: globalAccount, isClustered: false };
      if (lock !== undefined) await settleStreams(this.storeDir, account, { isClustered });
      await this.#options.writeConfigFile?.();
      await this.#spawn(jetstream, lock);
    } finally {
      await lock?.close(); // the server has inherited it, and holds it for as long as it runs
    }
  }

  async #spawn(jetstream: boolean | 'configured', lock: FileHandle | undefined): Promise<void> {
    const ports = join(this.#temporary, 'ports');
    await rm(ports, { recursive: true, force: true }); // a killed server leaves its file behind
    await mkdir(ports);

    this.#requireNotStopped(); // from here to #latest in one turn: `stop` ends what is there, or nothing is begun
    const child = spawnTethered(this.#path, this.#arguments(ports, jetstream), lock?.fd);
    const lines: string[] = []; // of stderr: the log, and complaints about arguments, but not the usage after them
    const read = (stream: Readable | null, keep: boolean): void => {
      if (stream === null) return;
      createInterface({ input: stream }).on('line', (line) => {
        if (keep && lines.push(line) > linesKept) lines.shift();
        this.#options.onLog?.(line);
      });
    };
    read(child.stdout, false);
    read(child.stderr, true);
    let ended = false;
    const exited = new Promise<ServerExit>((resolve) => {
      child.on('error', (failure) => lines.push(messageOf(failure)));
      child.on('close', (code, signal) => {
        ended = true;
        resolve({ code, signal });
      });
    });
    this.#latest = { child, exited };

    const { readyWithinMs = 60_000 } = this.#options;
    const deadline = performance.now() + readyWithinMs;
    while (!ended && performance.now() < deadline) {
      const addresses = await readAddresses(ports);
      const leftMs = Math.max(1, deadline - performance.now());
      if (addresses !== undefined && child.pid !== undefined && (await greets(addresses.url, leftMs))) {
        this.#running = { child, pid: child.pid, exited, ...addresses };
        return;
      }
      await Promise.race([exited, sleep(10, undefined, { ref: false })]);
    }
    const late = ended ? undefined : `it was not ready within ${readyWithinMs / 1000} s`;
    await this.#end(child, exited);
    throw new SwarmError(
      'SERVER_START',
      describeFailedStart({
        lines,
        late,
        path: this.#path,
        storeDir: this.storeDir,
        configFile: this.#options.configFile,
      }),
    );
  }

  #arguments(ports: string, jetstream: boolean | 'configured'): string[] {
    const { host = '127.0.0.1', configFile, serverName, args = [] } = this.#options;
    const previous = this.#running;
    const port = previous === undefined ? (this.#options.port ?? 0) : this.port;
    const monitorPort =
      previous?.monitorUrl === undefined
        ? this.#options.monitorPort
        : Number(new URL(previous.monitorUrl).port);
    return [
      ...(configFile === undefined ? [] : ['-c', configFile]),
      ...['-a', host, '-p', portArgument(port), '--ports_file_dir', ports],
      ...(monitorPort === undefined ? [] : ['-m', portArgument(monitorPort)]),
      ...(jetstream === true ? ['-js', '-sd', this.storeDir] : []),
      ...(serverName === undefined ? [] : ['-n', serverName]),
      ...args,
    ];
  }

  /** Returns a lock on the store, or throws `SERVER_START` if another server is at work in it. */
  async #lockStore(): Promise<FileHandle> {
    const path = join(this.storeDir, 'swarm.lock');
    let file: FileHandle;
    try {
      await makeFolder(this.storeDir);
      file = await open(path, 'a');
    } catch (cause) {
      const advice = 'choose a folder for its data that can be written';
      throw new SwarmError('SERVER_START', `nats-server cannot start: ${messageOf(cause)}; ${advice}`, {
        cause,
      });
    }
    if (await lockFile(file.fd, { giveUpMs: lockWithinMs })) return file; // one that ends just now frees it
    await file.close();
    throw new SwarmError(
      'SERVER_START',
      `nats-server cannot start: another one is at work in ${this.storeDir}; stop that one, or choose another folder`,
    );
  }

  kill(signal: NodeJS.Signals): void {
    this.#run.child.kill(signal);
  }

  restart(): Promise<void> {
    const before = this.#restarting ?? Promise.resolve();
    const restarted = before.catch(() => undefined).then(() => this.#restart());
    this.#restarting = restarted;
    return restarted;
  }

  async #restart(): Promise<void> {
    this.#requireNotStopped();
    await this.#end(this.#run.child, this.#run.exited);
    this.#requireNotStopped();
    await this.start();
    this.#requireNotStopped();
  }

  #requireNotStopped(): void {
    if (this.#stopped !== undefined) throw new SwarmError('SERVER_START', 'the nats-server was stopped');
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async #stop(): Promise<void> {
    await null; // #stopped is set before anything else happens
    if (this.#latest !== undefined) await this.#end(this.#latest.child, this.#latest.exited);
    await this.#restarting?.catch(() => undefined); // it begins nothing more; whoever called it hears of it
    await rm(this.#temporary, { recursive: true, force: true, maxRetries: 5 });
  }

  /** Ends the process: SIGINT has nats-server close its store and exit with 0 (SIGTERM the same, with 1). */
  async #end(child: ChildProcess, exited: Promise<ServerExit>): Promise<void> {
    child.kill('SIGINT');
    const impatience = setTimeout(() => child.kill('SIGKILL'), this.#options.stopWithinMs ?? 10_000);
    await exited;
    clearTimeout(impatience);
  }
}

function portArgument(port: number): string {
  return port === 0 ? '-1' : String(port);
}
