/**
 * Signs records: many at once, as a log does, or one by itself.
 */
import { randomBytes } from 'node:crypto';
import { systemClock } from '../base/clock.ts';
import { zeroHash } from '../base/encoding.ts';
import type { SigningKey } from '../identity/key.ts';
import {
  checkDraft,
  checkPlace,
  composeRecord,
  type Draft,
  type Place,
  type UnsignedRecord,
} from './draft.ts';
import { signFlush } from './flush.ts';
import type { SignedRecord } from './signed.ts';

const clock = systemClock();

/**
 * Signs 1 to 256 records of one session, in order, with one signature. They name `key` as their signer. Throws
 * `RECORD_INVALID` for another number.
 */
export function signRecords(records: readonly UnsignedRecord[], key: SigningKey): SignedRecord[] {
  const leaves = records.map(({ leaf }) => leaf);
  const { signature, paths } = signFlush(leaves, key);
  return records.map((record, index) => ({
    header: record.header,
    text: record.text,
    leaf: record.leaf,
    signature,
    path: paths[index],
    received: record.received,
    payload: record.payload,
    payloadIsJson: record.payloadIsJson,
  }));
}

/**
 * Returns the record that says `draft`, signed by itself. Unless `place` says otherwise it is the first of a new
 * session, written now, after nothing, in no swarm. Throws `RECORD_INVALID`, which names the member at fault, and
 * `PAYLOAD_INVALID`.
 */
export function signRecord(
  draft: Draft,
  key: SigningKey,
  place: Partial<Omit<Place, 'signer'>> = {},
): SignedRecord {
  const {
    tsNs = clock(),
    swarm,
    session = randomBytes(16).toString('hex'),
    seq = 0,
    prev = zeroHash,
  } = place;
  const whole: Place = { tsNs, swarm, session, seq, prev, signer: key.publicKey };
  checkDraft(draft);
  checkPlace(whole);
  const [record] = signRecords([composeRecord(draft, whole)], key);
  if (record === undefined) throw new Error('a flush of one has one record');
  return record;
}
