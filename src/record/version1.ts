/**
 * Records of version 1, the first prototype's: read and verified, never written (docs/format.md, section 6).
 *
 * One signature each, over a canonical form of the record's JSON, and no chain: that a line is missing shows
 * nowhere. A log may begin with such lines; the caller sees to it that none comes later.
 */
import { decodeBase64, parseSha256Hex, type Sha256Hex, sha256Hex } from '../base/encoding.ts';
import { type PublicKey, verifySignature } from '../identity/key.ts';
import { type CanonicalMembers, canonicalMembers, printCanonical } from './canonical.ts';
import { exactly } from './grammar.ts';
import { bytesOf, type Malformed, malformed } from './line.ts';

/** What a version 1 record says. Its texts have no grammar: they were written by whoever signed them. */
export interface Version1Record {
  readonly tsNs: bigint;
  readonly threadId: string;
  readonly subject: string;
  readonly kind: string;
  readonly payloadHash: Sha256Hex;
  readonly signer: PublicKey;
  /** In canonical form, the bytes that `payloadHash` is the SHA-256 of. */
  readonly payload: Buffer;
}

/** What became of verifying a version 1 line. */
export type Version1Verified =
  | { readonly ok: true; readonly record: Version1Record }
  | {
      readonly ok: false;
      readonly problem: 'bad-signature' | 'payload-mismatch';
      readonly record: Version1Record;
      /** A sentence: what is wrong with it. */
      readonly detail: string;
    }
  | Malformed;

/** How every header of version 2 begins: with it, no line needs to be walked to tell its version. */
const version2Start =
  /^\{"ts_ns":[0-9]{1,19},"thread_id":"[^"\\]{0,64}","subject":"[^"\\]{0,255}","kind":"[^"\\]{0,32}","payload_hash":"[^"\\]{0,64}","version":([0-9]+)/;
const startBytes = 1024;

/** Reports whether `line` (without its LF) is a JSON object with `"version":1` or none. */
export function isVersion1(line: string | Uint8Array): boolean {
  const bytes = bytesOf(line);
  if (bytes === undefined) return false;
  const version = version2Start.exec(bytes.toString('latin1', 0, startBytes))?.[1];
  if (version !== undefined && version !== '1') return false;
  const members = canonicalMembers(bytes);
  return typeof members !== 'string' && hasVersion1(members);
}

function hasVersion1(members: CanonicalMembers): boolean {
  return (members.get('version') ?? '1') === '1';
}

/** Returns the version 1 record on `line` (without its LF), or the first problem of it. */
export function verifyVersion1(line: string | Uint8Array): Version1Verified {
  const bytes = bytesOf(line);
  if (bytes === undefined) return malformed('the line is not valid Unicode');
  const members = canonicalMembers(bytes);
  if (typeof members === 'string') return malformed(members);
  if (!hasVersion1(members)) return malformed('the version is not 1');
  const record = readRecord(members);
  const signature = textOf(members, 'sig_b64');
  if (typeof record === 'string') return malformed(record);
  if (signature === undefined || !signatureShape.test(signature))
    return malformed('sig_b64 is not a signature');
  const { signer, payload, payloadHash } = record;
  const signed = new Map(members);
  signed.delete('sig_pk_b64');
  signed.delete('sig_b64');
  const decoded = decodeBase64(signature);
  if (
    decoded === undefined ||
    !verifySignature(signer, Buffer.from(printCanonical(signed), 'latin1'), decoded)
  ) {
    return { ok: false, problem: 'bad-signature', record, detail: `the signature is not ${signer}'s` };
  }
  if (sha256Hex(payload) !== payloadHash) {
    const detail = `the payload's SHA-256 is not the ${payloadHash} that was signed`;
    return { ok: false, problem: 'payload-mismatch', record, detail };
  }
  return { ok: true, record };
}

const timestamp = exactly('tsNs');
const keyShape = exactly('publicKey');
const signatureShape = exactly('signature');

/** Returns the record of `members`, or a sentence: which of them is missing or of another type. */
function readRecord(members: CanonicalMembers): Version1Record | string {
  const tsNs = members.get('ts_ns');
  const threadId = textOf(members, 'thread_id');
  const subject = textOf(members, 'subject');
  const kind = textOf(members, 'kind');
  const payloadHash = parseSha256Hex(textOf(members, 'payload_hash') ?? '');
  const signer = textOf(members, 'sig_pk_b64');
  const payload = members.get('payload');
  if (tsNs === undefined || !timestamp.test(tsNs)) return 'ts_ns is not a time';
  if (threadId === undefined || subject === undefined || kind === undefined) {
    return 'thread_id, subject or kind is not a text';
  }
  if (payloadHash === undefined) return 'payload_hash is not a SHA-256';
  if (signer === undefined || !keyShape.test(signer)) return 'sig_pk_b64 is not a key';
  if (payload === undefined) return 'there is no payload';
  return {
    tsNs: BigInt(tsNs),
    threadId,
    subject,
    kind,
    payloadHash,
    signer: signer as PublicKey,
    payload: Buffer.from(payload, 'latin1'),
  };
}

function textOf(members: CanonicalMembers, name: string): string | undefined {
  const value = members.get(name);
  return value?.startsWith('"') ? JSON.parse(value) : undefined;
}
