/**
 * Histories that a swarm might have written, made up by fast-check: sessions with clocks of their own that name each
 * other's records as causes and refs; and the logs that hold them.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { type Sha256Hex, zeroHash } from '../../src/base/encoding.ts';
import { SigningKey } from '../../src/identity/key.ts';
import { composeRecord } from '../../src/record/draft.ts';
import { printLine } from '../../src/record/line.ts';
import { signRecords } from '../../src/record/sign.ts';
import type { SignedRecord } from '../../src/record/signed.ts';

const keys = [1, 2, 3].map((seed) => SigningKey.fromSeed(Buffer.alloc(32, seed)));
const sessions = 5;
const second = 1_000_000_000n;

/** What one record of a history is made from: numbers, which are taken modulo what there is. */
interface Act {
  readonly session: number;
  readonly thread: number;
  readonly afterNs: bigint;
  readonly cause: number | undefined;
  readonly refs: readonly number[];
}

const acts: fc.Arbitrary<Act> = fc.record({
  session: fc.nat(sessions - 1),
  thread: fc.nat(2),
  afterNs: fc.constantFrom(0n, 1n, 5n, 1_000n, second),
  cause: fc.option(fc.nat(1_000), { nil: undefined, freq: 2 }),
  refs: fc.array(fc.nat(1_000), { maxLength: 3 }),
});

export interface History {
  readonly records: readonly SignedRecord[];
  /** The records of each session, in its order. */
  readonly sessions: readonly (readonly SignedRecord[])[];
}

/** Histories of up to `maxLength` records, by clocks that are up to `skewNs` apart. */
export function histories(maxLength = 40, skewNs = 20n * second): fc.Arbitrary<History> {
  const skews = fc.array(fc.bigInt(0n, skewNs), { minLength: sessions, maxLength: sessions });
  return fc.tuple(fc.array(acts, { maxLength }), skews).map(([all, skew]) => historyOf(all, skew));
}

function historyOf(all: readonly Act[], skews: readonly bigint[]): History {
  const records: SignedRecord[] = [];
  const bySession = Array.from({ length: sessions }, (): SignedRecord[] => []);
  let now = 1_700_000_000n * second;
  for (const { session, thread, afterNs, cause, refs } of all) {
    now += afterNs;
    const own = bySession[session] as SignedRecord[];
    const before = own.at(-1);
    const key = keys[session % keys.length] as SigningKey;
    const byClock = now + (skews[session] as bigint);
    const tsNs = before !== undefined && byClock <= before.header.tsNs ? before.header.tsNs + 1n : byClock;
    const leafAt = (number: number): Sha256Hex => records[number % records.length]?.leaf ?? zeroHash;
    const others = records.length === 0 ? [] : refs.map(leafAt);
    const draft = {
      subject: `thread.t${thread}.agent`,
      kind: 'BUS.PUBLISH',
      payload: Buffer.from(JSON.stringify({ number: records.length })),
      cause: records.length === 0 || cause === undefined ? undefined : leafAt(cause),
      refs: others.length === 0 ? undefined : others,
    };
    const place = {
      session: String(session).padStart(32, '0'),
      seq: own.length,
      prev: before?.leaf ?? zeroHash,
      tsNs,
      swarm: undefined,
      signer: key.publicKey,
    };
    const [record] = signRecords([composeRecord(draft, place)], key);
    if (record === undefined) throw new Error('nothing was signed');
    own.push(record);
    records.push(record);
  }
  return { records, sessions: bySession };
}

/** Writes each of `logs`, the records of one log, into a folder of its own, and returns the paths of those that hold any. */
export function writeLogs(folder: string, logs: readonly (readonly SignedRecord[])[]): string[] {
  return logs.flatMap((records, index) => {
    if (records.length === 0) return [];
    const path = join(folder, `${index}`, 'swarm.jsonl');
    mkdirSync(join(folder, `${index}`), { recursive: true });
    writeFileSync(path, records.map((record) => `${printLine(record)}\n`).join(''));
    return [path];
  });
}

/** Kahn's algorithm in memory, over the edges from session, cause and refs: of what may come next, the least (ts_ns, leaf). */
export function kahn(all: readonly SignedRecord[]): SignedRecord[] {
  const left = new Map(all.map((record) => [record.leaf, record]));
  const mayCome = ({ header: { seq, prev, cause, refs = [] } }: SignedRecord): boolean =>
    [...(seq === 0 ? [] : [prev]), ...(cause === undefined ? [] : [cause]), ...refs].every(
      (leaf) => !left.has(leaf),
    );
  const order: SignedRecord[] = [];
  while (left.size > 0) {
    const [next] = [...left.values()].filter(mayCome).sort((one, other) => {
      const difference = one.header.tsNs - other.header.tsNs;
      return difference === 0n ? (one.leaf < other.leaf ? -1 : 1) : difference < 0n ? -1 : 1;
    });
    if (next === undefined) throw new Error('a circle');
    order.push(next);
    left.delete(next.leaf);
  }
  return order;
}
