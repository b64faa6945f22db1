/**
 * What one line says by itself: the part of verifying a log that needs no other line, and takes most of the time.
 *
 * The answer is an entry of a batch (`batch.ts`), small enough to cross from a thread to another.
 */
import { sha256Hex } from '../base/encoding.ts';
import { leafOfLine } from '../record/entry.ts';
import { verifyHashes, verifyRecord } from '../record/line.ts';
import { receivedContradicts } from '../record/received.ts';
import { flushPlaceOf, type SignedRecord } from '../record/signed.ts';
import { isVersion1, verifyVersion1 } from '../record/version1.ts';
import type { BatchWriter } from './batch.ts';

export interface ExamineOptions {
  /** Hashes alone: neither signatures nor what depends on them. */
  readonly quick: boolean;
  readonly requirePayloads: boolean;
}

/** Adds to `batch` what `bytes`, the line that begins at `offset`, says by itself. */
export function examineLine(
  bytes: Buffer,
  place: { readonly line: number; readonly offset: number },
  batch: BatchWriter,
  { quick, requirePayloads }: ExamineOptions,
): void {
  if (isVersion1(bytes)) {
    batch.begin(leafOfLine(bytes), place);
    const verdict = quick ? undefined : verifyVersion1(bytes);
    if (verdict === undefined) batch.setKind('unread');
    else if (!verdict.ok) {
      batch.setKind('refused1');
      batch.fault(verdict.problem, verdict.detail);
    } else {
      batch.setKind('version1');
      batch.setSigner(verdict.record.signer);
    }
    return;
  }
  const verdict = quick ? verifyHashes(bytes) : verifyRecord(bytes);
  batch.begin(verdict.record?.leaf ?? leafOfLine(bytes), place);
  if (!verdict.ok && verdict.problem === 'malformed') {
    batch.setKind('malformed');
    batch.fault('malformed', verdict.detail);
    batch.setBytesHash(sha256Hex(bytes));
    return;
  }
  if (!verdict.ok) batch.fault(verdict.problem, verdict.detail);
  if (!verdict.ok && verdict.problem !== 'payload-mismatch') {
    batch.setKind('refused');
    return;
  }
  const { record } = verdict;
  batch.setHashed(record, recoveredHash(record));
  if (record.payload === undefined && requirePayloads) {
    batch.fault('payload-withheld', 'the payload is not in the log');
  }
  if (quick) {
    batch.setKind('unread');
    return;
  }
  batch.setKind(record.header.kind === 'LOG.RECOVER' ? 'recovery' : 'record');
  batch.setRecord(record, flushEnds(record));
  const contradiction = receivedContradicts(record);
  if (contradiction !== undefined) batch.fault('cause-mismatch', contradiction);
}

function flushEnds(record: SignedRecord): boolean {
  const { index, size } = flushPlaceOf(record);
  return index === size - 1;
}

/** Returns the SHA-256 of the torn line that a LOG.RECOVER names. */
export function recoveredHash({ header, payload }: SignedRecord): string | undefined {
  if (header.kind !== 'LOG.RECOVER') return undefined;
  return /^\{"bytes":\d+,"sha256":"([0-9a-f]{64})"\}$/.exec(payload?.toString('latin1') ?? '')?.[1];
}
