import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { sha256Hex, zeroHash } from '../../src/base/encoding.ts';
import { composeRecord, type Draft } from '../../src/record/draft.ts';
import { leafOfLine } from '../../src/record/entry.ts';
import { checkPayload, linesBytes, parseLine, printLine, verifyRecord } from '../../src/record/line.ts';
import { isJsonText } from '../../src/record/payload.ts';
import { receivedContradicts, receivedHash } from '../../src/record/received.ts';
import { signRecord, signRecords } from '../../src/record/sign.ts';
import { checkSignature, printReceived, type SignedRecord } from '../../src/record/signed.ts';
import { key, otherKey, payloads } from './arbitrary.ts';
import { recordVectors } from './vectors.ts';

const subject = 'thread.demo.planner';
const payload = Buffer.from('{"hello":"world","n":1}');
const publish: Draft = { subject, kind: 'BUS.PUBLISH', payload };
const delivery = { stream: 'THREADS', seq: 1, consumer: 'listener', attempt: 1 };

function flushOf(drafts: readonly Draft[]): SignedRecord[] {
  let prev = zeroHash;
  const unsigned = drafts.map((draft, seq) => {
    const place = { tsNs: BigInt(seq + 1), session: '0f'.repeat(16), seq, prev, signer: key.publicKey };
    const record = composeRecord(draft, place);
    prev = record.leaf;
    return record;
  });
  return signRecords(unsigned, key);
}

describe.skipIf(recordVectors === undefined)('lines of a second implementation', () => {
  test.each(recordVectors?.accepted ?? [])(
    'are accepted: $name',
    ({ line, header, leaf, payload_hex, received }) => {
      const verdict = verifyRecord(line);
      if (!verdict.ok) expect.fail(verdict.detail);
      const { record } = verdict;
      expect(record.text).toBe(header);
      expect(record.leaf).toBe(leaf);
      expect(record.payload?.toString('hex') ?? null).toBe(payload_hex);
      expect(record.received === undefined ? null : printReceived(record.received)).toBe(received);
      expect(receivedContradicts(record)).toBeUndefined();
      expect(verifyRecord(Buffer.from(line))).toEqual(verdict);
      expect(printLine(record)).toBe(line);
      expect(leafOfLine(Buffer.from(line))).toBe(leaf);
    },
  );

  test.each(recordVectors?.refused ?? [])('are refused as $problem: $name', ({ line_hex, problem }) => {
    const line = Buffer.from(line_hex, 'hex');
    expect(verifyRecord(line)).toMatchObject({ ok: false, problem });
    expect(parseLine(line).ok).toBe(problem !== 'malformed');
  });
});

test('a payload of any bytes comes back from its line as it was, as text where it is JSON', () => {
  fc.assert(
    fc.property(payloads, (bytes) => {
      const record = signRecord({ ...publish, payload: bytes }, key);
      const line = linesBytes([record]);
      expect(line.indexOf(0x0a)).toBe(line.length - 1);
      const verdict = verifyRecord(line.subarray(0, -1));
      expect(verdict).toEqual({ ok: true, record });
      expect(verdict.record?.payload?.equals(bytes)).toBe(true);
      expect(verdict.record?.payloadIsJson).toBe(isJsonText(bytes));
      expect(verifyRecord(printLine(record)).ok).toBe(true);
    }),
    { numRuns: 300 },
  );
});

test('a JSON payload may also come in base64', () => {
  const record = { ...signRecord(publish, key), payloadIsJson: false };
  expect(printLine(record)).toContain(`"payload_b64":"${payload.toString('base64')}"}`);
  expect(verifyRecord(printLine(record))).toEqual({ ok: true, record });
});

test('a withheld payload is no problem, and leaves the leaf as it was', () => {
  const record = signRecord(publish, key);
  const withheld = { ...record, payload: undefined, payloadIsJson: false };
  const verdict = verifyRecord(printLine(withheld));
  expect(verdict).toEqual({ ok: true, record: withheld });
  expect(verdict.record && checkPayload(verdict.record)).toBe(true);
  expect(leafOfLine(linesBytes([withheld]).subarray(0, -1))).toBe(record.leaf);
});

describe('single-byte changes', () => {
  const lines: Record<string, () => SignedRecord> = {
    'a publish alone in its flush': () => signRecord(publish, key),
    'a publish in a flush of five': () => flushOf(Array(5).fill(publish))[3] as SignedRecord,
    'a payload in base64': () => signRecord({ ...publish, payload: Buffer.of(0, 1, 2, 255) }, key),
    'a withheld payload': () =>
      signRecord({ subject, kind: 'BUS.PUBLISH', payloadHash: sha256Hex(payload) }, key),
    'a delivery of a message from a flush of three': () => {
      const received = flushOf([publish, publish, publish])[1] as SignedRecord;
      return signRecord(
        { subject, kind: 'BUS.DELIVER', cause: received.leaf, delivery, payload, received },
        otherKey,
      );
    },
    'a refusal that keeps a message whose signature does not hold': () => {
      const received = { ...signRecord(publish, key), signature: signRecord(publish, otherKey).signature };
      return signRecord(
        {
          subject,
          kind: 'BUS.REJECT',
          cause: received.leaf,
          delivery,
          reason: 'bad-signature',
          meta: { received: receivedHash(received) },
          payload,
          received,
        },
        otherKey,
      );
    },
    'every optional member': () =>
      signRecord(
        {
          subject,
          kind: 'TOOL.CALL',
          cause: zeroHash,
          refs: [zeroHash, zeroHash],
          trace: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
          delivery,
          reason: 'slow',
          step: 'llm:plan',
          meta: { model: 'm-1', tenant: 'acme' },
          payload,
        },
        key,
        { swarm: 'acme.prod' },
      ),
  };

  /** Whether a verifier lets the line pass: by itself, and in what it keeps. */
  const passes = (line: Uint8Array): boolean => {
    const verdict = verifyRecord(line);
    return verdict.ok && receivedContradicts(verdict.record) === undefined;
  };

  describe.each(Object.entries(lines))('of %s are all seen', (_, make) => {
    let line: Buffer;
    beforeAll(() => {
      line = linesBytes([make()]).subarray(0, -1);
      expect(passes(line)).toBe(true);
    });

    test('where a bit is flipped', () => {
      for (let bit = 0; bit < line.length * 8; bit++) {
        const changed = Buffer.from(line);
        changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        if (passes(changed)) expect.fail(`bit ${bit & 7} of byte ${bit >> 3} can be flipped: ${changed}`);
      }
    });

    test('where a byte is left out, doubled or put in', () => {
      for (let at = 0; at < line.length; at++) {
        const [before, after] = [line.subarray(0, at), line.subarray(at)];
        const edits = [after.subarray(1), Buffer.concat([after.subarray(0, 1), after])];
        for (const piece of [' ', '\t', '0', ',', '"', '\\', '\r', '\n', '=']) {
          edits.push(Buffer.concat([Buffer.from(piece), after]));
        }
        for (const edit of edits) {
          const changed = Buffer.concat([before, edit]);
          if (!changed.equals(line) && passes(changed)) expect.fail(`${at}: ${changed}`);
        }
      }
    });

    test('where the end is cut off', () => {
      for (let end = 0; end < line.length; end++) expect(passes(line.subarray(0, end))).toBe(false);
    });
  });
});

describe('the first problem is the one that is named', () => {
  const line = printLine(signRecord(publish, key));
  const wrongPayload = (text: string): string => text.replace('world', 'wired');
  const wrongHeader = (text: string): string => text.replace('planner', 'plannex');
  const wrongVersion = (text: string): string => text.replace('"version":2', '"version":7');
  const wrongShape = (text: string): string => text.replace('"payload":{', '"payload":[');
  const all = [wrongShape, wrongVersion, wrongHeader, wrongPayload];

  test.each([...['malformed', 'unsupported-version', 'bad-signature', 'payload-mismatch'].entries()])(
    '%i: %s',
    (at, problem) => {
      const verdict = verifyRecord(all.slice(at).reduce((text, change) => change(text), line));
      expect(verdict).toMatchObject({ ok: false, problem });
      expect(verdict.record === undefined).toBe(problem === 'malformed');
    },
  );
});

describe('a line is malformed', () => {
  const record = signRecord(publish, key);
  const line = printLine(record);
  const bare = line.replace(/,"payload":.*/, '}');
  const received = printReceived(record);
  const deliver = printLine(
    signRecord(
      { subject, kind: 'BUS.DELIVER', cause: record.leaf, delivery, payload, received: record },
      otherKey,
    ),
  );
  const edit = (text: string, from: string | RegExp, to: string): string => {
    const edited = text.replace(from, () => to);
    if (edited === text) throw new Error(`${from} is not in the line`);
    return edited;
  };
  const refused: Record<string, string | Buffer> = {
    'of no bytes': '',
    'that is a brace': '{',
    'that ends with LF': `${line}\n`,
    'that ends with CR': `${line}\r`,
    'that ends with a space': `${line} `,
    'that begins with a byte order mark': `\ufeff${line}`,
    'that begins with a space': ` ${line}`,
    'with an LF in its payload': edit(line, '{"hello"', '{\n"hello"'),
    'with two payloads': edit(line, /}$/, ',"payload":1}'),
    'with both forms of payload': edit(line, /}$/, ',"payload_b64":""}'),
    'with an empty payload': edit(bare, /}$/, ',"payload":}'),
    'with a member after its payload': edit(line, /}$/, ',"x":1}'),
    'with an unknown member': edit(line, ',"payload"', ',"x":1,"payload"'),
    'with a no-break space before its payload': edit(line, '"payload":', '"payload":\u00a0'),
    'with a payload_b64 without its quote': edit(bare, /}$/, ',"payload_b64":"}'),
    'with a payload_b64 without padding': edit(bare, /}$/, ',"payload_b64":"eA"}'),
    'with stray bits in payload_b64': edit(bare, /}$/, ',"payload_b64":"eB=="}'),
    'with base64url in payload_b64': edit(bare, /}$/, ',"payload_b64":"-_-_"}'),
    'with white space in payload_b64': edit(bare, /}$/, ',"payload_b64":"eHh4 "}'),
    'with a quote in payload_b64': edit(bare, /}$/, ',"payload_b64":"eHh4"eHh4"}'),
    'with a number in payload_b64': edit(bare, /}$/, ',"payload_b64":1}'),
    'with a signature of 63 bytes': edit(line, record.signature, Buffer.alloc(63).toString('base64')),
    'with an empty signature': edit(line, record.signature, ''),
    'without a signature': edit(line, /"sig_b64":"[^"]*",/, ''),
    'with its path before its signature': edit(line, ',"sig_b64"', ',"sig_path":"0/2/AAAA","sig_b64"'),
    'with a path of four digits': edit(line, ',"payload"', ',"sig_path":"0/1000/AAAA","payload"'),
    'with a path that is no path': edit(line, ',"payload"', ',"sig_path":"x","payload"'),
    'with a path of thousands of nodes': edit(
      line,
      ',"payload"',
      `,"sig_path":"0/2/${'A'.repeat(4000)}","payload"`,
    ),
    'that is a publish and keeps a message': edit(line, ',"payload"', `,"received":${received},"payload"`),
    'that keeps a message with its payload': edit(deliver, received, line),
    'that keeps a message with a space in it': edit(
      deliver,
      `"received":${received}`,
      `"received": ${received}`,
    ),
    'that keeps two messages': edit(deliver, ',"payload"', `,"received":${received},"payload"`),
    'that keeps its message after the payload': edit(
      edit(deliver, `,"received":${received}`, ''),
      /}$/,
      `,"received":${received}}`,
    ),
    'that keeps a message of another version': edit(
      deliver,
      received,
      edit(received, '"version":2', '"version":3'),
    ),
    'that keeps another record than a publish': edit(
      deliver,
      received,
      edit(received, 'BUS.PUBLISH', 'TOOL.CALL'),
    ),
    'that keeps another message than its cause': edit(
      deliver,
      received,
      edit(received, '"seq":0', '"seq":1'),
    ),
    'that keeps a message which keeps a message': edit(
      deliver,
      received,
      edit(deliver, /,"payload":.*$/, '}'),
    ),
    'that is a text with half a surrogate pair': edit(line, 'world', 'wor\ud800ld'),
    'that is not UTF-8': Buffer.from(edit(line, 'world', 'wor\u00e9ld'), 'latin1'),
  };

  test.each(Object.entries(refused))('%s', (_, text) => {
    expect(verifyRecord(text)).toMatchObject({ ok: false, problem: 'malformed' });
  });
});

describe('a signature does not hold', () => {
  const [first, second] = flushOf([publish, publish, publish]) as [SignedRecord, SignedRecord];
  const alone = signRecord(publish, key);
  const refused: Record<string, SignedRecord> = {
    'without its path': { ...first, path: undefined },
    'with the path of its neighbour': { ...first, path: second.path },
    'with a path that it has no need of': { ...alone, path: first.path },
    'of another record': { ...alone, signature: signRecord(publish, key).signature },
    'with a path of no nodes': { ...first, path: '0/3/' },
    'with a path whose base64 has stray bits': { ...first, path: `0/2/${'A'.repeat(42)}B=` },
  };

  test.each(Object.entries(refused))('%s', (_, record) => {
    expect(checkSignature(record)).toBe(false);
    expect(verifyRecord(printLine(record))).toMatchObject({ ok: false, problem: 'bad-signature' });
  });
});

test('a payload of 64 MiB is read, and one byte more is malformed, in either form', {
  timeout: 60_000,
}, () => {
  const open = printLine({ ...signRecord(publish, key), payload: undefined }).slice(0, -1);
  const most = 64 << 20;
  const json = (length: number): Buffer =>
    Buffer.concat([Buffer.from(`${open},"payload":"`), Buffer.alloc(length - 2, 'x'), Buffer.from('"}')]);
  const base64 = (length: number): Buffer =>
    Buffer.from(`${open},"payload_b64":"${Buffer.alloc(length).toString('base64')}"}`);
  for (const lineOf of [json, base64]) {
    expect(parseLine(lineOf(most)).record?.payload?.length).toBe(most);
    expect(parseLine(lineOf(most + 1))).toMatchObject({ problem: 'malformed' });
  }
});
