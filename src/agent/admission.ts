/**
 * May this message in? The checks of docs/format.md, section 5, in their order; the first that fails names why not.
 *
 * A function of the message and of what the receiver knows, so that the rule reads as one and tests as one.
 */
import { sha256Hex } from '../base/encoding.ts';
import { isSubject } from '../base/subject.ts';
import { spokenDuration } from '../bus/time.ts';
import type { Agent, Keyring } from '../identity/keyring.ts';
import type { RejectReason } from '../record/kind.ts';
import { checkSignature, type SignedRecord } from '../record/signed.ts';
import { type CarriedHeaders, parseEnvelope } from './envelope.ts';

/** A message as the broker hands it over. */
export interface Incoming {
  readonly subject: string;
  readonly data: Uint8Array;
  readonly headers: CarriedHeaders;
  /** When the broker took it, in ns since the Unix epoch. */
  readonly timestampNs: bigint;
}

export interface Receiver {
  readonly keyring: Keyring;
  readonly swarm: string | undefined;
  /** How far a record's time may be from the broker's, either way: half the stream's duplicate window. */
  readonly freshForNs: bigint;
}

export type Admission =
  | { readonly admitted: true; readonly record: SignedRecord; readonly sender: Agent }
  | {
      readonly admitted: false;
      readonly reason: RejectReason;
      readonly detail: string;
      /** What the message claims to be, where its Swarm headers have their shape. */
      readonly claimed: SignedRecord | undefined;
    };

/** Why somebody's word does not count. */
interface Refusal {
  readonly reason: RejectReason;
  readonly detail: string;
}

/** Returns who signed `record`, and that agent's word counts in our swarm; or why it is nobody's who does. */
export function signerOf(
  record: SignedRecord,
  { keyring, swarm }: Pick<Receiver, 'keyring' | 'swarm'>,
): { readonly agent: Agent } | Refusal {
  const { header } = record;
  const refuse = (reason: RejectReason, detail: string): Refusal => ({ reason, detail });
  if (!checkSignature(record))
    return refuse('bad-signature', `the signature of ${header.signer} does not hold`);
  const known = keyring.find(header.signer);
  if (known === undefined) return refuse('unknown-key', `key ${header.signer} is not in the keyring`);
  if (known.key.revoked !== undefined)
    return refuse('revoked-key', `key ${header.signer} of ${known.agent.name} is revoked`);
  if (header.swarm !== swarm)
    return refuse('other-swarm', `said in swarm ${header.swarm ?? '(none)'}, heard in ${swarm ?? '(none)'}`);
  return { agent: known.agent };
}

/** Returns whether `message` may reach a handler of `receiver`, and if not, why. */
export function admit(message: Incoming, receiver: Receiver): Admission {
  const envelope = parseEnvelope(message.headers);
  const claimed = envelope.state === 'unsigned' ? undefined : envelope.record;
  const refuse = (reason: RejectReason, detail: string): Admission => ({
    admitted: false,
    reason,
    detail,
    claimed,
  });

  if (!isSubject(message.subject)) return refuse('bad-subject', 'the subject is outside the grammar');
  if (envelope.state === 'unsigned') return refuse('unsigned', 'the message carries no signed record');
  if (envelope.state === 'malformed') return refuse('malformed', envelope.detail);

  const { record } = envelope;
  const { header } = record;
  const signer = signerOf(record, receiver);
  if ('reason' in signer) return refuse(signer.reason, signer.detail);
  const { agent: sender } = signer;
  if (!receiver.keyring.mayPublish(sender, header.subject)) {
    return refuse('not-permitted', `${sender.name} may not publish on ${header.subject}`);
  }
  if (header.subject !== message.subject) {
    return refuse('subject-mismatch', `signed for ${header.subject}, sent on ${message.subject}`);
  }
  if (sha256Hex(message.data) !== header.payloadHash)
    return refuse('payload-mismatch', 'the data is not what was signed');
  const age = message.timestampNs - header.tsNs;
  if (age > receiver.freshForNs || age < -receiver.freshForNs) {
    const side = age > 0n ? 'before' : 'after';
    return refuse(
      'stale',
      `dated ${spokenDuration(Math.abs(Number(age)))} ${side} the broker took it; up to ${spokenDuration(Number(receiver.freshForNs))} counts as fresh`,
    );
  }
  return { admitted: true, record, sender };
}
