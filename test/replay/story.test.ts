import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import type { Sha256Hex } from '../../src/base/encoding.ts';
import { SigningKey } from '../../src/identity/key.ts';
import { openLog } from '../../src/log/writer.ts';
import type { Draft } from '../../src/record/draft.ts';
import type { SignedRecord } from '../../src/record/signed.ts';
import type { Selection } from '../../src/replay/selection.ts';
import { Story } from '../../src/replay/story.ts';
import { openTimeline, type Timeline } from '../../src/replay/timeline.ts';
import { said, temporaryFolder } from '../support/log.ts';

const key = SigningKey.generate();

/** Two threads: a question is heard and answered twice, in one; a result that draws on both goes to the other. */
async function conversation(): Promise<{ timeline: Timeline; leaves: Sha256Hex[] }> {
  const path = `${temporaryFolder()}/swarm.jsonl`;
  await using log = await openLog(path, { key });
  const heard = (received: SignedRecord): Draft => ({
    ...said(''),
    subject: received.header.subject,
    payload: received.payload ?? Buffer.alloc(0),
    kind: 'BUS.DELIVER',
    cause: received.leaf,
    received,
    delivery: { stream: 'THREADS', seq: 1, consumer: 'c', attempt: 1 },
  });
  const question = await log.append(said('question', 'thread.a.planner'));
  const other = await log.append(said('other', 'thread.b.planner'));
  const [first, second] = [await log.append(heard(question)), await log.append(heard(question))];
  const answer = await log.append({ ...said('answer', 'thread.a.worker'), cause: first.leaf });
  const refs = [answer.leaf];
  const better = await log.append({ ...said('better', 'thread.a.worker'), cause: second.leaf, refs });
  const last = await log.append({ ...heard(better) });
  const result = await log.append({ ...said('result', 'thread.b.worker'), cause: last.leaf, refs });
  const leaves = [question, other, first, second, answer, better, last, result].map(({ leaf }) => leaf);
  return { timeline: await openTimeline([path]), leaves };
}

function told(timeline: Timeline, selection: Selection = {}, memoryBytes?: number): unknown[][] {
  return Array.from(new Story(timeline, selection).byThread(memoryBytes), (place) => [
    place.threadId,
    place.number,
    place.level,
    place.because,
    place.drawsOn,
  ]);
}

test('a message stands below what led to it in its thread, and names what did and what else it drew on', async () => {
  const { timeline } = await conversation();
  using opened = timeline;
  const wanted = [
    ['a', 1, 0, undefined, []],
    ['a', 3, 0, 1, []],
    ['a', 4, 0, 1, []],
    ['a', 5, 1, 3, []],
    ['a', 6, 1, 4, [5]],
    ['a', 7, 1, 6, []],
    ['b', 2, 0, undefined, []],
    ['b', 8, 0, 7, [5]],
  ];
  expect(told(opened)).toEqual(wanted);
  expect(told(opened, {}, 1_500)).toEqual(wanted); // by way of the disk
});

test('where what led to a message is not selected, what led to that counts', async () => {
  const { timeline } = await conversation();
  using opened = timeline;
  expect(told(opened, { kind: 'BUS.PUBLISH' })).toEqual([
    ['a', 1, 0, undefined, []],
    ['a', 3, 1, 1, []],
    ['a', 4, 1, 1, [3]],
    ['b', 2, 0, undefined, []],
    ['b', 5, 0, 4, [3]],
  ]);
});

test('a selection is by thread, kind, time, and from one record up to another; its digest is over its leaves', async () => {
  const { timeline, leaves } = await conversation();
  using opened = timeline;
  const times = [...opened.places()].map(({ tsNs }) => tsNs);
  const cases: [Selection, number[]][] = [
    [{}, [0, 1, 2, 3, 4, 5, 6, 7]],
    [{ threadId: 'b' }, [1, 7]],
    [{ threadId: 'c' }, []],
    [{ kind: 'BUS.DELIVER', threadId: 'a' }, [2, 3, 6]],
    [{ sinceNs: times[5] ?? 0n }, [5, 6, 7]],
    [{ from: leaves[2] ?? ('' as Sha256Hex), until: leaves[4] ?? ('' as Sha256Hex) }, [2, 3, 4]],
    [{ from: leaves[7] ?? ('' as Sha256Hex) }, [7]],
    [{ until: leaves[0] ?? ('' as Sha256Hex) }, [0]],
  ];
  for (const [selection, indices] of cases) {
    const story = new Story(opened, selection);
    const places = [...story.inOrder()];
    expect(places.map(({ index }) => index)).toEqual(indices);
    const bytes = indices.map((index) => Buffer.from(leaves[index] ?? '', 'hex'));
    expect(story.replayed).toEqual({
      records: indices.length,
      messages: places.filter(({ kind }) => kind === 'BUS.PUBLISH').length,
      digest: createHash('sha256').update(Buffer.concat(bytes)).digest('hex'),
    });
  }
});

test('a record that is not there, or a last one before the first, is an error', async () => {
  const { timeline, leaves } = await conversation();
  using opened = timeline;
  const [first, second] = leaves;
  const nobody = 'f'.repeat(64) as Sha256Hex;
  const replay = (selection: Selection) => () => told(opened, selection);
  for (const selection of [{ from: nobody }, { until: nobody }]) {
    expect(replay(selection)).toThrow(`no record of the logs has the leaf ${nobody}`);
  }
  if (first === undefined || second === undefined) throw new Error('no records');
  expect(replay({ from: second, until: first })).toThrow(/is to be the last, comes before/);
});
