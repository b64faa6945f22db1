/**
 * A record before it is written: what is said, not yet when, by whom and after what.
 *
 * `checkDraft` is the one gate to a log: what passes it prints as a line that `parseLine` takes. It throws in
 * the caller's turn, so a draft that cannot be written never reaches the queue of those that can.
 */
import { type Sha256Hex, sha256Hex } from '../base/encoding.ts';
import { SwarmError } from '../base/errors.ts';
import { threadIdOf } from '../base/subject.ts';
import type { PublicKey } from '../identity/key.ts';
import { exactly, limits } from './grammar.ts';
import { type Delivery, type Header, leafOf, printHeader, recordVersion } from './header.ts';
import { kindFault, receivedFault } from './kind.ts';
import { isJsonText, payloadBytes } from './payload.ts';
import type { SignedRecord } from './signed.ts';

/** What a record says. Members are those of docs/format.md, section 2. */
export interface Draft {
  readonly subject: string;
  readonly kind: string;
  /** The payload's bytes; without them the record withholds its payload, and `payloadHash` is needed. */
  readonly payload?: Uint8Array | undefined;
  /** The SHA-256 of a payload that is withheld; not to be given with a payload. */
  readonly payloadHash?: Sha256Hex | undefined;
  readonly cause?: Sha256Hex | undefined;
  /** 1 to 16. */
  readonly refs?: readonly Sha256Hex[] | undefined;
  readonly trace?: string | undefined;
  readonly delivery?: Delivery | undefined;
  readonly reason?: string | undefined;
  readonly step?: string | undefined;
  /** 1 to 8 pairs, in any order. */
  readonly meta?: Readonly<Record<string, string>> | undefined;
  /** The message that a DELIVER or REJECT keeps, its payload or not: only what was signed is written. */
  readonly received?: SignedRecord | undefined;
}

/** Where a record stands: who writes it, when, and after what. */
export interface Place {
  readonly tsNs: bigint;
  readonly swarm?: string | undefined;
  /** 32 lowercase hex digits. */
  readonly session: string;
  readonly seq: number;
  readonly prev: Sha256Hex;
  readonly signer: PublicKey;
}

/** A record that lacks only its signature. */
export type UnsignedRecord = Omit<SignedRecord, 'signature' | 'path'>;

const texts = {
  subject: exactly('subject'),
  kind: exactly('kind'),
  trace: exactly('trace'),
  reason: exactly('reason'),
  step: exactly('step'),
} as const;
const hash = exactly('hash');
const stream = exactly('stream');
const consumer = exactly('consumer');
const metaKey = exactly('metaKey');
const metaValue = exactly('metaValue');
const swarmName = exactly('swarm');
const sessionName = exactly('session');

/** Throws `RECORD_INVALID`, which names the member, if no record can say `draft`; `PAYLOAD_INVALID` over 64 MiB. */
export function checkDraft(draft: Draft): void {
  const { subject, kind, payload, payloadHash, cause, refs, delivery, reason, step, meta, received } = draft;
  checkText('subject', subject, limits.subjectLength);
  checkText('kind', kind, limits.kindLength);
  if ((payload === undefined) === (payloadHash === undefined)) {
    refuse('payload', 'a record has either its bytes, or payloadHash where they are withheld');
  }
  if (payload !== undefined && payload.length > payloadBytes) {
    throw new SwarmError('PAYLOAD_INVALID', `a payload of ${payload.length} bytes is over 64 MiB`);
  }
  if (payloadHash !== undefined) checkHash('payloadHash', payloadHash);
  if (cause !== undefined) checkHash('cause', cause);
  if (refs !== undefined) {
    if (refs.length < 1 || refs.length > limits.refs)
      refuse('refs', `1 to ${limits.refs}, not ${refs.length}`);
    for (const ref of refs) checkHash('refs', ref);
  }
  if (draft.trace !== undefined) checkText('trace', draft.trace);
  if (delivery !== undefined) checkDelivery(delivery);
  if (reason !== undefined) checkText('reason', reason);
  if (step !== undefined) checkText('step', step);
  if (meta !== undefined) checkMeta(meta);
  const fault =
    kindFault({ threadId: threadIdOf(subject), subject, kind, cause, delivery, reason, step }) ??
    receivedFault({ kind, cause }, received);
  if (fault !== undefined) throw new SwarmError('RECORD_INVALID', `not a record: ${fault}`);
}

/** Throws `RECORD_INVALID` if no record can stand at `place`. */
export function checkPlace({ tsNs, swarm, session, seq, prev }: Place): void {
  if (tsNs < 0n || tsNs >= 2n ** 63n) refuse('tsNs', `0 to 2^63-1, not ${tsNs}`);
  if (swarm !== undefined) checkSwarm(swarm);
  if (!sessionName.test(session))
    refuse('session', `32 lowercase hex digits, not ${JSON.stringify(session)}`);
  if (!Number.isSafeInteger(seq) || seq < 0) refuse('seq', `0 to 2^53-1, not ${seq}`);
  checkHash('prev', prev);
}

/** Throws `RECORD_INVALID` if `swarm` cannot be a swarm's name. */
export function checkSwarm(swarm: string): void {
  if (!swarmName.test(swarm)) {
    refuse('swarm', `1 to 64 letters, digits, "_", "." and "-", not ${JSON.stringify(swarm)}`);
  }
}

function checkText(name: keyof typeof texts, text: string, length: number = Number.POSITIVE_INFINITY): void {
  if (text.length > length || !texts[name].test(text)) refuse(name, JSON.stringify(text));
}

function checkHash(name: string, text: string): void {
  if (!hash.test(text)) refuse(name, `64 lowercase hex digits, not ${JSON.stringify(text)}`);
}

function checkDelivery(delivery: Delivery): void {
  const { seq, attempt } = delivery;
  if (!stream.test(delivery.stream)) refuse('delivery.stream', JSON.stringify(delivery.stream));
  if (!Number.isSafeInteger(seq) || seq < 1) refuse('delivery.seq', `1 to 2^53-1, not ${seq}`);
  if (!consumer.test(delivery.consumer)) refuse('delivery.consumer', JSON.stringify(delivery.consumer));
  if (!Number.isInteger(attempt) || attempt < 1 || attempt > limits.attempt) {
    refuse('delivery.attempt', `1 to ${limits.attempt}, not ${attempt}`);
  }
}

function checkMeta(meta: Readonly<Record<string, string>>): void {
  const pairs = Object.entries(meta);
  if (pairs.length < 1 || pairs.length > limits.metaPairs) {
    refuse('meta', `1 to ${limits.metaPairs} pairs, not ${pairs.length}`);
  }
  for (const [key, value] of pairs) {
    if (!metaKey.test(key) || !metaValue.test(value)) {
      refuse('meta', `${JSON.stringify(key)}: ${JSON.stringify(value)}`);
    }
  }
}

function refuse(member: string, what: string): never {
  throw new SwarmError('RECORD_INVALID', `not a record: ${member} does not fit the format: ${what}`);
}

/** Returns the record that says `draft` at `place`, both of which were checked, ready to be signed. */
export function composeRecord(draft: Draft, place: Place): UnsignedRecord {
  const { subject, kind, cause, refs, trace, delivery, reason, step, meta, received } = draft;
  const payload = draft.payload && bufferOf(draft.payload);
  const header: Header = {
    tsNs: place.tsNs,
    threadId: threadIdOf(subject),
    subject,
    kind,
    payloadHash: draft.payloadHash ?? sha256Hex(payload ?? ''),
    version: recordVersion,
    swarm: place.swarm,
    session: place.session,
    seq: place.seq,
    prev: place.prev,
    cause,
    refs,
    trace,
    delivery,
    reason,
    step,
    meta,
    signer: place.signer,
  };
  const text = printHeader(header);
  const payloadIsJson = payload !== undefined && isJsonText(payload);
  return { header, text, leaf: leafOf(text), received, payload, payloadIsJson };
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
