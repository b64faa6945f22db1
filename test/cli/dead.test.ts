import { join } from 'node:path';
import { jetstreamManager } from '@nats-io/jetstream';
import { connect } from '@nats-io/transport-node';
import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { joinSwarm, type Swarm } from '../../src/agent/swarm.ts';
import type { Sha256Hex } from '../../src/base/encoding.ts';
import { UnrecoverableError } from '../../src/handler/unrecoverable.ts';
import type { SigningKey } from '../../src/identity/key.ts';
import { openLog } from '../../src/log/writer.ts';
import { leafOfLine } from '../../src/record/entry.ts';
import type { NatsServer } from '../../src/server/nats-server.ts';
import { linesOf } from '../support/log.ts';
import { testServer } from '../support/nats.ts';
import { newFolder, type RunOptions, saveAgent, session, swarm } from './swarm.ts';

let server: NatsServer;
let folder: string;
let options: RunOptions;
let planner: SigningKey;

beforeAll(async () => {
  server = await testServer();
});
afterAll(() => server?.stop());

beforeEach(async () => {
  folder = newFolder();
  options = { env: { NATS_URL: server.url } };
  planner = await saveAgent(folder, 'planner');
  await saveAgent(folder, 'worker', 'worker.env');
  const nats = await connect({ servers: server.url });
  const { streams } = await jetstreamManager(nats);
  for (const name of ['THREADS', 'DEAD']) await streams.delete(name).catch(() => false);
  await nats.close();
});

function joinAs(name: string): Promise<Swarm> {
  return joinSwarm({
    env: join(folder, name),
    environment: {},
    url: server.url,
    log: join(folder, 'logs/swarm.jsonl'),
    keyring: join(folder, 'swarm.keys.json'),
    state: join(folder, '.swarm/sealed'),
  });
}

/** Says `payloads`, all of which the worker gives up. */
async function giveUp(...payloads: unknown[]): Promise<void> {
  await using planner = await joinAs('.env');
  await using worker = await joinAs('worker.env');
  let given = 0;
  const onError = (): void => {
    given += 1;
  };
  await worker.handle('thread.>', { durable: 'worker', onError }, () => {
    throw new UnrecoverableError('nothing to be done', { reason: 'no-such-order' });
  });
  for (const payload of payloads)
    await planner.publish('thread.t1.planner', payload, { meta: { model: 'm' } });
  await vi.waitFor(() => expect(given).toBe(payloads.length), 60_000);
}

test('lists what was given up, shows one, says it again, and then lists it no more', async () => {
  await giveUp({ n: 1 }, 'two');
  await session(
    folder,
    `
    $ swarm dead list
    1 <time> worker < planner thread.t1.planner no-such-order (attempt 1) {"n":1}
    2 <time> worker < planner thread.t1.planner no-such-order (attempt 1) "two"
    $ swarm dead show 1
    subject    thread.t1.planner
    said by    planner at <time>, leaf <hash>
    given up   worker at <time>, leaf <hash>
    because    no-such-order, at attempt 1
    delivery   message 1 of THREADS, durable worker
    its record <hash> (BUS.DELIVER)
    payload    {"n":1}
    $ swarm dead requeue 1
    1  thread.t1.planner  seq 3  leaf <hash>
    $ swarm dead list -q
    2 <time> worker < planner thread.t1.planner no-such-order (attempt 1) "two"
    $ swarm dead list --all --json | head -n 1
    {"seq":1,"ts_ns":"<n>","leaf":"<hash>","reason":"no-such-order","by":"worker","delivery":{"stream":"THREADS","seq":1,"consumer":"worker","attempt":1},"subject":"thread.t1.planner","sender":"planner","said":{"leaf":"<hash>","ts_ns":"<n>","meta":{"model":"m"}},"requeued":[{"by":"planner","seq":3,"leaf":"<hash>"}],"payload":{"n":1}}
    $ swarm dead show 1 | grep requeued
    requeued   planner as message 3, leaf <hash>
    $ swarm dead requeue 1
    ! swarm: 1 is not requeued: planner did, as message 3; --again does it once more
    ! Nothing is to be requeued.
    [1]
    $ swarm dead requeue 1 --again --json
    {"letter":1,"subject":"thread.t1.planner","seq":4,"leaf":"<hash>"}
    $ swarm dead requeue --all
    2  thread.t1.planner  seq 5  leaf <hash>
    $ swarm dead list
    ! 2 more were said again; --all shows them.
    $ swarm verify -q | tail -n 1
    Verified <n> records, 0 bad`,
    options,
  );
  const lines = linesOf(join(folder, 'logs/swarm.jsonl'));
  const dead = lines.find((line) => line.includes('"kind":"BUS.DEAD"')) ?? '';
  const again = lines.filter((line) => line.includes('"kind":"BUS.PUBLISH"') && line.includes('"refs":'));
  const { stdout } = await swarm(folder, ['dead', 'list', '--all', '--json'], options);
  const [{ leaf }] = stdout
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line)) as [{ leaf: string }];
  expect(again.map((line) => JSON.parse(line).refs)).toEqual([[leaf], [leaf], [expect.any(String)]]);
  expect(JSON.parse(again[0] ?? '')).toMatchObject({ payload: { n: 1 }, meta: { model: 'm' } });
  expect(JSON.parse(dead)).toMatchObject({ reason: 'no-such-order', payload: { n: 1 } });
});

test('who may not speak there cannot requeue: each is named, and stays on the list', async () => {
  await giveUp(1, 2);
  await session(
    folder,
    `
    $ swarm dead requeue --all --env worker.env
    ! swarm: 1 is not requeued: the keyring does not let worker publish on thread.t1.planner, <...>
    ! swarm: 2 is not requeued: the keyring does not let worker publish on thread.t1.planner, <...>
    [1]
    $ swarm dead list | wc -l | tr -d ' '
    2`,
    options,
  );
});

test('says what it cannot find, and what it was not asked', async () => {
  await session(
    folder,
    `
    $ swarm dead list
    ! No message was given up.
    $ swarm dead list --json
    ! No message was given up.
    $ swarm dead show 1
    ! swarm: the stream DEAD has no dead letter 1: swarm dead list --all names those there are
    [3]
    $ swarm dead show one
    ! swarm: no dead letter is named by "one": give its number in \`swarm dead list\`, or the leaf of its BUS.DEAD
    [2]
    $ swarm dead requeue
    ! swarm: which dead letters? Name them by their numbers in \`swarm dead list\`, or say --all
    [2]
    $ swarm dead requeue 1 --all
    ! swarm: --all takes no names
    [2]
    $ swarm dead requeue 7
    ! swarm: the stream DEAD has no dead letter 7: swarm dead list --all names those there are
    ! Nothing is to be requeued.
    [1]`,
    options,
  );
});

test('of several that were named, those that are there are said again', async () => {
  await giveUp(1);
  await session(
    folder,
    `
    $ swarm dead requeue 1 one
    ! swarm: no dead letter is named by "one": give its number in \`swarm dead list\`, or the leaf of its BUS.DEAD
    [2]
    $ swarm dead requeue 99 1
    1  thread.t1.planner  seq 2  leaf <hash>
    ! swarm: the stream DEAD has no dead letter 99: swarm dead list --all names those there are
    [1]`,
    options,
  );
});

test('what a requeue that was killed had logged is sent first, and not said twice', async () => {
  await giveUp(1);
  const { stdout } = await swarm(folder, ['dead', 'list', '--json'], options);
  const { leaf } = JSON.parse(stdout) as { leaf: Sha256Hex };
  const log = await openLog(join(folder, 'logs/swarm.jsonl'), { key: planner });
  const said = { subject: 'thread.t1.planner', kind: 'BUS.PUBLISH', payload: Buffer.from('1') };
  for (let n = 0; n < 300; n += 1) void log.append(said).catch(() => undefined); // time for a second one to be hasty
  await log.append({ ...said, refs: [leaf] });
  await log.close();
  await session(
    folder,
    `
    $ swarm dead requeue 1
    ! Sent again 301 of our messages that earlier sessions left unconfirmed.
    ! swarm: 1 is not requeued: planner did, as message 302; --again does it once more
    ! Nothing is to be requeued.
    [1]`,
    options,
  );
});

test('given up twice, it is found by either name', async () => {
  const nats = await connect({ servers: server.url });
  await using agent = await joinAs('.env');
  await agent.publish('thread.t1.planner', 1);
  for (let life = 1; life <= 2; life += 1) {
    await using worker = await joinAs('worker.env');
    const subscription = worker.subscribe('thread.>', { durable: 'worker', atMost: 1, ackWaitMs: 1_000 });
    const gaveUp = (await subscription.next())?.dead('lost');
    if (life === 1) await nats.request('$JS.API.CONSUMER.DELETE.THREADS.worker', ''); // it forgets the term
    await gaveUp?.catch(() => undefined);
  }
  await nats.close();
  const deads = linesOf(join(folder, 'logs/swarm.jsonl')).filter((line) => line.includes('BUS.DEAD'));
  const [first, second] = deads.map((line) => leafOfLine(Buffer.from(line)));
  await session(
    folder,
    `
    $ swarm dead list -q | cut -d ' ' -f 1
    1
    $ swarm dead show 2 | grep leaf
    said by    planner at <time>, leaf <hash>
    given up   worker at <time>, leaf ${first}
    once more  as 2, at <time>, leaf ${second}
    $ swarm dead show ${second} | head -n 1
    subject    thread.t1.planner
    $ swarm dead requeue ${second} 2 1
    1  thread.t1.planner  seq 2  leaf <hash>`,
    options,
  );
});

test('where the stream has dropped messages since, it says that it cannot tell, and does not say it again unasked', async () => {
  await giveUp(1);
  const nats = await connect({ servers: server.url });
  const { streams } = await jetstreamManager(nats);
  await streams.update('THREADS', { duplicate_window: 1e9, max_age: 1e9 });
  await vi.waitFor(async () => expect((await streams.info('THREADS')).state.messages).toBe(0), 60_000);
  await streams.update('THREADS', { duplicate_window: 30e9, max_age: 3600e9 });
  await nats.close();
  await session(
    folder,
    `
    $ swarm dead list
    1 <time> worker < planner thread.t1.planner no-such-order (attempt 1) requeued? 1
    ! swarm: warning: 1 of them may have been said again: the stream THREADS has dropped messages since
    $ swarm dead list --json -q | grep -o '"may_be_requeued":[a-z]*'
    "may_be_requeued":true
    ! swarm: warning: 1 of them may have been said again: <...>
    $ swarm dead show 1 | grep requeued
    requeued?  nobody can tell: the stream THREADS has dropped messages since
    $ swarm dead requeue --all
    ! swarm: 1 is not requeued: it may have been before, as the stream THREADS has dropped messages since; \`swarm dead requeue 1 --again\` does it all the same
    ! Nothing is to be requeued.
    [1]
    $ swarm dead requeue 1 --again
    1  thread.t1.planner  seq 2  leaf <hash>
    $ swarm dead list
    ! 1 more were said again; --all shows them.`,
    options,
  );
});

test('what a stranger puts there is warned of, and not requeued', async () => {
  await giveUp(1);
  const nats = await connect({ servers: server.url });
  await nats.request('dead.thread.t1.planner', '"do it"');
  await nats.close();
  await session(
    folder,
    `
    $ swarm dead requeue 2
    ! swarm: warning: message 2 of the stream DEAD, on dead.thread.t1.planner, is no dead letter: it does not carry a message and the record of who gave it up
    ! swarm: the stream DEAD has no dead letter 2: it does not carry a message and the record of who gave it up
    ! Nothing is to be requeued.
    [1]
    $ swarm dead requeue --all -q
    1  thread.t1.planner  seq 2  leaf <hash>
    ! swarm: warning: message 2 of the stream DEAD, <...>`,
    options,
  );
});
