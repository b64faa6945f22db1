import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { type Bus, connectBus } from '../../src/bus/connection.ts';
import { readStored } from '../../src/bus/read-message.ts';
import { readMessages } from '../../src/bus/stored.ts';
import { ensureStream, threadsStream } from '../../src/bus/stream.ts';
import { openReplayStream } from '../../src/cli/replay-stream.ts';
import { SigningKey } from '../../src/identity/key.ts';
import { openLog } from '../../src/log/writer.ts';
import type { Draft } from '../../src/record/draft.ts';
import { parseLine, printLine } from '../../src/record/line.ts';
import type { SignedRecord } from '../../src/record/signed.ts';
import { type Republished, type RepublishOptions, republish } from '../../src/replay/republish.ts';
import { Story } from '../../src/replay/story.ts';
import { openTimeline } from '../../src/replay/timeline.ts';
import type { NatsServer } from '../../src/server/nats-server.ts';
import { linesOf, said, temporaryFolder } from '../support/log.ts';
import { testServer } from '../support/nats.ts';
import { version1Line } from '../support/version1.ts';

const key = SigningKey.generate();
const max = { speed: Number.POSITIVE_INFINITY };
const stream = 'REPLAY';

/** Writes a log of `drafts`, many to a flush, and returns its path. */
async function logOf(drafts: readonly Draft[], everyMs = 0): Promise<string> {
  const path = join(temporaryFolder(), 'swarm.jsonl');
  let now = 1_700_000_000_000_000_000n;
  const clock = (): bigint => now;
  await using log = await openLog(path, { key, durability: 'os', ...(everyMs > 0 && { clock }) });
  if (everyMs === 0) await Promise.all(drafts.map((draft) => log.append(draft)));
  for (const draft of everyMs > 0 ? drafts : []) {
    await log.append(draft);
    now += BigInt(everyMs) * 1_000_000n;
  }
  return path;
}

function numbered(count: number): Draft[] {
  return Array.from({ length: count }, (_, n) => said(`number ${n}`));
}

async function replayInto(
  server: NatsServer,
  path: string,
  options: RepublishOptions = max,
): Promise<Republished> {
  await using bus = await connectBus({ url: server.url, reconnectWaitMs: 50 });
  await using sink = await openReplayStream(bus, { stream, prefix: 'replay.' });
  using timeline = await openTimeline([path]);
  return await republish(timeline, sink, options);
}

async function stored(
  bus: Bus,
  name = stream,
): Promise<{ subject: string; headers: Record<string, string>; data: string }[]> {
  const all = [];
  for await (const { subject, headers, data } of readMessages(bus, { stream: name })) {
    const pairs = headers.names().map((header) => [header, headers.values(header).join()]);
    all.push({ subject, headers: Object.fromEntries(pairs), data: Buffer.from(data).toString('latin1') });
  }
  return all;
}

/** What the records of a log ought to be in the stream. */
function wanted(records: readonly SignedRecord[]): object[] {
  return records.map(({ header, text, leaf, signature, path, payload }, index) => ({
    subject: `replay.${header.subject}`,
    headers: {
      'Nats-Msg-Id': leaf,
      'Swarm-Record': text,
      'Swarm-Sig': signature,
      ...(path !== undefined && { 'Swarm-Path': path }),
      'Nats-Expected-Last-Sequence': String(index),
    },
    data: payload?.toString('latin1'),
  }));
}

function recordsOf(path: string): SignedRecord[] {
  return linesOf(path).flatMap((line) => parseLine(line).record ?? []);
}

test('messages come as they were, bytes and headers, in order, on subjects where no agent listens', async () => {
  await using server = await testServer();
  const path = await logOf([
    said('one'),
    { ...said(''), payload: Buffer.from([0, 255, 10]) },
    { subject: 'agent.step', kind: 'AGENT.STEP', step: 'think', payload: Buffer.from('1') },
    { ...said('four'), payload: Buffer.from('{ "n": 1730216238594927800 }') },
    said('five', 'thread.other.planner'),
  ]);
  await using bus = await connectBus({ url: server.url });
  await ensureStream(bus, threadsStream);
  const republished = await replayInto(server, path);
  const messages = recordsOf(path).filter(({ header }) => header.kind === 'BUS.PUBLISH');
  expect(await stored(bus)).toEqual(wanted(messages));
  expect(await stored(bus, 'THREADS')).toEqual([]);
  using timeline = await openTimeline([path]);
  const story = new Story(timeline, { kind: 'BUS.PUBLISH' });
  expect([...story.inOrder()]).toHaveLength(4);
  expect(republished).toEqual({
    messages: 4,
    sent: 4,
    digest: story.replayed.digest,
    sinkDigest: story.replayed.digest,
  });
});

test('a server that is killed in the middle and started again has each message once, in order', async () => {
  await using server = await testServer({ stopWithinMs: 0 });
  const path = await logOf(numbered(6_000));
  let killed: Promise<void> | undefined;
  const republished = await replayInto(server, path, {
    ...max,
    onProgress: ({ messages }) => {
      if (messages < 2_000) return;
      killed ??= (async () => {
        server.kill('SIGKILL');
        await server.exited;
        await server.restart();
      })();
    },
  });
  expect(killed).toBeDefined();
  await killed;
  expect(republished).toMatchObject({ messages: 6_000, sent: 6_000 });
  expect(republished.sinkDigest).toBe(republished.digest);
  await using bus = await connectBus({ url: server.url });
  expect(await stored(bus)).toEqual(wanted(recordsOf(path)));
});

test('what was stopped goes on where the stream ends, and what is there is not sent again', async () => {
  await using server = await testServer();
  const path = await logOf(numbered(3_000));
  const stop = new AbortController();
  const stopped = replayInto(server, path, {
    ...max,
    signal: stop.signal,
    onProgress: ({ messages }) => {
      if (messages > 500) stop.abort(new Error('paused'));
    },
  });
  await expect(stopped).rejects.toThrow('paused');
  await using bus = await connectBus({ url: server.url });
  const there = (await stored(bus)).length;
  expect(there).toBeGreaterThan(500);
  expect(there).toBeLessThan(3_000);
  expect(await replayInto(server, path)).toMatchObject({ messages: 3_000, sent: 3_000 - there });
  expect(await replayInto(server, path)).toMatchObject({ messages: 3_000, sent: 0 });
  expect(await stored(bus)).toEqual(wanted(recordsOf(path)));
});

test('two that replay the same at once put nothing there twice', async () => {
  await using server = await testServer();
  const path = await logOf(numbered(2_000));
  const both = await Promise.all([replayInto(server, path), replayInto(server, path)]);
  for (const { messages, digest, sinkDigest } of both)
    expect([messages, sinkDigest]).toEqual([2_000, digest]);
  await using bus = await connectBus({ url: server.url });
  expect(await stored(bus)).toEqual(wanted(recordsOf(path)));
});

test('a message that came there longer ago than the broker knows its id is not sent again', async () => {
  await using server = await testServer();
  const path = await logOf(numbered(2));
  await using bus = await connectBus({ url: server.url });
  await using sink = await openReplayStream(bus, { stream, prefix: 'replay.' });
  const [first, second] = recordsOf(path);
  if (first === undefined || second === undefined) throw new Error('no records');
  const payload = (record: SignedRecord): Buffer => record.payload ?? Buffer.alloc(0);
  await sink.send(1, first, payload(first));
  // Under another id, as if that of the first were forgotten: the broker sees only that it does not follow.
  await expect(sink.send(1, second, payload(second))).rejects.toMatchObject({ code: 'REPLAY_DIFFERS' });
  await sink.send(1, first, payload(first));
  await sink.send(2, second, payload(second));
  expect((await readStored(bus, { stream, seq: 2 }))?.headers.messageId).toBe(second.leaf);
  expect(await stored(bus)).toHaveLength(2);
});

test('a stream that holds something else, or more, is left alone', async () => {
  await using server = await testServer();
  const [one, other] = [await logOf(numbered(5)), await logOf(numbered(9))];
  await replayInto(server, one);
  await expect(replayInto(server, other)).rejects.toMatchObject({
    code: 'REPLAY_DIFFERS',
    message: expect.stringMatching(
      /^stream REPLAY does not hold this replay: its message 5 is not the record/,
    ),
  });
  const [first] = recordsOf(one);
  await expect(
    replayInto(server, one, { ...max, ...(first && { until: first.leaf }) }),
  ).rejects.toMatchObject({
    code: 'REPLAY_DIFFERS',
    message: expect.stringContaining('it holds 5 messages, and 1 are to be there'),
  });
  await using bus = await connectBus({ url: server.url });
  expect(await stored(bus)).toEqual(wanted(recordsOf(one)));
});

test('what has no payload, or no header to carry, is refused before anything is sent', async () => {
  await using server = await testServer();
  const path = await logOf(numbered(3));
  const lines = linesOf(path);
  const last = parseLine(lines[2] ?? '');
  if (!last.ok) throw new Error(last.detail);
  const withheld = printLine({ ...last.record, payload: undefined, payloadIsJson: false });
  writeFileSync(path, `${lines.with(2, withheld).join('\n')}\n`);
  await expect(replayInto(server, path)).rejects.toMatchObject({
    code: 'REPLAY_UNSENDABLE',
    message: expect.stringContaining(`${path}:3 cannot be sent again: its payload is withheld`),
  });
  const old = join(temporaryFolder(), 'swarm.jsonl');
  writeFileSync(old, `${version1Line('1')}\n`);
  await expect(replayInto(server, old)).rejects.toMatchObject({
    code: 'REPLAY_UNSENDABLE',
    message: expect.stringContaining('it is of version 1'),
  });
  await using bus = await connectBus({ url: server.url });
  expect(await stored(bus)).toEqual([]);
});

test('messages come at the distances at which they were said, or so many times faster', async () => {
  await using server = await testServer();
  const path = await logOf(numbered(6), 500);
  const times: number[] = [];
  await using bus = await connectBus({ url: server.url });
  await using sink = await openReplayStream(bus, { stream, prefix: 'replay.' });
  using timeline = await openTimeline([path]);
  const watched = {
    name: sink.name,
    size: () => sink.size(),
    has: (...asked: Parameters<typeof sink.has>) => sink.has(...asked),
    messages: () => sink.messages(),
    async send(...message: Parameters<typeof sink.send>): Promise<void> {
      times.push(performance.now());
      await sink.send(...message);
    },
  };
  const until = recordsOf(path)[2]?.leaf;
  await republish(timeline, watched, until && { until });
  await republish(timeline, watched, { speed: 10 });
  const [first = 0, , third = 0, fourth = 0, , last = 0] = times;
  expect(times).toHaveLength(6);
  expect(third - first).toBeGreaterThan(990);
  expect(last - fourth).toBeGreaterThan(95);
  expect(last - fourth).toBeLessThan(900);
});
