/** `swarm reconcile` as a person or a script runs it. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect } from '@nats-io/transport-node';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openLog } from '../../src/log/writer.ts';
import type { NatsServer } from '../../src/server/nats-server.ts';
import { testServer } from '../support/nats.ts';
import { newFolder, saveAgent, session, start, swarm } from './swarm.ts';

let server: NatsServer;
beforeAll(async () => {
  server = await testServer();
});
afterAll(() => server.stop());

const env = (): Record<string, string> => ({ NATS_URL: server.url });

test('names what is missing, sends it again when asked to, and says what is left', async () => {
  const folder = newFolder();
  const key = await saveAgent(folder, 'planner');
  await session(
    folder,
    `$ swarm pub thread.t.planner 1
     thread.t.planner  seq 1  leaf <hash>
     $ swarm reconcile
     Reconciled 1 records of logs/swarm.jsonl, 1 messages of THREADS, 1 in both: they agree`,
    { env: env() },
  );
  const log = await openLog(join(folder, 'logs/swarm.jsonl'), { key });
  await log.append({ subject: 'thread.t.planner', kind: 'BUS.PUBLISH', payload: Buffer.from('2') });
  await log.close(); // as a publisher that was killed leaves it
  await session(
    folder,
    `$ swarm reconcile
     logs/swarm.jsonl:2: missing: the stream does not have it: it was never sent, or the broker has lost it (thread.t.planner, of planner, leaf <hash>)
     Reconciled 2 records of logs/swarm.jsonl, 1 messages of THREADS, 1 in both: 1 difference
     ! \`swarm reconcile --resend\` says again what is missing of our own.
     [1]
     $ swarm reconcile --resend
     logs/swarm.jsonl:2: missing: the stream does not have it: it was never sent, or the broker has lost it (thread.t.planner, of planner, leaf <hash>)
     Sent again: 1
     Reconciled 2 records of logs/swarm.jsonl, 1 messages of THREADS, 1 in both: they agree
     $ swarm reconcile
     Reconciled 2 records of logs/swarm.jsonl, 2 messages of THREADS, 2 in both: they agree`,
    { env: env() },
  );
  const plain = await connect({ servers: server.url });
  await plain.request('thread.t.planner', 'no signature', { timeout: 2_000 });
  await plain.close();
  const { code, stdout } = await swarm(folder, ['reconcile', '--json'], { env: env() });
  expect(code).toBe(1);
  expect(JSON.parse(stdout)).toMatchObject({
    agree: false,
    records: 2,
    messages: 3,
    differences: [{ code: 'unsigned', seq: 3, subject: 'thread.t.planner', file: null, key: null }],
    differenceCounts: { unsigned: 1 },
    counted: { agreed: 2 },
    resent: null,
  });
});

test('a broker that lost everything, the stream too, is filled again', async () => {
  await using empty = await testServer();
  const folder = newFolder();
  await saveAgent(folder, 'tester');
  await swarm(folder, ['pub', 'thread.t.tester', '1'], { env: env() });
  await session(
    folder,
    `$ swarm reconcile
     ! swarm: cannot read stream THREADS at ${empty.url}: there is no such stream; the first agent that joins creates it
     [3]
     $ swarm reconcile --resend
     logs/swarm.jsonl:1: missing: the stream does not have it: it was never sent, or the broker has lost it (thread.t.tester, of tester, leaf <hash>)
     Sent again: 1
     Reconciled 1 records of logs/swarm.jsonl, 0 messages of THREADS, 0 in both: they agree
     $ swarm reconcile
     Reconciled 1 records of logs/swarm.jsonl, 1 messages of THREADS, 1 in both: they agree`,
    { env: { NATS_URL: empty.url } },
  );
});

test('Ctrl-C ends it while the broker stands still, and the rest stays missing', async () => {
  await using slow = await testServer({ stopWithinMs: 0 });
  const folder = newFolder();
  const key = await saveAgent(folder, 'planner');
  const options = { env: { NATS_URL: slow.url } };
  await swarm(folder, ['pub', 'thread.t.planner', '0'], options);
  const log = await openLog(join(folder, 'logs/swarm.jsonl'), { key });
  const lost = Array.from({ length: 5_000 }, (_, n) =>
    log.append({ subject: 'thread.t.planner', kind: 'BUS.PUBLISH', payload: Buffer.from(String(n)) }),
  );
  await Promise.all(lost);
  await log.close();
  const plain = await connect({ servers: slow.url });
  const resent = plain.subscribe('thread.t.planner', { max: 1 });
  await plain.flush();
  const resending = start(folder, ['reconcile', '--resend'], options);
  for await (const _ of resent) slow.kill('SIGSTOP');
  await sleep(200);
  resending.signal('SIGINT');
  expect(await resending.ended).toMatchObject({ code: 130, stdout: '' });
  slow.kill('SIGCONT');
  await plain.close();
  const { code, stdout } = await swarm(folder, ['reconcile', '--json'], options);
  expect(code).toBe(1);
  const { messages, differenceCounts } = JSON.parse(stdout);
  expect(messages).toBeLessThan(5_001);
  expect(differenceCounts).toEqual({ missing: 5_001 - messages });
});

test('a command that joins says that it sent again what one that was killed left', async () => {
  const folder = newFolder();
  const key = await saveAgent(folder, 'coder');
  const log = await openLog(join(folder, 'logs/swarm.jsonl'), { key });
  await log.append({ subject: 'thread.t.coder', kind: 'BUS.PUBLISH', payload: Buffer.from('1') });
  await log.close();
  const { code, stderr } = await swarm(folder, ['pub', 'thread.t.coder', '2'], { env: env() });
  expect(code).toBe(0);
  expect(stderr).toContain('Sent again 1 of our messages that earlier sessions left unconfirmed.');
});

test('a log that does not verify is not compared, and a stream that is not there cannot be', async () => {
  const folder = newFolder();
  await saveAgent(folder, 'writer');
  await swarm(folder, ['pub', 'thread.t.writer', '1'], { env: env() });
  const elsewhere = await swarm(folder, ['reconcile', '--stream', 'NONE'], { env: env() });
  expect(elsewhere).toMatchObject({ code: 3, stderr: expect.stringContaining('there is no such stream') });
  const path = join(folder, 'logs/swarm.jsonl');
  writeFileSync(path, readFileSync(path, 'utf8').replace('"payload":1', '"payload":7'));
  const altered = await swarm(folder, ['reconcile'], { env: env() });
  expect(altered.code).toBe(1);
  expect(altered.stderr).toMatch(/is INVALID, and nothing is made of it: .*:1: payload-mismatch: /);
  expect(altered.stdout).toBe('');
});
