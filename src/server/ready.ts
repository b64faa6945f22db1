/**
 * When a nats-server is ready, and where: it has written down the addresses it listens on, and one of them
 * greets as NATS servers do.
 *
 * The server is asked for free ports with `-1` and reports them in a file (`--ports_file_dir`), so nobody
 * guesses a port that another program may take first, and nobody mistakes an older server on the same port
 * for this one.
 */
import { readdir, readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';

/** Where a server listens. */
export interface Addresses {
  readonly url: string;
  readonly monitorUrl: string | undefined;
}

/** Returns the addresses reported in `folder` once they are there, and `undefined` until then. */
export async function readAddresses(folder: string): Promise<Addresses | undefined> {
  const name = (await readdir(folder).catch(() => [])).find((file) => file.endsWith('.ports'));
  if (name === undefined) return undefined;
  try {
    const ports: { nats?: string[]; monitoring?: string[] } = JSON.parse(
      await readFile(join(folder, name), 'utf8'),
    );
    const url = ports.nats?.[0]; // where it listens on all interfaces, 127.0.0.1 comes first
    return url === undefined ? undefined : { url, monitorUrl: ports.monitoring?.[0] };
  } catch {
    return undefined; // being written
  }
}

/** Reports whether a NATS server greets at `url` within `withinMs`: its first line is `INFO` and JSON. */
export function greets(url: string, withinMs: number): Promise<boolean> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve) => {
    const socket = connect({ host: hostname.replace(/^\[|\]$/g, ''), port: Number(port) });
    let received = '';
    const end = (answer: boolean): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.setEncoding('utf8');
    socket.setTimeout(withinMs, () => end(false));
    socket.on('error', () => end(false));
    socket.on('close', () => end(false));
    socket.on('data', (text: string) => {
      received += text;
      if (received.includes('\r\n')) end(/^INFO \{.*\}\s*\r\n/.test(received));
    });
  });
}
