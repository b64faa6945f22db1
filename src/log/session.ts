/**
 * A session: the chain of records that one writer adds to one file, and the bytes of its next flush.
 *
 * A session begins with 16 random bytes and the leaf of the line before it; from then on each record names
 * the one before it, counts up by one and is later by at least a nanosecond (docs/format.md, sections 2 and 4).
 * Composing changes nothing: the caller takes the new `Chain` over once the bytes are written.
 */
import { randomBytes } from 'node:crypto';
import type { Clock } from '../base/clock.ts';
import type { Sha256Hex } from '../base/encoding.ts';
import { SwarmError } from '../base/errors.ts';
import type { SigningKey } from '../identity/key.ts';
import { composeRecord, type Draft } from '../record/draft.ts';
import { linesBytes } from '../record/line.ts';
import { signRecords } from '../record/sign.ts';
import type { SignedRecord } from '../record/signed.ts';

/** Where a session stands: what its next record must follow. */
export interface Chain {
  readonly session: string;
  /** Of the next record. */
  readonly seq: number;
  readonly prev: Sha256Hex;
  /** Of the record before; 0 if there is none. */
  readonly tsNs: bigint;
}

/** Who writes: the same for every record of a writer. */
export interface Author {
  readonly key: SigningKey;
  readonly clock: Clock;
  readonly swarm: string | undefined;
}

export interface Flush {
  readonly records: readonly SignedRecord[];
  /** Whole lines, each with its LF. */
  readonly bytes: Buffer;
  readonly chain: Chain;
}

/** How far the clock may fall behind the last record and still count as the same moment. */
const toleranceNs = 1_000_000n;

/** Returns a new session's chain, whose first record names `prev`. */
export function beginSession(prev: Sha256Hex): Chain {
  return { session: randomBytes(16).toString('hex'), seq: 0, prev, tsNs: 0n };
}

/**
 * Returns `drafts` (1 to 256) as the signed lines that continue `chain`; where the clock has been set back
 * since its last record, as the first lines of a new session after it.
 */
export function composeFlush(drafts: readonly Draft[], chain: Chain, author: Author): Flush {
  const { key, clock, swarm } = author;
  const steppedBack = clock() + toleranceNs < chain.tsNs;
  let { session, seq, prev, tsNs } = steppedBack ? beginSession(chain.prev) : chain;
  const unsigned = drafts.map((draft) => {
    const now = clock();
    tsNs = now > tsNs ? now : tsNs + 1n;
    const record = composeRecord(draft, { session, seq, prev, tsNs, swarm, signer: key.publicKey });
    prev = record.leaf;
    seq += 1;
    return record;
  });
  if (tsNs >= 2n ** 63n)
    throw new SwarmError('RECORD_INVALID', `the clock says ${tsNs}, which no record can`);
  const records = signRecords(unsigned, key);
  return { records, bytes: linesBytes(records), chain: { session, seq, prev, tsNs } };
}
