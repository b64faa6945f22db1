/** A log's lines come out the same however the file is cut into ranges, and whoever examines them. */
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, onTestFinished, test } from 'vitest';
import { SigningKey } from '../../src/identity/key.ts';
import { openLog } from '../../src/log/writer.ts';
import { leafOfLine } from '../../src/record/entry.ts';
import { type Batch, BatchEntry } from '../../src/verify/batch.ts';
import { Examiners } from '../../src/verify/examiners.ts';
import { examineRange } from '../../src/verify/range.ts';
import { verifyLog } from '../../src/verify/verify.ts';
import { AttackedLog } from '../support/attacked-log.ts';
import { logOf, said, temporaryFolder } from '../support/log.ts';

const options = { quick: false, requirePayloads: false };
const key = SigningKey.generate();

/** What batches in the file's order say, with lines counted from 0 over all of them. */
class Said {
  readonly lines: unknown[] = [];
  openAt: number | undefined;
  bytes = 0;
  #line = 0;

  take(batch: Batch): this {
    const entry = new BatchEntry(batch);
    for (let index = 0; index < batch.count; index += 1) {
      const { leaf, prev, cause, bytesHash, session, tsNs, seq, offset, line, signer, swarm } =
        entry.moveTo(index);
      const { subject, spokenSigner, kind, isWithheld, isFlushEnd, isPublish, isDelivery } = entry;
      const faults = batch.faults
        .filter((fault) => fault.entry === index)
        .map(({ code, detail }) => [code, detail]);
      const ids = [
        leaf,
        prev,
        cause,
        bytesHash,
        session,
        tsNs,
        seq,
        signer,
        swarm,
        subject,
        spokenSigner,
        kind,
      ];
      const flags = [isWithheld, isFlushEnd, isPublish, isDelivery];
      this.lines.push([this.#line + line, offset, ...ids, ...flags, faults]);
    }
    this.#line += batch.lines;
    this.bytes += batch.bytes;
    this.openAt ??= batch.openAt;
    return this;
  }

  get all(): unknown {
    return { lines: this.lines, count: this.#line, openAt: this.openAt, bytes: this.bytes };
  }
}

function opened(path: string): number {
  const fd = openSync(path, 'r');
  onTestFinished(() => closeSync(fd));
  return fd;
}

function inRangesOf(length: number, fd: number, fileEnd: number): unknown {
  const said = new Said();
  for (let start = 0; start < fileEnd; start += length) {
    said.take(examineRange({ fd, start, end: Math.min(fileEnd, start + length), fileEnd }, options));
  }
  return said.all;
}

const contents: Readonly<Record<string, (log: Buffer) => Buffer>> = {
  'a log': (log) => log,
  'a log without its last LF': (log) => log.subarray(0, -1),
  'a log that begins and ends with blank lines': (log) =>
    Buffer.concat([Buffer.from('\n\n'), log, Buffer.from('\n\n\n')]),
  'a log with CRLF': (log) => Buffer.from(log.toString('latin1').replaceAll('\n', '\r\n'), 'latin1'),
  'a log with a torn line in it': (log) => Buffer.concat([log, log.subarray(0, 300), Buffer.from('\n'), log]),
  'one line feed': () => Buffer.from('\n'),
  'one byte': () => Buffer.from('x'),
};

test.each(Object.entries(contents))(
  '%s says the same in ranges of every length',
  async (_, contentOf) => {
    const path = await logOf(3, key);
    const content = contentOf(readFileSync(path));
    writeFileSync(path, content);
    const fd = opened(path);
    const whole = inRangesOf(content.length, fd, content.length);
    expect(whole).toMatchObject({ bytes: content.length });
    for (let length = 1; length < content.length; length += 1) {
      expect(inRangesOf(length, fd, content.length), `ranges of ${length}`).toEqual(whole);
    }
  },
  60_000,
);

test('a log of every kind of line says the same in ranges of many lengths', async () => {
  using log = await AttackedLog.write();
  const fd = opened(log.path);
  const size = log.original.length;
  const whole = inRangesOf(size, fd, size);
  for (let length = 97; length < size; length += 97) expect(inRangesOf(length, fd, size)).toEqual(whole);
});

test('any bytes are lines at their places, with the leaf of each, in ranges of any length', () => {
  const path = join(temporaryFolder(), 'bytes');
  const byte = fc.oneof(fc.constantFrom(0x0a, 0x0d, 0x20, 0x7b, 0x22), fc.nat(255));
  fc.assert(
    fc.property(fc.array(byte, { maxLength: 60 }), fc.integer({ min: 1, max: 61 }), (numbers, length) => {
      const bytes = Buffer.from(numbers);
      writeFileSync(path, bytes);
      const fd = openSync(path, 'r');
      try {
        const lines = bytes.toString('latin1').split('\n');
        const last = lines.pop() ?? '';
        const {
          lines: found,
          count,
          openAt,
        } = inRangesOf(length, fd, bytes.length) as Said & { count: number };
        expect(count).toBe(lines.length);
        expect(openAt).toBe(last === '' ? undefined : bytes.length - last.length);
        let offset = 0;
        const expected = lines.flatMap((line, number) => {
          const place = [number, offset, leafOf(line)];
          offset += line.length + 1;
          return line === '' ? [] : [place];
        });
        expect(found.map((line) => (line as unknown[]).slice(0, 3))).toEqual(expected);
      } finally {
        closeSync(fd);
      }
    }),
    { numRuns: 500 },
  );
});

function leafOf(line: string): string {
  return leafOfLine(Buffer.from(line, 'latin1'));
}

test('an empty file has nothing to say', async () => {
  const path = join(temporaryFolder(), 'swarm.jsonl');
  writeFileSync(path, '');
  expect(await verifyLog(path)).toMatchObject({ verdict: 'CONSISTENT', records: 0, findings: [], trees: [] });
});

describe('threads', () => {
  /** Writes a log of so many megabytes, with lines that are longer than a range and some that are nobody's. */
  async function largeLog(megabytes: number): Promise<string> {
    const path = join(temporaryFolder(), 'swarm.jsonl');
    await using log = await openLog(path, { key, durability: 'os' });
    for (let written = 0; written < megabytes; ) {
      const size = written === 0 ? 5 : 0.3;
      await log.append(said('x'.repeat(size * 1e6)));
      await Promise.all([1, 2, 3].map((n) => log.append(said(`between ${n}`))));
      written += size;
    }
    const bytes = readFileSync(path);
    bytes[5_000_000] = 0x0a; // cuts the long line
    bytes[9_000_000] = 0x21;
    writeFileSync(path, bytes);
    return path;
  }

  test('give back the same batches in the same order', async () => {
    const path = await largeLog(11);
    const fd = opened(path);
    const size = readFileSync(path).length;
    const whole = inRangesOf(size, fd, size);
    for (const jobs of [1, 2, 3]) {
      await using examiners = new Examiners(options, 1e9, jobs);
      const said = new Said();
      for await (const batch of examiners.examine(fd, 0, size)) said.take(batch);
      expect(said.all).toEqual(whole);
    }
  });

  test('make the same report of a large log', async () => {
    const path = await largeLog(18);
    const report = await verifyLog(path, { jobs: 1 });
    expect(report.findings.map(({ code }) => code)).toEqual([
      'malformed',
      'malformed',
      'chain-broken',
      'payload-mismatch',
    ]);
    expect(await verifyLog(path, { jobs: 2 })).toEqual(report);
  });

  test('that die are an exception, never an answer', async () => {
    await using examiners = new Examiners(options, 1e9, 2);
    const noFile = 1_000_000;
    const read = async (): Promise<void> => {
      for await (const _ of examiners.examine(noFile, 0, 9_000_000)) throw new Error('an answer');
    };
    await expect(read()).rejects.toThrow(/EBADF/);
    const fd = opened(await logOf(3, key));
    const readOn = async (): Promise<void> => {
      for await (const _ of examiners.examine(fd, 0, 100)) throw new Error('an answer');
    };
    await expect(readOn()).rejects.toThrow(/EBADF/);
  });

  test('or none: a file that becomes shorter is an exception as well', async () => {
    const path = await logOf(3, key);
    const examine = (): Batch =>
      examineRange({ fd: opened(path), start: 0, end: 1e6, fileEnd: 1e6 }, options);
    expect(examine).toThrow('became shorter');
  });
});
