/** A real nats-server for one test file: on a free port of 127.0.0.1, killed, stopped and restarted at will. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface TestServerOptions {
  /** More lines of nats-server configuration. */
  readonly config?: string;
  /** @default true */
  readonly jetstream?: boolean;
}

export class TestServer implements AsyncDisposable {
  readonly port: number;
  readonly directory: string;
  #process: ChildProcess | undefined;

  constructor(port: number, directory: string) {
    this.port = port;
    this.directory = directory;
  }

  get url(): string {
    return `nats://127.0.0.1:${this.port}`;
  }

  async start(): Promise<void> {
    const program = process.env.SWARM_NATS_SERVER ?? 'nats-server';
    const child = spawn(program, ['-c', join(this.directory, 'server.conf')], { stdio: 'ignore' });
    this.#process = child;
    await once(child, 'spawn');
    while (!(await answers(this.port))) {
      if (child.exitCode !== null) throw new Error(`nats-server ended with ${child.exitCode}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** Sends a signal; resolves when the process is gone, if the signal is one that ends it. */
  async signal(name: 'SIGKILL' | 'SIGSTOP' | 'SIGCONT'): Promise<void> {
    const child = this.#process;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    child.kill(name);
    if (name === 'SIGKILL') await once(child, 'exit');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.signal('SIGKILL');
    await rm(this.directory, { recursive: true, force: true });
  }
}

export async function startServer(options: TestServerOptions = {}): Promise<TestServer> {
  const { config = '', jetstream = true } = options;
  const directory = await mkdtemp(join(tmpdir(), 'bus-test-'));
  const port = await freePort();
  const lines = [
    `listen: "127.0.0.1:${port}"`,
    jetstream ? `jetstream { store_dir: "${directory}/data" }` : '',
    config,
  ];
  await writeFile(join(directory, 'server.conf'), lines.join('\n'));
  const server = new TestServer(port, directory);
  await server.start();
  return server;
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

/** Reports whether a NATS server greets on `port`. */
function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    const finish = (greeted: boolean): void => {
      socket.destroy();
      resolve(greeted);
    };
    socket.once('data', (data) => finish(data.toString().startsWith('INFO')));
    socket.once('error', () => finish(false));
    socket.once('close', () => finish(false));
  });
}
