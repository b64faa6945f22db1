/**
 * Does a NATS server greet at any of these addresses?
 *
 * Asked before the client connects for the first time: it leaves its socket open where a server accepts and
 * then says nothing, and the process cannot end. It also gives one reason where there are many.
 */
import { connect } from 'node:net';
import { messageOf } from '../base/errors.ts';

/** Resolves when the first of `servers` (`host:port`) greets. Rejects with why none of them does. */
export async function awaitGreeting(servers: readonly string[], withinMs: number): Promise<void> {
  const stop = new AbortController();
  try {
    await Promise.any(servers.map((server) => greeted(server, withinMs, stop.signal)));
  } catch (failure) {
    const reasons = failure instanceof AggregateError ? failure.errors : [failure];
    throw new AggregateError(reasons, [...new Set(reasons.map((reason) => messageOf(reason)))].join('; '));
  } finally {
    stop.abort();
  }
}

function greeted(server: string, withinMs: number, signal: AbortSignal): Promise<void> {
  const colon = server.lastIndexOf(':');
  const host = server.slice(0, colon).replace(/^\[(.*)\]$/, '$1');
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port: Number(server.slice(colon + 1)), timeout: withinMs, signal });
    const fail = (error: Error): void => {
      socket.destroy();
      reject(error);
    };
    socket.once('timeout', () => fail(new Error(`no greeting within ${withinMs} ms`)));
    socket.once('error', fail);
    socket.once('close', () => fail(new Error('it hung up without a greeting')));
    socket.once('data', (bytes) => {
      if (!bytes.toString('latin1').startsWith('INFO '))
        return fail(new Error('what answers there is no NATS server'));
      socket.destroy();
      resolve();
    });
  });
}
