/**
 * The compose file cannot be run where there is no Docker, but what it says can: the image's entry point hands
 * `command` to nats-server as it is, and the health check is an HTTP request.
 */
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { connect } from '@nats-io/transport-node';
import { expect, test } from 'vitest';
import { greets } from '../../src/server/ready.ts';
import { spawnTethered } from '../../src/server/tether.ts';
import { temporaryFolder } from '../support/folder.ts';
import { natsServerPath, withServer } from '../support/nats.ts';

const compose = await readFile(resolve(import.meta.dirname, '../../docker-compose.yml'), 'utf8');

/** Returns the value of the only line `key: [...]`, which is YAML's flow style and so also JSON. */
function listAt(key: string): string[] {
  const found = [...compose.matchAll(new RegExp(`^ +${key}: (\\[.*\\])$`, 'gm'))];
  expect(found).toHaveLength(1);
  return JSON.parse(found[0]?.[1] ?? '');
}

/** Returns two ports that were free a moment ago. */
async function freePorts(): Promise<[string, string]> {
  return await withServer(async (server) => [String(server.port), new URL(`${server.monitorUrl}`).port], {
    monitorPort: 0,
  });
}

test('a nats-server started as the compose file says is healthy, keeps messages, and nobody else can reach it', async () => {
  const command = listAt('command');
  const check = listAt('test').at(-1) ?? '';
  await using folder = await temporaryFolder();
  const [port, monitorPort] = await freePorts();
  const stands: Record<string, string> = { '/data': folder.path, '4222': port, '8222': monitorPort };
  expect(command).toEqual(expect.arrayContaining(Object.keys(stands)));

  const args = command.map((arg) => stands[arg] ?? arg);
  const child = spawnTethered(await natsServerPath(), args);
  const exited = new Promise((done) => child.on('close', done));
  try {
    const url = `nats://127.0.0.1:${port}`;
    await expect.poll(() => greets(url, 1_000), { interval: 20 }).toBe(true);
    const health = await fetch(check.replace('8222', monitorPort));
    expect(await health.json()).toEqual({ status: 'ok' });

    const connection = await connect({ servers: url });
    const manager = await jetstreamManager(connection);
    const stream = await manager.streams.add({ name: 'KEPT', subjects: ['kept'], storage: 'file' });
    await jetstream(connection).publish('kept', 'one');
    expect((await manager.streams.info('KEPT')).state.messages).toBe(1);
    expect(stream.config.storage).toBe('file');
    await connection.close();
    expect(await readFile(join(folder.path, 'jetstream/$G/streams/KEPT/meta.inf'), 'utf8')).toContain('KEPT');
  } finally {
    child.kill('SIGTERM');
    await exited;
  }
  for (const published of compose.matchAll(/^ +- "(.*):(\d+)"/gm))
    expect(published[1]).toMatch(/^127\.0\.0\.1:/);
  expect(compose).toMatch(/^ +- nats-data:\/data$/m);
});
