import { pbkdf2 } from 'node:crypto';
import { appendFileSync, mkdirSync, renameSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { SigningKey } from '../../src/identity/key.ts';
import { LogLock } from '../../src/log/lock.ts';
import { type LogLine, readLog } from '../../src/log/reader.ts';
import { openLog } from '../../src/log/writer.ts';
import { said, temporaryFolder } from '../support/log.ts';

function place(): string {
  return join(temporaryFolder(), 'swarm.jsonl');
}

async function read(path: string): Promise<LogLine[]> {
  const lines: LogLine[] = [];
  for await (const line of readLog(path)) lines.push(line);
  return lines;
}

const shown = (lines: readonly LogLine[]): unknown[] =>
  lines.map(({ at, bytes, terminated }) => [at.line, at.offset, bytes.toString(), terminated]);

describe('a log', () => {
  test('is read with numbers and offsets as an editor has them, blank lines counted and skipped', async () => {
    const path = place();
    writeFileSync(path, 'one\n\n\ntwo\nhalf');
    expect(shown(await read(path))).toEqual([
      [1, 0, 'one', true],
      [4, 6, 'two', true],
      [5, 10, 'half', false],
    ]);
  });

  test('may hold lines longer than any chunk, and many of them', async () => {
    const path = place();
    const lines = ['a'.repeat(3_000_000), 'b', 'c'.repeat(1 << 20), 'd'.repeat((1 << 20) - 1), 'e'];
    writeFileSync(path, `${lines.join('\n')}\n`);
    expect((await read(path)).map(({ bytes }) => bytes.toString())).toEqual(lines);
  });

  test('is read segment by segment, in the order of their numbers', async () => {
    const path = place();
    writeFileSync(path.replace('.jsonl', '.1000000.jsonl'), 'third\n');
    writeFileSync(path.replace('.jsonl', '.000002.jsonl'), 'second\n');
    writeFileSync(path.replace('.jsonl', '.000001.jsonl'), 'first\n');
    writeFileSync(path.replace('.jsonl', '.2026-11-22.jsonl'), 'no segment\n');
    writeFileSync(path, 'fourth\n');
    const lines = await read(path);
    expect(lines.map(({ bytes }) => bytes.toString())).toEqual(['first', 'second', 'third', 'fourth']);
    expect(lines.map(({ at }) => at.line)).toEqual([1, 1, 1, 1]);
  });

  test('is read from its last lines on, also where a segment is closed just then', async () => {
    const path = place();
    writeFileSync(path.replace('.jsonl', '.000001.jsonl'), '1\n2\n3\n');
    writeFileSync(path, '4\n5\n6\n');
    const lines: string[] = [];
    // Threads that are busy open the file only after the segment was closed.
    for (let n = 0; n < 8; n += 1) pbkdf2('', '', 20_000, 64, 'sha512', () => undefined);
    const reading = (async () => {
      for await (const { bytes } of readLog(path, { last: 4 })) lines.push(String(bytes));
    })();
    renameSync(path, path.replace('.jsonl', '.000002.jsonl'));
    writeFileSync(path, '7\n8\n');
    await reading;
    expect(lines).toEqual(['5', '6', '7', '8']);
  });

  test.each([
    ['that is not there', (path: string) => unlinkSync(path)],
    ['whose folder is not there', (path: string) => rmSync(join(path, '..'), { recursive: true })],
    ['that is a folder', (path: string) => mkdirSync(path + (unlinkSync(path) ?? ''))],
  ])('%s is an error that names it', async (_, spoil) => {
    const path = place();
    writeFileSync(path, '');
    spoil(path);
    await expect(read(path)).rejects.toMatchObject({
      code: 'LOG_OPEN',
      message: expect.stringContaining(path),
    });
  });
});

describe('a tail without a line feed', () => {
  test('is waited for while somebody holds the lock', async () => {
    const path = place();
    writeFileSync(path, 'one\ntw');
    const lock = LogLock.open(path);
    let reading: Promise<LogLine[]> | undefined;
    await lock.hold(() => {
      reading = read(path);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
      appendFileSync(path, 'o\n');
    });
    lock.close();
    expect(shown((await reading) ?? [])).toEqual([
      [1, 0, 'one', true],
      [2, 4, 'two', true],
    ]);
  });
});

describe('a log that is followed', () => {
  test('yields what is written later, across rotations, each line once and in order', async () => {
    const path = place();
    await using log = await openLog(path, { key: SigningKey.generate(), rotateBytes: 2_000 });
    await log.append(said('0'));
    const stop = new AbortController();
    const seen: string[] = [];
    const following = (async () => {
      for await (const { bytes } of readLog(path, { follow: true, signal: stop.signal })) {
        seen.push(/"text":"(\d+)"/.exec(bytes.toString())?.[1] ?? '?');
        if (seen.length === 30) stop.abort();
      }
    })();
    for (let n = 1; n < 30; n += 1) {
      await log.append(said(String(n)));
      if (n % 7 === 0) await new Promise((resolve) => setTimeout(resolve, 150));
    }
    await following;
    expect(seen).toEqual(Array.from({ length: 30 }, (_, n) => String(n)));
  });

  test('from its end yields only what is written later', async () => {
    const path = place();
    writeFileSync(path, 'old\nolder\n');
    const stop = new AbortController();
    setTimeout(() => appendFileSync(path, 'new\n'), 150);
    for await (const { bytes, at } of readLog(path, { follow: true, last: 0, signal: stop.signal })) {
      expect([bytes.toString(), at.line]).toEqual(['new', 3]);
      stop.abort();
    }
  });

  test('may come into being later', async () => {
    const path = place();
    const stop = new AbortController();
    setTimeout(() => writeFileSync(path, 'first\n'), 150);
    for await (const { bytes } of readLog(path, { follow: true, signal: stop.signal })) {
      expect(bytes.toString()).toBe('first');
      stop.abort();
    }
    expect.assertions(1);
  });
});
