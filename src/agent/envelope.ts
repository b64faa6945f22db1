/**
 * A signed record as NATS headers, and back: docs/format.md, section 5.
 *
 * The payload travels as the message's data, untouched, so that any NATS client can read it.
 */
import type { Sha256Hex } from '../base/encoding.ts';
import { encodeHeaders } from '../bus/headers.ts';
import { firstSaidAs } from '../handler/received.ts';
import type { PublicKey } from '../identity/key.ts';
import { composeRecord, type Draft } from '../record/draft.ts';
import { parseSigned, type SignedRecord } from '../record/signed.ts';

/** A message's headers, as sent. */
export interface CarriedHeaders {
  /** Returns every value of `name`. */
  values(name: string): readonly string[];
  /** The one `Nats-Msg-Id` that every broker reads the same; `undefined` if there is none such. */
  readonly messageId: string | undefined;
}

/** The headers that carry a record. */
export interface RecordHeaders {
  readonly record: string;
  readonly signature: string;
  readonly path: string;
}

/** Those in which a message carries its own. */
export const messageHeaders: RecordHeaders = {
  record: 'Swarm-Record',
  signature: 'Swarm-Sig',
  path: 'Swarm-Path',
};

/** Returns the headers that carry `record`, without `Nats-Msg-Id`, which is a message's leaf. */
export function printEnvelope(
  record: SignedRecord,
  names: RecordHeaders = messageHeaders,
): Record<string, string> {
  const headers: Record<string, string> = {
    [names.record]: record.text,
    [names.signature]: record.signature,
  };
  if (record.path !== undefined) headers[names.path] = record.path;
  return headers;
}

/** Headers are never so many bytes: the format bounds each member of a record. */
export const envelopeBytesNever = 16_384;

const anyLeaf = '0'.repeat(64) as Sha256Hex;
/** As long as they get: of a flush of 256, whose proof is 8 nodes. */
const anySignature = 'A'.repeat(88);
const anyPath = `255/256/${'A'.repeat(344)}`;

/** Returns how many bytes the headers of `draft` are at most, wherever its record comes to stand, and said anew. */
export function envelopeBytesAtMost(
  draft: Omit<Draft, 'payload'>,
  author: { readonly signer: PublicKey; readonly swarm: string | undefined },
): number {
  const place = {
    tsNs: 2n ** 63n - 1n,
    session: '0'.repeat(32),
    seq: Number.MAX_SAFE_INTEGER,
    prev: anyLeaf,
  };
  const saidAnew = {
    ...draft,
    payloadHash: anyLeaf,
    cause: anyLeaf,
    meta: { ...draft.meta, [firstSaidAs]: anyLeaf },
  };
  const record = composeRecord(saidAnew, { ...author, ...place });
  const envelope = printEnvelope({ ...record, signature: anySignature, path: anyPath });
  return encodeHeaders(anyLeaf, envelope).bytes.length;
}

export type Envelope =
  | { readonly state: 'unsigned' }
  | { readonly state: 'malformed'; readonly detail: string; readonly record?: SignedRecord }
  | { readonly state: 'well-formed'; readonly record: SignedRecord };

/** Returns the record that a message's headers carry, its shape checked and nothing else. */
export function parseEnvelope(headers: CarriedHeaders): Envelope {
  const records = headers.values(messageHeaders.record);
  const signatures = headers.values(messageHeaders.signature);
  const paths = headers.values(messageHeaders.path);
  const [text, signature, path] = [records[0], signatures[0], paths[0]];
  if (text === undefined || signature === undefined) return { state: 'unsigned' };
  const record = parseSigned({ text, signature, path });
  if (record === undefined)
    return { state: 'malformed', detail: 'the Swarm headers do not hold a signed record' };
  if (records.length + signatures.length + paths.length > (path === undefined ? 2 : 3)) {
    return { state: 'malformed', detail: 'a Swarm header stands there twice', record };
  }
  if (headers.messageId !== record.leaf) {
    return { state: 'malformed', detail: "Nats-Msg-Id is not, exactly once, the record's leaf", record };
  }
  return { state: 'well-formed', record };
}
