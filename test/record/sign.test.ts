import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { sha256Hex, zeroHash } from '../../src/base/encoding.ts';
import { checkDraft, checkSwarm, composeRecord, type Draft } from '../../src/record/draft.ts';
import { printLine, verifyRecord } from '../../src/record/line.ts';
import { payloadBytes } from '../../src/record/payload.ts';
import { signRecord, signRecords } from '../../src/record/sign.ts';
import { checkSignature, flushPlaceOf } from '../../src/record/signed.ts';
import {
  deliveries,
  hashes,
  key,
  optionalMembers,
  otherKey,
  payloads,
  reasons,
  subjects,
} from './arbitrary.ts';

const subject = 'thread.demo.planner';
const payload = Buffer.from('{"n":1}');
const publish: Draft = { subject, kind: 'BUS.PUBLISH', payload };
const message = signRecord(publish, key);
const delivery = { stream: 'S', seq: 1, consumer: '', attempt: 1 };

const drafts: fc.Arbitrary<Draft> = fc
  .tuple(
    fc.oneof(
      fc.record({
        kind: fc.constantFrom('BUS.PUBLISH', 'TOOL.CALL'),
        cause: fc.option(hashes, { nil: undefined }),
      }),
      fc.record({ kind: fc.constant('BUS.UNSENT'), cause: hashes, reason: reasons }),
      fc.record({ kind: fc.constant('BUS.DEAD'), cause: hashes, reason: reasons, delivery: deliveries }),
      fc.record({
        kind: fc.constant('BUS.DELIVER'),
        cause: fc.constant(message.leaf),
        received: fc.constant(message),
        delivery: deliveries,
      }),
    ),
    fc.record(optionalMembers, { requiredKeys: [] }),
    subjects,
    payloads,
    fc.boolean(),
  )
  .map(([members, optional, on, bytes, isWithheld]) => ({
    ...members,
    ...optional,
    subject: on,
    ...(isWithheld ? { payloadHash: sha256Hex(bytes) } : { payload: bytes }),
  }));

test('whatever passes as a draft is a record that verifies, and reads back as what it said', () => {
  fc.assert(
    fc.property(drafts, (draft) => {
      const record = signRecord(draft, key, { swarm: 'acme' });
      const verdict = verifyRecord(printLine(record));
      if (!verdict.ok) expect.fail(verdict.detail);
      const { header } = verdict.record;
      const { payload: bytes, payloadHash, received, ...said } = draft;
      expect(header).toMatchObject({ ...said, swarm: 'acme', signer: key.publicKey, seq: 0, prev: zeroHash });
      expect(header.payloadHash).toBe(payloadHash ?? sha256Hex(bytes ?? ''));
      expect(verdict.record.received?.leaf).toBe(received?.leaf);
    }),
    { numRuns: 200 },
  );
});

describe('no record can be made', () => {
  const step: Draft = { subject: 'agent.step', kind: 'AGENT.STEP', step: 's', payload };
  const refused: Record<string, [draft: Draft, names: string]> = {
    'on a subject of one token': [{ ...publish, subject: 'thread' }, 'subject'],
    'on a subject with a wildcard': [{ ...publish, subject: 'thread.*' }, 'subject'],
    'on a subject that would close its text': [{ ...publish, subject: 'thread.x","kind":"Y' }, 'subject'],
    'on a subject of 256 bytes': [{ ...publish, subject: `thread.${'x'.repeat(249)}` }, 'subject'],
    'on a subject with a line feed': [{ ...publish, subject: 'thread.x\n' }, 'subject'],
    'of a kind in lowercase': [{ ...publish, kind: 'publish' }, 'kind'],
    'of a kind of 33 letters': [{ ...publish, kind: 'K'.repeat(33) }, 'kind'],
    'without a payload or its hash': [{ subject, kind: 'BUS.PUBLISH' }, 'payload'],
    'with a payload and a hash': [{ ...publish, payloadHash: zeroHash }, 'payload'],
    'with a hash that is none': [{ subject, kind: 'X', payloadHash: 'ab' as never }, 'payloadHash'],
    'with a cause that is none': [{ ...publish, cause: 'ab' as never }, 'cause'],
    'with no refs in refs': [{ ...publish, refs: [] }, 'refs'],
    'with 17 refs': [{ ...publish, refs: Array(17).fill(zeroHash) }, 'refs'],
    'with a ref that is none': [
      { ...publish, refs: [zeroHash, zeroHash.toUpperCase().slice(1) as never] },
      'refs',
    ],
    'with a trace that is none': [{ ...publish, trace: '00-1-2-01' }, 'trace'],
    'with a trace of zeros': [{ ...publish, trace: `00-${'0'.repeat(32)}-${'1'.repeat(16)}-01` }, 'trace'],
    'with delivery 0': [{ ...publish, kind: 'X', delivery: { ...delivery, seq: 0 } }, 'delivery.seq'],
    'with delivery 2^53': [
      { ...publish, kind: 'X', delivery: { ...delivery, seq: 2 ** 53 } },
      'delivery.seq',
    ],
    'with attempt 10^9': [
      { ...publish, kind: 'X', delivery: { ...delivery, attempt: 1e9 } },
      'delivery.attempt',
    ],
    'with half an attempt': [
      { ...publish, kind: 'X', delivery: { ...delivery, attempt: 1.5 } },
      'delivery.attempt',
    ],
    'with a stream without a name': [
      { ...publish, kind: 'X', delivery: { ...delivery, stream: '' } },
      'delivery.stream',
    ],
    'with a consumer with a dot': [
      { ...publish, kind: 'X', delivery: { ...delivery, consumer: 'a.b' } },
      'delivery.consumer',
    ],
    'with a reason in capitals': [{ ...publish, kind: 'X', reason: 'Late' }, 'reason'],
    'with a step with a quote': [{ ...step, step: '"' }, 'step'],
    'with an empty meta': [{ ...publish, meta: {} }, 'meta'],
    'with nine pairs of meta': [
      { ...publish, meta: Object.fromEntries([...'abcdefghi'].map((name) => [name, '1'])) },
      'meta',
    ],
    'with a meta key in capitals': [{ ...publish, meta: { Model: 'x' } }, 'meta'],
    'with an empty meta value': [{ ...publish, meta: { model: '' } }, 'meta'],
    'of a publish with a delivery': [{ ...publish, delivery }, 'delivery'],
    'of a delivery without its message': [
      { ...publish, kind: 'BUS.DELIVER', cause: message.leaf, delivery },
      'received',
    ],
    'of a delivery of another message': [
      { ...publish, kind: 'BUS.DELIVER', cause: zeroHash, delivery, received: message },
      'cause',
    ],
    'of a publish that keeps a message': [{ ...publish, cause: message.leaf, received: message }, 'received'],
    'of a step elsewhere without a cause': [{ ...step, subject }, 'agent.step'],
  };

  test.each(Object.entries(refused))('%s', (_, [draft, names]) => {
    for (const make of [() => checkDraft(draft), () => signRecord(draft, key)]) {
      expect(make).toThrow(
        expect.objectContaining({ code: 'RECORD_INVALID', message: expect.stringContaining(names) }),
      );
    }
  });

  test.each([
    ['before 1970', { tsNs: -1n }],
    ['after 2262', { tsNs: 2n ** 63n }],
    ['in a session without a name', { session: '' }],
    ['before the first of its session', { seq: -1 }],
    ['past the last of a session', { seq: 2 ** 53 }],
    ['after something that is no leaf', { prev: 'x' as never }],
    ['in a swarm with a space', { swarm: 'a b' }],
  ])('%s', (_, place) => {
    expect(() => signRecord(publish, key, place)).toThrow(
      expect.objectContaining({ code: 'RECORD_INVALID' }),
    );
  });

  test('with a payload over 64 MiB', () => {
    const draft = { ...publish, payload: new Uint8Array(payloadBytes + 1) };
    expect(() => checkDraft(draft)).toThrow(expect.objectContaining({ code: 'PAYLOAD_INVALID' }));
  });
});

test('a swarm has a name that fits a header', () => {
  checkSwarm('acme.prod-1_eu');
  for (const name of ['', 'a b', 's'.repeat(65), 'ä', 'a"b', 'a\n'])
    expect(() => checkSwarm(name)).toThrow('swarm');
});

test('a record by itself is the first of a new session, written now', () => {
  const before = BigInt(Date.now()) * 1_000_000n;
  const [one, two] = [signRecord(publish, key), signRecord(publish, key)];
  expect(one.header).toMatchObject({ seq: 0, prev: zeroHash, version: 2, threadId: 'demo' });
  expect(one.header.session).not.toBe(two.header.session);
  expect(one.header.tsNs >= before - 10_000_000n && two.header.tsNs < before + 10_000_000_000n).toBe(true);
  expect(one.path).toBeUndefined();
  expect(flushPlaceOf(one)).toEqual({ index: 0, size: 1 });
});

test('records signed together are each signed, in their order', () => {
  const unsigned = Array.from({ length: 11 }, (_, seq) =>
    composeRecord(publish, {
      tsNs: BigInt(seq),
      session: 'ab'.repeat(16),
      seq,
      prev: zeroHash,
      signer: key.publicKey,
    }),
  );
  const records = signRecords(unsigned, key);
  for (const [index, record] of records.entries()) {
    expect(record.header.seq).toBe(index);
    expect(flushPlaceOf(record)).toEqual({ index, size: 11 });
    expect(checkSignature(record)).toBe(true);
    expect(verifyRecord(printLine(record))).toEqual({ ok: true, record });
  }
});

test('a key signs only for itself', () => {
  const record = composeRecord(publish, {
    tsNs: 1n,
    session: 'ab'.repeat(16),
    seq: 0,
    prev: zeroHash,
    signer: key.publicKey,
  });
  for (const signed of signRecords([record], otherKey)) expect(checkSignature(signed)).toBe(false);
});
