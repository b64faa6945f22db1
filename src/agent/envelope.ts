/**
 * A signed record as NATS headers, and back: docs/format.md, section 5.
 *
 * The payload travels as the message's data, untouched, so that any NATS client can read it.
 */
import { parseSigned, type SignedRecord } from '../record/signed.ts';

/** A message's headers, as sent. */
export interface CarriedHeaders {
  /** Returns every value of `name`. */
  values(name: string): readonly string[];
  /** The one `Nats-Msg-Id` that every broker reads the same; `undefined` if there is none such. */
  readonly messageId: string | undefined;
}

const recordHeader = 'Swarm-Record';
const signatureHeader = 'Swarm-Sig';
const pathHeader = 'Swarm-Path';

/** Returns the headers that carry `record`, without `Nats-Msg-Id`, which is its leaf. */
export function printEnvelope(record: SignedRecord): Record<string, string> {
  const headers: Record<string, string> = {
    [recordHeader]: record.text,
    [signatureHeader]: record.signature,
  };
  if (record.path !== undefined) headers[pathHeader] = record.path;
  return headers;
}

export type Envelope =
  | { readonly state: 'unsigned' }
  | { readonly state: 'malformed'; readonly detail: string; readonly record?: SignedRecord }
  | { readonly state: 'well-formed'; readonly record: SignedRecord };

/** Returns the record that a message's headers carry, its shape checked and nothing else. */
export function parseEnvelope(headers: CarriedHeaders): Envelope {
  const records = headers.values(recordHeader);
  const signatures = headers.values(signatureHeader);
  const paths = headers.values(pathHeader);
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
