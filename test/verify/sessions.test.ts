import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Sha256Hex, sha256, zeroHash } from '../../src/base/encoding.ts';
import type { Header } from '../../src/record/header.ts';
import type { SignedRecord } from '../../src/record/signed.ts';
import { BatchEntry, BatchWriter } from '../../src/verify/batch.ts';
import type { Fault } from '../../src/verify/finding.ts';
import { HashSet } from '../../src/verify/hash-set.ts';
import { SessionTable } from '../../src/verify/session-table.ts';
import { Sessions } from '../../src/verify/sessions.ts';

/** A record as a chain sees it: sessions, leaves and signers by number. */
interface Linked {
  readonly session: number;
  readonly seq?: number;
  readonly leaf?: number;
  readonly prev?: number;
  readonly signer?: number;
  readonly swarm?: string | undefined;
  readonly tsNs?: number;
  readonly flushEnds?: boolean;
}

/** Has `sessions` take `records`, one after the other, and returns what is wrong with each. */
function advance(sessions: Sessions, records: readonly Linked[]): (Fault | undefined)[] {
  const writer = new BatchWriter();
  for (const { session, seq = 0, leaf = 1, prev, signer = 1, swarm, tsNs = 1, flushEnds = true } of records) {
    const header: Partial<Header> = {
      session: hashOf(session).slice(0, 32),
      seq,
      prev: prev === undefined ? zeroHash : hashOf(prev),
      signer: `signer ${signer}` as Header['signer'],
      swarm,
      tsNs: BigInt(tsNs),
      kind: 'AGENT.STEP',
    };
    writer.begin(hashOf(leaf), { line: 0, offset: 0 });
    writer.setRecord({ header, received: undefined } as SignedRecord, flushEnds);
  }
  const batch = writer.end({ lines: records.length, bytes: 0, openAt: undefined });
  const entry = new BatchEntry(batch);
  return records.map((_, index) => sessions.advance(entry.moveTo(index)));
}

function hashOf(number: number): Sha256Hex {
  return sha256(Buffer.from(String(number))).toString('hex') as Sha256Hex;
}

/** Returns the same, as a later run knows it. */
function remembered({ state }: Sessions): Sessions {
  const { texts, entries } = state.current.packed;
  return new Sessions({
    current: SessionTable.from({ texts: [...texts], entries: Buffer.from(entries) }),
    ended: HashSet.fromBytes(state.ended.toBytes(), state.ended.secret),
    cut: state.cut,
  });
}

const next: Linked = { session: 1, seq: 1, prev: 1, leaf: 2, tsNs: 2 };

test.each<[string, Linked, RegExp | undefined]>([
  ['the next one', next, undefined],
  ['a gap', { ...next, seq: 3 }, /^record 3 .* follows record 0: 2 missing between$/],
  ['the same again', { session: 1 }, /^record 0 .* follows record 0: moved or repeated$/],
  ['another leaf before', { ...next, prev: 7 }, /^record 1 .* as the record before it, which is 6b86b273/],
  ['the same moment', { ...next, tsNs: 1 }, /^record 1 .* is not later .*: 1 after 1$/],
  ['another swarm', { ...next, swarm: 'other' }, /^record 1 .* is of swarm other, the session of \(none\)$/],
  ['another key', { ...next, signer: 2 }, /^session .* was begun by key signer 1, .* signed by signer 2$/],
])('a session that goes on with %s, in the same run or a later one', (_, record, detail) => {
  const sessions = new Sessions();
  expect(advance(sessions, [{ session: 1 }])).toEqual([undefined]);
  for (const taking of [remembered(sessions), sessions]) {
    const [fault] = advance(taking, [record]);
    if (detail === undefined) expect(fault).toBeUndefined();
    else expect(fault?.detail).toMatch(detail);
  }
});

test('a session has no records in a second file, and begins with its first', () => {
  const sessions = new Sessions();
  advance(sessions, [{ session: 1, flushEnds: false }, { session: 2 }]);
  sessions.endFile();
  expect(sessions.countCutFlushes()).toBe(1);
  const later = [{ session: 2 }, { session: 3, seq: 4 }, { session: 4, flushEnds: false }];
  for (const taking of [remembered(sessions), sessions]) {
    expect(advance(taking, later).map((fault) => fault?.detail.replace(/[0-9a-f]{32}/, 'S'))).toEqual([
      'session S has records in an earlier file, and a session is in one',
      'the first record here of session S is its number 4: those before it are missing',
      undefined,
    ]);
    expect(taking.countCutFlushes()).toBe(2);
  }
});

test('each of many sessions is told apart, whatever order they take turns in', () => {
  const turns = fc.array(fc.nat(3_000), { minLength: 100, maxLength: 20_000, size: 'max' });
  fc.assert(
    fc.property(turns, fc.nat(20_000), (order, border) => {
      const seqs = new Map<number, number>();
      const records = order.map((session, index): Linked => {
        const seq = seqs.get(session) ?? 0;
        seqs.set(session, seq + 1);
        const prev = seq === 0 ? {} : { prev: session * 100_000 + seq - 1 };
        return { session, seq, leaf: session * 100_000 + seq, ...prev, tsNs: index, signer: session };
      });
      const sessions = new Sessions();
      const faults = [
        ...advance(sessions, records.slice(0, border)),
        ...advance(remembered(sessions), records.slice(border)),
      ];
      expect(faults.filter((fault) => fault !== undefined)).toEqual([]);
    }),
    { numRuns: 10 },
  );
});

test('a session costs under 100 bytes while its file is read', () => {
  const sessions = new Sessions();
  const before = memoryInUse();
  for (let first = 0; first < 250_000; first += 5_000) {
    const records = Array.from({ length: 5_000 }, (_, index) => ({ session: first + index }));
    expect(advance(sessions, records).every((fault) => fault === undefined)).toBe(true);
  }
  expect((memoryInUse() - before) / 250_000).toBeLessThan(100);
  expect(sessions.countCutFlushes()).toBe(0);
});

function memoryInUse(): number {
  setFlagsFromString('--expose-gc');
  runInNewContext('gc')();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}
