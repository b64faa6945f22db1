/**
 * A stream's side of the ledger: each message that it keeps, as a receiver would judge it.
 */
import { sha256Hex } from '../base/encoding.ts';
import type { StoredMessage } from '../bus/read-message.ts';
import { type RejectReason, rejectReasons } from '../record/kind.ts';
import type { SignedRecord } from '../record/signed.ts';
import { admit, type Receiver } from './admission.ts';
import { firstLeafOf, type Ledger } from './ledger.ts';
import type { Signers } from './signers.ts';

/** A message of which nobody can say who said it. */
export interface Unsigned {
  readonly seq: number;
  readonly reason: RejectReason;
  readonly detail: string;
}

export interface StreamAccountOptions {
  readonly receiver: Receiver;
  /** Reports whether the log should have the record of the message at `seq`. */
  readonly isDue: (record: SignedRecord, seq: number) => boolean;
}

/** Adds `message` to `ledger`; returns it as unsigned where it carries no record that could be looked for. */
export function addStored(
  message: StoredMessage,
  ledger: Ledger,
  signers: Signers,
  { receiver, isDue }: StreamAccountOptions,
): Unsigned | undefined {
  const { seq } = message;
  const admission = admit(message, receiver);
  const record = admission.admitted ? admission.record : admission.claimed;
  if (record === undefined) {
    const { reason, detail } = admission as Extract<typeof admission, { admitted: false }>;
    return { seq, reason, detail };
  }
  const { header, leaf } = record;
  const signer = signers.numberOf(header.signer);
  const add = (kind: 'stored' | 'stale' | 'altered' | 'barred', about: number): void =>
    ledger.add(header, firstLeafOf(record), { kind, leaf, signer, at: seq, about: BigInt(about) });
  if (admission.admitted) add('stored', isDue(record, seq) ? 1 : 0);
  else if (admission.reason === 'stale') add('stale', isDue(record, seq) ? 1 : 0);
  else add(kindOf(message, record, admission.reason), rejectReasons.indexOf(admission.reason));
  return undefined;
}

/** Whether a refused message is not what its record says, or is, and only the keyring is against it. */
function kindOf(
  { subject, data }: StoredMessage,
  { header }: SignedRecord,
  reason: RejectReason,
): 'altered' | 'barred' {
  const isKeyring = ['unknown-key', 'revoked-key', 'other-swarm', 'not-permitted'].includes(reason);
  const isIntact = header.subject === subject && sha256Hex(data) === header.payloadHash;
  return isKeyring && isIntact ? 'barred' : 'altered';
}
