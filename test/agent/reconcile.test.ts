/** A log and a stream that tell of different messages: each difference is named, and nothing else. */
import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type JetStreamManager, jetstreamManager } from '@nats-io/jetstream';
import { connect, headers as newHeaders } from '@nats-io/transport-node';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { Outbox } from '../../src/agent/outbox.ts';
import { type ReconcileOptions, type Reconciliation, reconcile } from '../../src/agent/reconcile.ts';
import { busStatus, messagesResent } from '../../src/base/events.ts';
import { parseSubject } from '../../src/base/subject.ts';
import { type Bus, connectBus } from '../../src/bus/connection.ts';
import { openPublisher } from '../../src/bus/publisher.ts';
import { readMessages } from '../../src/bus/stored.ts';
import { loadKeyring } from '../../src/identity/keyring.ts';
import { type LogWriter, openLog } from '../../src/log/writer.ts';
import type { NatsServer } from '../../src/server/nats-server.ts';
import { agentsIn, type Place } from '../support/agents.ts';
import { temporaryFolder } from '../support/log.ts';
import { testServer } from '../support/nats.ts';

const wait = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function found(
  place: Place,
  url: string,
  options: Partial<ReconcileOptions> = {},
): Promise<Reconciliation> {
  await using bus = await connectBus({ url });
  const { keyring } = await loadKeyring(place.keyring);
  expect(await place.verify()).toMatchObject({ bad: 0 });
  return await reconcile(bus, { log: place.log, stream: 'THREADS', keyring, ...options });
}

/** What was found, as codes with the message's number in the stream or its subject. */
function named({ differences }: Reconciliation): (readonly [string, number | string | undefined])[] {
  return differences.map(({ code, seq, subject }) => [code, seq ?? subject]);
}

interface Scene {
  readonly server: NatsServer;
  readonly place: Place;
}

async function scene(names: readonly string[] = ['planner', 'worker']): Promise<Scene> {
  const server = await testServer();
  onTestFinished(() => server.stop());
  return { server, place: await agentsIn(temporaryFolder(), server.url, names) };
}

async function manager(url: string): Promise<JetStreamManager & { readonly close: () => Promise<void> }> {
  const connection = await connect({ servers: url });
  return Object.assign(await jetstreamManager(connection), { close: () => connection.close() });
}

/** Says `count` things as `name`, which another agent hears, and leaves. */
async function talk(place: Place, name: string, count: number, heardBy?: string): Promise<void> {
  const speaker = await place.join(name);
  const said = await Promise.all(
    Array.from({ length: count }, (_, n) => speaker.publish(`thread.t.${name}`, { n })),
  );
  await speaker.close();
  if (heardBy === undefined) return;
  const unheard = new Set(said.map(({ record }) => record.leaf));
  const hearer = await place.join(heardBy);
  for await (const message of hearer.subscribe(`thread.t.${name}`, { durable: heardBy })) {
    await message.ack();
    unheard.delete(message.leaf); // others come again where the server died before it kept their acks
    if (unheard.size === 0) break;
  }
  await hearer.close();
}

/** Logs `payloads` as the planner says them, up to where it would send them; closed, it leaves as one that was killed. */
async function saying(place: Place, payloads: readonly unknown[]): Promise<LogWriter> {
  const { planner: key } = place.keys;
  if (key === undefined) throw new Error('no planner');
  const log = await openLog(place.log, { key });
  await Promise.all(
    payloads.map((value) => {
      const payload = Buffer.from(JSON.stringify(value));
      return log.append({ subject: 'thread.t.planner', kind: 'BUS.PUBLISH', payload });
    }),
  );
  return log;
}

test('a log and the stream of its agents agree', async () => {
  const { server, place } = await scene();
  await talk(place, 'planner', 300, 'worker');
  const report = await found(place, server.url);
  expect(report).toMatchObject({ differences: [], records: 600, messages: 300 });
  expect(report.counted).toEqual({
    ...{ agreed: 300, unsent: 0, gone: 0, underWay: 0, stale: 0, repeated: 0, elsewhere: 0 },
  });
});

test('the log of one agent is held to what it said and heard, not to what others say', async () => {
  const { server, place } = await scene();
  await talk(place, 'planner', 3);
  const own = join(place.folder, 'logs', 'worker.jsonl');
  const worker = await place.join('worker', { log: own });
  await worker.publish('thread.t.worker', 'mine');
  const subscription = worker.subscribe('thread.t.planner', { durable: 'd', atMost: 1 });
  await (await subscription.next())?.ack();
  await worker.close();
  const report = await found({ ...place, log: own }, server.url);
  expect(report.differences).toEqual([]);
  expect(report.counted).toMatchObject({ agreed: 2, elsewhere: 2 });
});

describe('in the stream and not as the log has it', () => {
  test('what a writer of the log says past it is off camera', async () => {
    const { server, place } = await scene();
    await talk(place, 'planner', 2);
    const elsewhere = await place.join('planner', { log: join(place.folder, 'other.jsonl') });
    await elsewhere.publish('thread.t.planner', 'off the record');
    await elsewhere.close();
    const report = await found(place, server.url);
    expect(named(report)).toEqual([['off-camera', 3]]);
    expect(report.differences[0]).toMatchObject({ agent: 'planner', at: undefined });
  });

  test('a plain client’s message is unsigned, and a stranger’s is refused', async () => {
    const { server, place } = await scene();
    await talk(place, 'planner', 1);
    const plain = await connect({ servers: server.url });
    await plain.request('thread.t.planner', '"hello"', { timeout: 2_000 });
    await plain.close();
    const strangers = await agentsIn(temporaryFolder(), server.url, ['planner']);
    await talk(strangers, 'planner', 1);
    expect(named(await found(place, server.url))).toEqual([
      ['unsigned', 2],
      ['refused', 3],
    ]);
  });

  test('a stored message that was altered is different', async () => {
    const { server, place } = await scene();
    await talk(place, 'planner', 3, 'worker');
    await using bus = await connectBus({ url: server.url });
    const kept = [];
    for await (const { subject, data, headers } of readMessages(bus, { stream: 'THREADS' })) {
      kept.push({ subject, data: Buffer.from(data), headers });
    }
    const admin = await manager(server.url);
    const { config } = await admin.streams.info('THREADS');
    await admin.streams.delete('THREADS'); // nobody may delete a message, but who runs the broker can do that
    await admin.streams.add(config);
    const connection = await connect({ servers: server.url });
    for (const [index, { subject, data, headers }] of kept.entries()) {
      const copy = newHeaders();
      for (const name of headers.names()) copy.set(name, headers.values(name)[0] ?? '');
      const payload = index === 1 ? '{"n":1000000}' : data;
      await connection.request(subject, payload, { headers: copy, timeout: 2_000 });
    }
    await connection.close();
    await admin.close();
    const report = await found(place, server.url);
    expect(named(report)).toEqual([['different', 2]]);
    expect(report.differences[0]?.detail).toContain('payload-mismatch');
    expect(report.counted).toMatchObject({ agreed: 2 });
  });
});

describe('in the log and not in the stream', () => {
  test('what the broker refused is counted as its BUS.UNSENT says', async () => {
    const { server, place } = await scene();
    await talk(place, 'planner', 1);
    const admin = await manager(server.url);
    await admin.streams.update('THREADS', { max_msgs: 1 });
    await admin.close();
    const planner = await place.join('planner');
    await expect(planner.publish('thread.t.planner', 'too much')).rejects.toMatchObject({
      code: 'BUS_REFUSED',
    });
    await planner.close();
    const report = await found(place, server.url);
    expect(report.differences).toEqual([]);
    expect(report.counted).toMatchObject({ agreed: 1, unsent: 1 });
  });

  test('what expired is gone, whether it was heard or not', async () => {
    const { server, place } = await scene();
    const short = { maxAgeMs: 1_000, duplicateWindowMs: 1_000 };
    const planner = await place.join('planner', short);
    for (const n of [1, 2]) await planner.publish('thread.t.planner', n);
    const subscription = planner.subscribe('thread.t.planner', { durable: 'd', atMost: 1 });
    await (await subscription.next())?.ack();
    await wait(2_500);
    await planner.publish('thread.t.planner', 3);
    await planner.close();
    const report = await found(place, server.url);
    expect(report.differences).toEqual([]);
    expect(report.counted).toMatchObject({ gone: 2, agreed: 1 });
  });

  test('what was purged is gone, and is not sent again', async () => {
    const { server, place } = await scene(['planner']);
    const { planner: key } = place.keys;
    if (key === undefined) throw new Error('no key');
    const admin = await manager(server.url);
    await admin.streams.add({ name: 'THREADS', subjects: ['thread.>'], duplicate_window: 1e9 });
    await using bus = await connectBus({ url: server.url });
    const log = await openLog(place.log, { key });
    const publisher = openPublisher(bus, { stream: 'THREADS' });
    const outbox = new Outbox({ bus, publisher, log, stream: 'THREADS', freshForNs: 500_000_000n });
    const say = (n: number) =>
      outbox.send({
        subject: parseSubject('thread.t.planner'),
        kind: 'BUS.PUBLISH',
        payload: Buffer.from(String(n)),
      });
    for (const n of [1, 2, 3]) await say(n);
    await wait(1_000);
    expect(await admin.streams.purge('THREADS')).toMatchObject({ purged: 3 });
    await say(4);
    await outbox.close();
    await log.close();
    await admin.close();
    const report = await found(place, server.url);
    expect(report.differences).toEqual([]);
    expect(report.counted).toMatchObject({ gone: 3, agreed: 1 });
  });

  test('what is being sent is under way as long as its writer lives, and missing after', async () => {
    const { server, place } = await scene();
    await talk(place, 'planner', 1);
    const crashing = await saying(place, [1]);
    const alive = await found(place, server.url);
    expect(alive.differences).toEqual([]);
    expect(alive.counted).toMatchObject({ agreed: 1, underWay: 1 });
    await crashing.close();
    expect(named(await found(place, server.url))).toEqual([['missing', 'thread.t.planner']]);
  });
});

const messagesIn = (folder: string): string => join(folder, 'jetstream/$G/streams/THREADS/msgs');

/** Ends the server at once, takes back the messages that its stream got since `copy` was made, and starts it again. */
async function loseSince(server: NatsServer, copy: string): Promise<void> {
  server.kill('SIGKILL');
  await server.exited;
  rmSync(messagesIn(server.storeDir), { recursive: true });
  cpSync(messagesIn(copy), messagesIn(server.storeDir), { recursive: true });
  await server.restart();
}

async function copyStore(server: NatsServer, folder: string): Promise<string> {
  const copy = join(folder, 'copy-of-store');
  server.kill('SIGKILL');
  await server.exited;
  cpSync(server.storeDir, copy, { recursive: true });
  await server.restart();
  return copy;
}

describe('a broker that lost acknowledged messages', () => {
  test('is named, filled again from the log, and its durable gets them', async () => {
    const { server, place } = await scene();
    await talk(place, 'planner', 5, 'worker');
    await sleep(1_000); // the server writes where a consumer stands a moment later
    const copy = await copyStore(server, place.folder);
    await talk(place, 'planner', 20, 'worker');
    await talk(place, 'worker', 3);
    expect((await found(place, server.url)).differences).toEqual([]);
    await sleep(1_000);
    await loseSince(server, copy);

    const lost = await found(place, server.url);
    expect(lost.differenceCounts).toEqual(new Map([['missing', 23]]));
    expect(lost.differences.filter(({ detail }) => detail.includes('delivered it as message'))).toHaveLength(
      20,
    );

    const warned: string[] = [];
    onTestFinished(
      busStatus.subscribe(({ status, detail }) => void (status === 'warning' && warned.push(detail))),
    );
    const planner = await place.join('planner', { resend: false });
    const { resent } = await planner.reconcile({ resend: true });
    expect(resent).toMatchObject({ resent: 20, others: 3, failures: [] });
    await planner.close();
    expect(named(await found(place, server.url))).toEqual(Array(3).fill(['missing', 'thread.t.worker']));

    // The durable had been handed all 25.
    const worker = await place.join('worker');
    const subscription = worker.subscribe('thread.t.planner', { durable: 'worker' });
    const heard = [];
    for (let n = 0; n < 20; n += 1) heard.push(await subscription.next());
    for (const message of heard) await message?.ack();
    expect(heard.map((message) => message?.payload)).toEqual(Array.from({ length: 20 }, (_, n) => ({ n })));
    await worker.close();
    const after = await found(place, server.url);
    expect(after.differences).toEqual([]); // the worker sent its own when it joined
    expect(after.counted).toMatchObject({ agreed: 28, repeated: 0 });
  });

  test('has a durable past its end, which hands out again what nobody had acked, whoever resends', async () => {
    const { server, place } = await scene();
    await talk(place, 'planner', 2, 'worker');
    await talk(place, 'planner', 5);
    await sleep(1_000); // the server writes where a consumer stands a moment later
    const copy = await copyStore(server, place.folder);
    await talk(place, 'planner', 20);
    const held = await place.join('worker');
    const subscription = held.subscribe('thread.t.planner', { durable: 'worker' });
    for (let n = 0; n < 25; n += 1) await subscription.next();
    await held.close(); // nothing of it is acked
    await sleep(1_000);
    await loseSince(server, copy);

    const worker = await place.join('worker');
    const { resent } = await worker.reconcile({ resend: true });
    expect(resent).toEqual({ resent: 0, others: 20, failures: [], mended: ['worker'] });
    const again = worker.subscribe('thread.t.planner', { durable: 'worker', atMost: 5 });
    const heard = [];
    for (let n = 0; n < 5; n += 1) {
      const message = await again.next();
      heard.push(message?.seq);
      await message?.ack();
    }
    expect(heard).toEqual([3, 4, 5, 6, 7]);
    await worker.close();
  });

  test('and does not take them back has them missing, until it does', async () => {
    const { server, place } = await scene();
    await talk(place, 'planner', 1);
    const copy = await copyStore(server, place.folder);
    await talk(place, 'planner', 3);
    await loseSince(server, copy);
    const planner = await place.join('planner', { resend: false });
    const { streams, close } = await manager(server.url);
    await streams.update('THREADS', { max_msgs: 1 });
    const { resent } = await planner.reconcile({ resend: true });
    expect(resent).toMatchObject({ resent: 0, failures: Array(3).fill(expect.stringContaining('maximum')) });
    expect(named(await found(place, server.url))).toEqual(Array(3).fill(['missing', 'thread.t.planner']));
    await streams.update('THREADS', { max_msgs: -1 });
    expect((await planner.reconcile({ resend: true })).resent).toMatchObject({ resent: 3, failures: [] });
    await planner.close();
    await close();
    expect((await found(place, server.url)).differences).toEqual([]);
  });

  test('gets what is stale once, also of two that send it again at the same time', async () => {
    const { server, place } = await scene();
    const duplicateWindowMs = 2_000;
    const options = { duplicateWindowMs, resend: false };
    const two = [await place.join('planner', options), await place.join('planner', options)];
    await (await saying(place, ['one', 'two', 'three'])).close();
    await wait(1_500); // a record is fresh for one second
    await Promise.all(two.map((planner) => planner.reconcile({ resend: true })));
    await Promise.all(two.map((planner) => planner.close()));
    const report = await found(place, server.url);
    expect(report).toMatchObject({ messages: 3, differences: [], counted: { agreed: 3, repeated: 0 } });
  });

  test('is filled no further once that is broken off, and told the rest the next time', async () => {
    const { server, place } = await scene();
    const planner = await place.join('planner', { resend: false });
    await (await saying(place, Array(600).fill('lost'))).close();
    const stop = new AbortController();
    const onResent = (): void => stop.abort(new Error('that is enough'));
    await expect(planner.reconcile({ resend: true, onResent, signal: stop.signal })).rejects.toThrow(
      'that is enough',
    );
    const { differences, messages } = await found(place, server.url);
    expect(messages).toBeGreaterThan(0);
    expect(messages).toBeLessThan(600);
    expect(differences).toHaveLength(600 - messages);
    await planner.reconcile({ resend: true });
    await planner.close();
    expect(await found(place, server.url)).toMatchObject({ messages: 600, differences: [] });
  });

  test('is filled no further, and nothing is said anew, once the swarm was left', async () => {
    const { server, place } = await scene();
    const planner = await place.join('planner', { resend: false, duplicateWindowMs: 2_000 });
    await (await saying(place, Array(2_000).fill('lost'))).close();
    await wait(1_500); // a record is fresh for one second
    let closed: Promise<void> | undefined;
    const resending = planner.reconcile({
      resend: true,
      onResent: () => {
        closed ??= planner.close();
      },
    });
    await expect(resending).rejects.toMatchObject({ code: 'BUS_CLOSED' });
    await closed;
    const report = await found(place, server.url);
    expect(report.messages).toBeGreaterThan(0);
    expect(report.records).toBeLessThan(3_500); // of all the 2,000 only those that were on their way
  });

  test('has a durable past its end, which a listener that stays connected is not left with', async () => {
    const { server, place } = await scene();
    await talk(place, 'planner', 1);
    const worker = await place.join('worker');
    const subscription = worker.subscribe('thread.>', { durable: 'd' });
    await subscription.ready();
    const copy = await copyStore(server, place.folder);
    const planner = await place.join('planner');
    for (let n = 0; n < 10; n += 1) await planner.publish('thread.t.planner', n);
    for (let n = 0; n < 11; n += 1) await (await subscription.next())?.ack();
    await sleep(1_000); // the server writes where a consumer stands a moment later
    await loseSince(server, copy);
    // What is said before it is mended takes the numbers that were lost, and would be passed over: docs/reconcile.md.
    await using bus = await connectBus({ url: server.url });
    const { manager } = bus;
    await vi.waitFor(
      async () => {
        const { delivered } = await manager.consumers.info('THREADS', 'd');
        expect(delivered.stream_seq).toBe((await manager.streams.info('THREADS')).state.last_seq);
      },
      { timeout: 60_000, interval: 50 },
    );
    await planner.publish('thread.t.planner', 'after the loss');
    expect((await subscription.next())?.payload).toBe('after the loss');
    await planner.close();
    await worker.close();
  });
});

describe('joining again', () => {
  async function payloads(bus: Bus): Promise<string[]> {
    const all = [];
    for await (const { data } of readMessages(bus, { stream: 'THREADS' }))
      all.push(Buffer.from(data).toString());
    return all;
  }

  test('sends what the session before left, in its order, and leaves that of one who lives alone', async () => {
    const { server, place } = await scene();
    await talk(place, 'planner', 1);
    const numbers = Array.from({ length: 30 }, (_, n) => n);
    const crashing = await saying(place, numbers);
    await using bus = await connectBus({ url: server.url });
    const told: number[] = [];
    onTestFinished(messagesResent.subscribe(({ resent }) => void told.push(resent)));

    await (await place.join('planner')).close(); // of the same agent, on the same log
    expect(told).toEqual([]);
    expect(await payloads(bus)).toHaveLength(1);

    await crashing.close();
    const again = await place.join('planner');
    await again.publish('thread.t.planner', 'after');
    await again.close();
    expect(told).toEqual([30]);
    const all = await payloads(bus);
    expect(all.filter((text) => /^\d+$/.test(text))).toEqual(numbers.map(String));
    expect(all).toHaveLength(32);
    const report = await found(place, server.url);
    expect(report.differences).toEqual([]);
    expect(report.counted).toMatchObject({ agreed: 32, repeated: 0 });

    await (await place.join('planner')).close();
    expect(told).toEqual([30]); // nothing is left
  });

  test('sends what a session left before one that said much and died before it had looked', async () => {
    const { server, place } = await scene();
    await talk(place, 'planner', 1);
    await (await saying(place, ['a', 'b'])).close();
    await (
      await saying(
        place,
        Array.from({ length: 2_200 }, (_, n) => n),
      )
    ).close();
    const told: number[] = [];
    onTestFinished(messagesResent.subscribe(({ resent }) => void told.push(resent)));
    await (await place.join('planner')).close();
    expect(told).toEqual([2 + 1_024]);
    await using bus = await connectBus({ url: server.url });
    expect((await payloads(bus)).slice(1, 3)).toEqual(['"a"', '"b"']);
  });

  test('does none of that where it is told not to', async () => {
    const { server, place } = await scene();
    await talk(place, 'planner', 1);
    await (await saying(place, [1, 2, 3])).close();
    await (await place.join('planner', { resend: false })).close();
    expect((await found(place, server.url)).differenceCounts).toEqual(new Map([['missing', 3]]));
  });

  test('says anew, under one id, what is too old to be sent as it is', async () => {
    const { server, place } = await scene();
    const duplicateWindowMs = 2_000;
    await (await place.join('planner', { duplicateWindowMs })).close();
    await (await saying(place, ['owed'])).close();
    await wait(1_500); // a record is fresh for one second
    const again = await place.join('planner', { duplicateWindowMs });
    const subscription = again.subscribe('thread.t.>', { durable: 'd' });
    const message = await subscription.next();
    const [owed] = place.records();
    expect(message).toMatchObject({ payload: 'owed', id: `${owed?.header.signer}/${owed?.leaf}` });
    expect(message?.record.header.cause).toBe(owed?.leaf);
    await message?.ack();
    await again.close();
    const report = await found(place, server.url);
    expect(report.differences).toEqual([]);
    expect(report.counted).toMatchObject({ agreed: 1 });
  });
});
