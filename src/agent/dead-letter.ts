/**
 * A dead letter, as the stream DEAD keeps it: docs/format.md, section 5.
 *
 * It is the message as it was sent, data and headers, on `dead.` and its subject, with the BUS.DEAD record of whoever
 * gave it up beside it. So it shows by itself who said what, who could not deal with it, and why.
 */
import { sha256Hex } from '../base/encoding.ts';
import { type HeaderValues, isSendable } from '../bus/headers.ts';
import type { Agent } from '../identity/keyring.ts';
import type { Delivery } from '../record/header.ts';
import { parseCarried, type SignedRecord } from '../record/signed.ts';
import { type Receiver, signerOf } from './admission.ts';
import { type CarriedHeaders, messageHeaders, printEnvelope, type RecordHeaders } from './envelope.ts';

const subjectPrefix = 'dead.';
const originalId = 'Swarm-Original-Id';
const deadHeaders: RecordHeaders = {
  record: 'Swarm-Dead-Record',
  signature: 'Swarm-Dead-Sig',
  path: 'Swarm-Dead-Path',
};

/** What a dead letter's own headers are never more than, in bytes. */
export const deadLetterBytesNever = 2_560;

/** A message's headers, as they were sent. */
export interface NamedHeaders extends CarriedHeaders {
  names(): readonly string[];
}

/** A dead letter that shows what it claims; without its data, which are as large as they like. */
export interface DeadLetter {
  /** Where the stream DEAD keeps it. */
  readonly seq: number;
  /** When the broker stored it there, in ns since the Unix epoch. */
  readonly timestampNs: bigint;
  /** The signed BUS.DEAD of whoever gave the message up. */
  readonly dead: SignedRecord;
  readonly delivery: Delivery;
  readonly reason: string;
  readonly givenUpBy: Agent;
  /** The sender's signed BUS.PUBLISH. */
  readonly record: SignedRecord;
  readonly sender: Agent;
}

/** What stands in the stream DEAD and is no dead letter that counts. */
export interface NoDeadLetter {
  readonly seq: number;
  readonly subject: string;
  readonly problem: string;
}

interface Stored {
  readonly seq: number;
  readonly subject: string;
  readonly data: Uint8Array;
  readonly headers: CarriedHeaders;
  readonly timestampNs: bigint;
}

/** Returns the subject on which a message on `subject` is kept. */
export function deadSubjectOf(subject: string): string {
  return `${subjectPrefix}${subject}`;
}

/**
 * Returns the headers of the dead letter of the message `record`, without `Nats-Msg-Id`, which is the leaf of `dead`. Of
 * the message's own, those that speak to the broker (`Nats-…`) are left out, and those that cannot be sent again.
 */
export function printDeadLetter(
  dead: SignedRecord,
  record: SignedRecord,
  original: NamedHeaders,
): HeaderValues {
  const ours = new Set<string>([originalId, ...Object.values(deadHeaders), ...Object.values(messageHeaders)]);
  const others = original.names().filter((name) => !ours.has(name) && !/^nats-/i.test(name));
  return {
    [originalId]: record.leaf,
    ...printEnvelope(dead, deadHeaders),
    ...printEnvelope(record),
    ...Object.fromEntries(
      others.map((name) => [name, original.values(name).filter((value) => isSendable(name, value))]),
    ),
  };
}

/** Returns the dead letter that was stored, if it counts with `reader`, and else what is wrong with it. */
export function openDeadLetter(
  stored: Stored,
  reader: Pick<Receiver, 'keyring' | 'swarm'>,
): DeadLetter | NoDeadLetter {
  const { seq, subject, data, headers, timestampNs } = stored;
  const not = (problem: string): NoDeadLetter => ({ seq, subject, problem });
  const dead = signedIn(headers, deadHeaders);
  const record = signedIn(headers, messageHeaders);
  if (dead?.header.kind !== 'BUS.DEAD' || record?.header.kind !== 'BUS.PUBLISH') {
    return not('it does not carry a message and the record of who gave it up');
  }
  const { delivery, reason } = dead.header;
  if (delivery === undefined || reason === undefined || headers.messageId !== dead.leaf) {
    return not('its id is not the record of who gave it up');
  }
  const isOne =
    deadSubjectOf(record.header.subject) === subject &&
    dead.header.subject === record.header.subject &&
    dead.header.payloadHash === record.header.payloadHash &&
    sha256Hex(data) === record.header.payloadHash &&
    headers.values(originalId).join() === record.leaf;
  if (!isOne) return not('message, data and the record of who gave it up are not of each other');
  const givenUpBy = signerOf(dead, reader);
  if ('reason' in givenUpBy) return not(givenUpBy.detail);
  const sender = signerOf(record, reader);
  if ('reason' in sender) return not(sender.detail);
  if (!reader.keyring.mayPublish(sender.agent, record.header.subject))
    return not(`${sender.agent.name} may not publish on ${record.header.subject}`);
  const who = { givenUpBy: givenUpBy.agent, sender: sender.agent };
  return { seq, timestampNs, dead, delivery, reason, record, ...who };
}

function signedIn(headers: CarriedHeaders, names: RecordHeaders): SignedRecord | undefined {
  const [text, signature, path] = [names.record, names.signature, names.path].map((name) =>
    headers.values(name),
  );
  if (text?.length !== 1 || signature?.length !== 1 || (path?.length ?? 0) > 1) return undefined;
  return parseCarried({ text: text[0] ?? '', signature: signature[0] ?? '', path: path?.[0] });
}
