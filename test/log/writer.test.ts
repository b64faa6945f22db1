import { appendFileSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { sha256Hex } from '../../src/base/encoding.ts';
import { logFlushed } from '../../src/base/events.ts';
import { SigningKey } from '../../src/identity/key.ts';
import { closedSegments } from '../../src/log/files.ts';
import { openLog } from '../../src/log/writer.ts';
import { verifyRecord } from '../../src/record/line.ts';
import { verifyLog } from '../../src/verify/verify.ts';
import { linesOf, said, temporaryFolder } from '../support/log.ts';

const key = SigningKey.generate();

function place(): string {
  return join(temporaryFolder(), 'logs', 'swarm.jsonl');
}

describe('append', () => {
  test('resolves with the record that stands on its line', async () => {
    const path = place();
    await using log = await openLog(path, { key });
    const record = await log.append(said('hello'));
    const verified = verifyRecord(linesOf(path)[0] ?? '');
    expect(verified).toMatchObject({ ok: true, record: { leaf: record.leaf, text: record.text } });
    expect(record.path).toBeUndefined();
  });

  test('shares one flush between the appends of a turn, in the order of the calls', async () => {
    const path = place();
    const flushes: number[] = [];
    const stop = logFlushed.subscribe(({ records }) => flushes.push(records));
    await using log = await openLog(path, { key });
    const records = await Promise.all(Array.from({ length: 600 }, (_, n) => log.append(said(String(n)))));
    stop();
    expect(flushes).toEqual([256, 256, 88]);
    expect(linesOf(path).map((line) => line.slice(line.indexOf(',"payload":')))).toEqual(
      records.map((_, n) => `,"payload":{"text":"${n}"}}`),
    );
    expect(new Set(records.map(({ signature }) => signature)).size).toBe(3);
    expect(await verifyLog(path)).toMatchObject({ verified: 600, bad: 0 });
  });

  test('bounds a flush in bytes, yet writes a record that is larger alone', async () => {
    const flushes: number[] = [];
    const path = place();
    await using log = await openLog(path, { key });
    const large = { ...said(''), payload: Buffer.alloc(3 << 20, 0x20) };
    const half = { ...said(''), payload: Buffer.alloc(600_000) };
    const stop = logFlushed.subscribe(({ records }) => flushes.push(records));
    await Promise.all([half, half, large, half].map((draft) => log.append(draft)));
    stop();
    expect(flushes).toEqual([1, 1, 1, 1]);
  });

  test('never leaves an append unsettled, however appends and flushes interleave', async () => {
    const path = place();
    let appended = 0;
    await using log = await openLog(path, { key, durability: 'os' });
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(6), { minLength: 1, maxLength: 40 }), async (pauses) => {
        const pending = pauses.map(async (pause, index) => {
          for (let turn = 0; turn < pause; turn += 1)
            await (turn % 2 === 0 ? null : new Promise(setImmediate));
          await log.append(said(String(index)));
        });
        await Promise.all(pending);
        appended += pauses.length;
      }),
      { numRuns: 150 },
    );
    expect(await verifyLog(path)).toMatchObject({ verified: appended, bad: 0 });
  });

  test('refuses a draft that the format does not allow, and goes on', async () => {
    const path = place();
    await using log = await openLog(path, { key });
    await expect(log.append({ ...said('x'), subject: 'thread..x' })).rejects.toMatchObject({
      code: 'RECORD_INVALID',
    });
    await expect(log.append({ ...said('x'), reason: 'none' })).rejects.toMatchObject({
      code: 'RECORD_INVALID',
    });
    await log.append(said('fine'));
    expect(await verifyLog(path)).toMatchObject({ verified: 1, bad: 0 });
  });

  test('is refused after close, which writes what was waiting first', async () => {
    const path = place();
    const log = await openLog(path, { key });
    const waiting = log.append(said('in time'));
    await log.close();
    await expect(waiting).resolves.toMatchObject({ header: { seq: 0 } });
    await expect(log.append(said('too late'))).rejects.toMatchObject({ code: 'LOG_CLOSED' });
    expect(linesOf(path)).toHaveLength(1);
  });
});

describe('a session', () => {
  test('begins after the last line that stood in the file when it was opened', async () => {
    const path = place();
    const first = await openLog(path, { key });
    const { leaf } = await first.append(said('one'));
    await first.close();
    await using second = await openLog(path, { key });
    expect((await second.append(said('two'))).header).toMatchObject({ seq: 0, prev: leaf });
  });

  test('ends where the clock is set back, and a new one goes on', async () => {
    const path = place();
    let now = 2_000_000_000_000_000_000n;
    await using log = await openLog(path, { key, clock: () => now });
    const before = await log.append(said('before'));
    now -= 60_000_000_000n;
    const after = await log.append(said('after'));
    expect(after.header).toMatchObject({ seq: 0, prev: before.leaf, tsNs: now });
    expect(after.header.session).not.toBe(before.header.session);
    expect(await verifyLog(path)).toMatchObject({ verified: 2, bad: 0, counted: { flushCut: 0 } });
  });

  test('rises even while the clock stands still', async () => {
    const path = place();
    await using log = await openLog(path, { key, clock: () => 1_000_000_000_000_000_000n });
    await Promise.all([log.append(said('a')), log.append(said('b'))]);
    await log.append(said('c'));
    expect(await verifyLog(path)).toMatchObject({ verified: 3, bad: 0 });
    expect(new Set(linesOf(path).map((line) => /"session":"(\w+)"/.exec(line)?.[1])).size).toBe(1);
  });
});

describe('a torn tail', () => {
  test.each([
    [
      'before the log is opened',
      async (path: string, tear: () => void) => {
        tear();
        return openLog(path, { key });
      },
    ],
    [
      'by another writer, while the log is open',
      async (path: string, tear: () => void) => {
        const log = await openLog(path, { key });
        await log.append(said('before'));
        tear();
        return log;
      },
    ],
  ])('left %s is named by a LOG.RECOVER, and what follows is whole', async (_, openAfter) => {
    const path = place();
    const earlier = await openLog(path, { key });
    await earlier.append(said('earlier'));
    await earlier.close();
    const torn = '{"ts_ns":17302162385949278';
    await using log = await openAfter(path, () => appendFileSync(path, torn));
    await log.append(said('after'));
    const report = await verifyLog(path);
    expect(report).toMatchObject({ bad: 0, counted: { recovered: 1 } });
    const recovery = linesOf(path).find((line) => line.includes('LOG.RECOVER'));
    expect(recovery).toContain(`"payload":{"bytes":${torn.length},"sha256":"${sha256Hex(torn)}"}`);
  });
});

describe('rotation', () => {
  test('closes a segment that would grow past rotateBytes; the next names its last leaf; reading crosses them', async () => {
    const path = place();
    await using log = await openLog(path, { key, rotateBytes: 3_000 });
    for (let n = 0; n < 20; n += 1) await log.append(said(String(n)));
    const closed = closedSegments(path);
    expect(closed.length).toBeGreaterThan(2);
    for (const file of closed) expect(readFileSync(file).length).toBeLessThanOrEqual(3_000);
    const report = await verifyLog(path);
    expect(report).toMatchObject({ verified: 20, bad: 0, counted: { continues: 0 } });
    expect(report.trees.map(({ file }) => file)).toEqual([...closed, path]);
  });

  test('by one writer moves the others on, each with a new session', async () => {
    const path = place();
    await using one = await openLog(path, { key, rotateBytes: 3_000 });
    await using other = await openLog(path, { key: SigningKey.generate(), rotateBytes: 1e9 });
    await other.append(said('other, before'));
    for (let n = 0; n < 8; n += 1) await one.append(said(String(n)));
    expect((await other.append(said('other, after'))).header.seq).toBe(0);
    expect(await verifyLog(path)).toMatchObject({ verified: 10, bad: 0 });
  });

  test('survives a writer that died between closing the old segment and making the new one', async () => {
    const path = place();
    const first = await openLog(path, { key });
    const { leaf } = await first.append(said('one'));
    await first.close();
    renameSync(path, path.replace('.jsonl', '.000001.jsonl'));
    await using second = await openLog(path, { key });
    expect((await second.append(said('two'))).header.prev).toBe(leaf);
    expect(await verifyLog(path)).toMatchObject({ verified: 2, bad: 0 });
  });
});

describe('what cannot be written', () => {
  test('a folder in the way is named', async () => {
    const path = place();
    await (await openLog(path, { key })).close();
    await expect(openLog(join(path, 'below.jsonl'), { key })).rejects.toMatchObject({
      code: 'LOG_OPEN',
      message: expect.stringContaining('below.jsonl'),
    });
    await expect(openLog(join(path, '..'), { key })).rejects.toMatchObject({ code: 'LOG_OPEN' });
  });

  test('after a failed write everything is refused, with the reason, until the log is opened again', async () => {
    const path = place();
    mkdirSync(dirname(path));
    symlinkSync('/dev/full', path); // a disk without room, as the system itself offers one
    const log = await openLog(path, { key });
    const failures = await Promise.allSettled([log.append(said('a')), log.append(said('b'))]);
    for (const failure of failures) {
      expect(failure).toMatchObject({
        status: 'rejected',
        reason: { code: 'LOG_WRITE_FAILED', message: expect.stringMatching(/swarm\.jsonl: ENOSPC/) },
      });
    }
    rmSync(path);
    await expect(log.append(said('c'))).rejects.toMatchObject({ code: 'LOG_WRITE_FAILED' });
    await log.close();
    await using again = await openLog(path, { key });
    await again.append(said('d'));
    expect(await verifyLog(path)).toMatchObject({ verified: 1, bad: 0 });
  });
});
