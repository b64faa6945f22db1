import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { connectBus } from '../../src/bus/connection.ts';
import { readMessages } from '../../src/bus/stored.ts';
import { SigningKey } from '../../src/identity/key.ts';
import { openLog } from '../../src/log/writer.ts';
import { agentsIn } from '../support/agents.ts';
import { linesOf, said } from '../support/log.ts';
import { testServer } from '../support/nats.ts';
import { version1Line } from '../support/version1.ts';
import { newFolder, saveAgent, session, shell, start } from './swarm.ts';

/** Returns the lines that a command prints, without what differs from run to run. */
async function told(folder: string, command: string): Promise<string[]> {
  const { code, stdout } = await shell(folder, command);
  expect(code).toBe(0);
  return stdout
    .trimEnd()
    .split('\n')
    .map((line) =>
      line
        .replace(/\+[\d.]+ (?:µs|ms|s) */, (gap) => '<gap>'.padEnd(gap.length))
        .replace(/\d{4}-.*Z$/, '<time>')
        .replace(/\b[0-9a-f]{64}\b/, '<hash>'),
    );
}

test('what agents said on several logs is told as one story, and its digest is the same whatever order they are named in', async () => {
  await using server = await testServer();
  const folder = newFolder();
  const place = await agentsIn(folder, server.url, ['planner', 'worker', 'reviewer']);
  {
    const log = (name: string) => ({ log: join(folder, name, 'swarm.jsonl'), state: join(folder, name) });
    await using planner = await place.join('planner', log('p'));
    await using worker = await place.join('worker', log('w'));
    await using reviewer = await place.join('reviewer', log('r'));
    let isDone = (): void => undefined;
    const done = new Promise<void>((resolve) => {
      isDone = resolve;
    });
    await worker.handle('thread.*.planner', { durable: 'worker' }, async (message) => {
      await worker.publish(`thread.${message.threadId}.worker`, { did: message.payload });
    });
    await reviewer.handle('thread.*.worker', { durable: 'reviewer' }, async (message) => {
      await reviewer.publish(`thread.${message.threadId}.reviewer`, 'good', { refs: [message] });
      isDone();
    });
    await planner.publish('thread.essay.planner', { task: 1 });
    await done;
  }
  expect(await told(folder, 'swarm replay p/swarm.jsonl w/swarm.jsonl r/swarm.jsonl')).toEqual([
    'Thread essay  <time>',
    '    1               planner → thread.essay.planner {"task":1}',
    '    2  <gap>        worker heard planner',
    '    3  <gap>          worker → thread.essay.worker {"did":{"task":1}}',
    '    4  <gap>          reviewer heard worker',
    '    5  <gap>            ←3 reviewer → thread.essay.reviewer "good"',
    'Replayed 5 records, 3 messages, digest <hash>',
  ]);
  expect(await told(folder, 'swarm replay w/swarm.jsonl --thread essay --since 1h')).toEqual([
    'Thread essay  <time>',
    '    1               worker heard planner on thread.essay.planner {"task":1}',
    '    2  <gap>          worker → thread.essay.worker {"did":{"task":1}}',
    'Replayed 2 records, 1 messages, digest <hash>',
  ]);
  await session(
    folder,
    `
    $ swarm replay w/swarm.jsonl --since 2020-01-01 --thread none -q
    Replayed 0 records, 0 messages, digest e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
    $ swarm replay p/swarm.jsonl --kind BUS.PUBLISH --json -q
    {"number":1,"file":"p/swarm.jsonl","line":1,"leaf":"<hash>","version":2,"ts_ns":"<n>","thread_id":"essay","subject":"thread.essay.planner","kind":"BUS.PUBLISH","agent":"planner","key":"<key>","from":null,"because":null,"draws_on":[],"payload":{"task":1}}
    {"records":1,"messages":1,"digest":"<hash>"}`,
  );
  const orders = ['p/swarm.jsonl w/swarm.jsonl r/swarm.jsonl', 'r/swarm.jsonl p/swarm.jsonl w/swarm.jsonl'];
  const [one, other] = await Promise.all(orders.map((logs) => shell(folder, `swarm replay ${logs} -q`)));
  expect(other).toEqual(one);
});

test('records of version 1, refusals, steps and what was not sent are told, by keys where there is no keyring', async () => {
  const folder = newFolder();
  const key = SigningKey.generate();
  const path = join(folder, 'swarm.jsonl');
  writeFileSync(path, `${version1Line('{"a":1}')}\n`);
  await using log = await openLog(path, { key });
  const first = await log.append(said('first'));
  const step = { subject: 'agent.step', kind: 'AGENT.STEP', step: 'think', payload: Buffer.from([255]) };
  await log.append(step);
  await log.append({ ...said('first'), kind: 'BUS.UNSENT', cause: first.leaf, reason: 'stream-full' });
  const delivery = { stream: 'THREADS', seq: 7, consumer: 'c', attempt: 2 };
  await log.append({ ...said('x'), kind: 'BUS.REJECT', reason: 'unsigned', delivery });
  const name = `${key.publicKey.slice(0, 8)}…`;
  expect(await told(folder, 'swarm replay swarm.jsonl')).toEqual([
    'Thread demo  <time>',
    expect.stringMatching(/^ {4}1 {15}.{8}… BUS\.PUBLISH thread\.demo\.x \{"a":1\}$/),
    'Thread t  <time>',
    `    2               ${name} → thread.t.planner {"text":"first"}`,
    `    4  <gap>        ${name} BUS.UNSENT stream-full thread.t.planner {"text":"first"}`,
    `    5  <gap>        ${name} refused a message on thread.t.planner: unsigned`,
    'No thread  <time>',
    `    3               ${name} AGENT.STEP think agent.step base64:/w==`,
    'Replayed 5 records, 2 messages, digest <hash>',
  ]);
  const { stderr } = await shell(folder, 'swarm replay swarm.jsonl');
  expect(stderr).toBe('Keys: taken from the logs themselves. Who they belong to, nobody has said.\n');
});

test('a log that does not verify is refused, and options that would do nothing are named', async () => {
  const folder = newFolder();
  const key = await saveAgent(folder, 'planner');
  const path = join(folder, 'logs/swarm.jsonl');
  await using log = await openLog(path, { key });
  await log.append(said('one'));
  const [line = ''] = linesOf(path);
  writeFileSync(join(folder, 'forged.jsonl'), `${line.replace('one', 'two')}\n`);
  await session(
    folder,
    `
    $ swarm replay forged.jsonl
    ! Keys: swarm.keys.json (SHA-256 <hash>)
    ! swarm: forged.jsonl is INVALID, and nothing is made of it: forged.jsonl:1: payload-mismatch: <...>; \`swarm verify forged.jsonl\` names all that is wrong
    [1]
    $ swarm replay --speed max
    ! swarm: --speed is for --to; without it nothing is sent
    [2]
    $ swarm replay --since yesterday
    ! swarm: option '--since <...>' argument 'yesterday' is invalid. It is neither <...>
    ! \`swarm replay --help\` shows how it is used.
    [2]
    $ swarm replay --to nats://127.0.0.1:1 --prefix thread.copy.
    ! swarm: option '--prefix <prefix>' argument 'thread.copy.' is invalid. Live agents listen there, and refuse copies.
    ! \`swarm replay --help\` shows how it is used.
    [2]
    $ swarm replay --from logs/swarm.jsonl:7 -q
    ! swarm: no record of logs/swarm.jsonl is named by logs/swarm.jsonl:7
    [3]
    $ swarm replay --from ${'f'.repeat(64)} -q
    ! swarm: no record of the logs has the leaf ${'f'.repeat(64)}
    [3]`,
  );
});

test('a command that is killed in the middle goes on where the stream ends, and nothing is there twice', async () => {
  await using server = await testServer();
  const folder = newFolder();
  const key = await saveAgent(folder, 'planner');
  let now = 1_700_000_000_000_000_000n;
  {
    await using log = await openLog(join(folder, 'logs/swarm.jsonl'), {
      key,
      clock: () => now,
      durability: 'os',
    });
    for (let n = 0; n < 2_000; n += 1) {
      await log.append(said(`${n}`));
      now += 10_000_000n; // 20 s in all
    }
  }
  await using bus = await connectBus({ url: server.url });
  const stored = async (): Promise<string[]> => {
    const ids: string[] = [];
    for await (const { headers } of readMessages(bus, { stream: 'REPLAY' }))
      ids.push(headers.messageId ?? '');
    return ids;
  };
  const killed = start(folder, ['replay', '--to', server.url, '--speed', '2x']);
  await killed.says('holds 0 of 2000 messages');
  while ((await stored()).length < 100) await new Promise((resolve) => setTimeout(resolve, 50));
  killed.signal('SIGKILL');
  await killed.ended.catch(() => undefined);
  const before = (await stored()).length;
  expect(before).toBeLessThan(2_000);
  await session(
    folder,
    `
    $ swarm replay --to ${server.url} --speed max
    Replayed 2000 records, 2000 messages, digest <hash>
    The same: stream REPLAY holds 2000 messages, digest <hash>
    ! Keys: swarm.keys.json (SHA-256 <hash>)
    ! Stream REPLAY at ${server.url} holds ${before} of 2000 messages
    $ swarm replay --to ${server.url} --json -q
    {"stream":"REPLAY","messages":2000,"sent":0,"digest":"<hash>","streamDigest":"<hash>"}`,
  );
  const digest = /digest (\w+)/;
  const sent = await shell(folder, `swarm replay --to ${server.url} -q | tail -1`);
  const told = await shell(folder, 'swarm replay --kind BUS.PUBLISH -q | tail -1');
  expect(digest.exec(sent.stdout)?.[1]).toBe(digest.exec(told.stdout)?.[1]);
  const ids = await stored();
  expect(new Set(ids).size).toBe(2_000);
});
