/** What becomes of a message that the broker refuses, or does not answer for. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { jetstream } from '@nats-io/jetstream';
import { connect } from '@nats-io/transport-node';
import { describe, expect, test } from 'vitest';
import { agentsIn } from '../support/agents.ts';
import { temporaryFolder } from '../support/log.ts';
import { testServer } from '../support/nats.ts';

describe('a publish that the broker refuses', () => {
  test('for want of room is rejected, and a BUS.UNSENT names it', async () => {
    await using server = await testServer();
    const place = await agentsIn(temporaryFolder(), server.url, ['planner']);
    await using planner = await place.join('planner');
    await planner.publish('thread.t.planner', 1);
    const admin = await connect({ servers: server.url });
    const streams = (await jetstream(admin).jetstreamManager()).streams;
    await streams.update('THREADS', { max_msgs: 1 });
    await admin.close();
    await expect(planner.publish('thread.t.planner', 2)).rejects.toMatchObject({
      code: 'BUS_REFUSED',
      message: expect.stringContaining('maximum messages exceeded'),
    });
    const [, refused, unsent] = place.records();
    expect(unsent?.header).toMatchObject({
      kind: 'BUS.UNSENT',
      cause: refused?.leaf,
      reason: 'stream-full',
      payloadHash: refused?.header.payloadHash,
    });
    expect(await place.verify()).toMatchObject({ verified: 3, bad: 0, counted: { withheld: 1 } });
  });

  test('for want of a permission is rejected alone: what is sent beside it arrives', async () => {
    const folder = temporaryFolder();
    const configFile = join(folder, 'nats.conf');
    writeFileSync(
      configFile,
      `authorization { users: [ { user: planner, password: secret, permissions: {
        publish: ["$JS.>", "thread.allowed.>"], subscribe: [">"] } }, { user: admin, password: secret } ] }`,
    );
    await using server = await testServer({ configFile });
    const withUser = (user: string): string => server.url.replace('//', `//${user}:secret@`);
    const place = await agentsIn(folder, withUser('planner'), ['planner']);
    await using planner = await place.join('planner');
    const results = await Promise.allSettled([
      planner.publish('thread.allowed.planner', 1),
      planner.publish('thread.forbidden.planner', 2),
      planner.publish('thread.allowed.planner', 3),
    ]);
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    expect(results[1]).toMatchObject({ reason: { code: 'BUS_PERMISSION' } });
    const unsent = place.records().filter(({ header }) => header.kind === 'BUS.UNSENT');
    expect(unsent.map(({ header }) => [header.subject, header.reason])).toEqual([
      ['thread.forbidden.planner', 'not-permitted'],
    ]);
  });
});

describe('a publish that the broker answers too late', () => {
  test('is said anew, names the record before it as its cause, and is handled once under one id', async () => {
    await using server = await testServer();
    const place = await agentsIn(temporaryFolder(), server.url, ['planner', 'listener']);
    const duplicateWindowMs = 2_000; // a record is fresh for one second
    await using planner = await place.join('planner', { duplicateWindowMs });
    await using listener = await place.join('listener', { duplicateWindowMs });
    server.kill('SIGSTOP');
    const published = planner.publish('thread.t.planner', 'late');
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    server.kill('SIGCONT');
    const { record } = await published;
    const first = place.records()[0];
    expect(record.leaf).not.toBe(first?.leaf);
    expect(record.header.cause).toBe(first?.leaf);
    const subscription = listener.subscribe('thread.t.>', { durable: 'd' });
    const message = await subscription.next();
    expect(message).toMatchObject({ payload: 'late', id: `${first?.header.signer}/${first?.leaf}` });
    await message?.ack();
    const next = await Promise.race([
      subscription.next(),
      new Promise((resolve) => setTimeout(resolve, 300, 'none')),
    ]);
    expect(next).toBe('none');
    expect(await place.verify()).toMatchObject({ bad: 0 });
  });

  test('is sent again under its own id once a killed server is back, and not said anew', async () => {
    await using server = await testServer();
    const place = await agentsIn(temporaryFolder(), server.url, ['planner']);
    await using planner = await place.join('planner');
    await planner.publish('thread.t.planner', 'before');
    const pending = Promise.all([1, 2, 3, 4, 5].map((n) => planner.publish('thread.t.planner', n)));
    server.kill('SIGKILL');
    await server.exited;
    await server.restart();
    const seqs = (await pending).map(({ seq }) => seq);
    expect(new Set(seqs).size).toBe(5);
    expect(place.records().filter(({ header }) => header.kind === 'BUS.PUBLISH')).toHaveLength(6);
  });
});

test('a publish just before the swarm closes is waited for, also while it is only being logged', async () => {
  await using server = await testServer();
  const place = await agentsIn(temporaryFolder(), server.url, ['planner']);
  const planner = await place.join('planner');
  const published = planner.publish('thread.t.planner', 'in time');
  await planner.close();
  await expect(published).resolves.toMatchObject({ seq: 1 });
});

test('a publish while the broker is away for long is said anew once it is back', async () => {
  await using server = await testServer();
  const place = await agentsIn(temporaryFolder(), server.url, ['planner']);
  await using planner = await place.join('planner', { duplicateWindowMs: 2_000 });
  server.kill('SIGKILL');
  await server.exited;
  const published = planner.publish('thread.t.planner', 'patience');
  await new Promise((resolve) => setTimeout(resolve, 2_500));
  await server.restart();
  const { seq, record } = await published;
  const [first] = place.records();
  expect([seq, record.header.cause]).toEqual([1, first?.leaf]);
});
