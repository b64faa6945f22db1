/** Real brokers as these tests need them, and what speaks to them. */
import { writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { systemClock } from '../../src/base/clock.ts';
import type { SwarmError } from '../../src/base/errors.ts';
import { busStatus } from '../../src/base/events.ts';
import { parseSubject, type Subject } from '../../src/base/subject.ts';
import type { Bus } from '../../src/bus/connection.ts';
import { encodeHeaders } from '../../src/bus/headers.ts';
import type { Published } from '../../src/bus/publish.ts';
import { Publisher, type PublishOptions } from '../../src/bus/publisher.ts';
import type { SentMessage } from '../../src/bus/read-message.ts';
import { ensureStream, type StreamWanted } from '../../src/bus/stream.ts';
import type { NatsServer, StartOptions } from '../../src/server/nats-server.ts';
import { temporaryFolder } from '../support/folder.ts';
import { testServer } from '../support/nats.ts';

const clock = systemClock();
let last = 0;

/** Returns a number nobody else in this file has. */
export function unique(): number {
  last += 1;
  return last;
}

/** Returns options for a message of its own id that may be sent for `forMs`. */
export function fresh(forMs = 15_000, id = `id-${unique()}`): PublishOptions {
  const forNs = BigInt(forMs) * 1_000_000n;
  return { id, freshFromNs: clock() - 60_000_000_000n, freshUntilNs: clock() + forNs };
}

/** Returns a stream of its own subjects, and a subject of it. */
export async function newStream(
  bus: Bus,
  wanted: Partial<StreamWanted> = {},
): Promise<{ name: string; subject: Subject }> {
  const n = unique();
  const name = `S${n}`;
  await ensureStream(bus, { name, subjects: [`thread.s${n}.>`], ...wanted });
  return { name, subject: parseSubject(`thread.s${n}.planner`) };
}

/** Returns what a publisher sends for a message without further headers. */
export function sentAs(id: string, subject: string, data: string): SentMessage {
  return { subject, headers: encodeHeaders(id, {}), data: Buffer.from(data) };
}

/** Publishes `count` messages, whose payloads count from 0. */
export async function publishMany(
  bus: Bus,
  stream: { name: string; subject: Subject },
  count: number,
): Promise<readonly Published[]> {
  await using publisher = new Publisher(bus, { stream: stream.name });
  return await Promise.all(
    Array.from({ length: count }, (_, n) =>
      publisher.publish(stream.subject, Buffer.from(String(n)), fresh()),
    ),
  );
}

/** Returns what `work` rejected with; fails if it did not. */
export async function failureOf(work: Promise<unknown>): Promise<SwarmError> {
  try {
    await work;
  } catch (thrown) {
    return thrown as SwarmError;
  }
  throw new Error('nothing was rejected');
}

/** Collects what `busStatus` says while `use` runs. */
export async function statusesDuring(
  use: () => Promise<void>,
): Promise<{ status: string; detail: string }[]> {
  const heard: { status: string; detail: string }[] = [];
  const stop = busStatus.subscribe((event) => heard.push(event));
  try {
    await use();
  } finally {
    stop();
  }
  return heard;
}

/** Stops every thread of the server, which takes a moment. */
export async function freeze(server: NatsServer): Promise<void> {
  server.kill('SIGSTOP');
  await new Promise((resolve) => setTimeout(resolve, 50));
}

/** Returns a server with more lines of configuration. */
export async function serverWith(config: string, options: StartOptions = {}): Promise<NatsServer> {
  await using folder = await temporaryFolder();
  const configFile = join(folder.path, 'server.conf');
  await writeFile(configFile, config);
  return await testServer({ ...options, configFile });
}

/** Returns the port of something that sends `greeting` to whoever connects, and answers PING. */
export async function impostor(greeting: string): Promise<{ server: Server; port: number }> {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.on('data', (data) => {
      if (data.includes('PING')) socket.write('PONG\r\n');
    });
    socket.write(greeting);
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return { server, port: address.port };
}
