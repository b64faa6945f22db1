/**
 * A record's line in a log: read, verified, printed (docs/format.md, sections 2 to 4).
 *
 * A line comes from whoever could write to the file, so reading it is an answer, never an exception: the first
 * thing that is wrong with it, and a sentence. The steps of `verifyRecord` are there for those who need one
 * alone. Only version 2 is read here; version1.ts reads what came before it.
 */
import { decodeBase64, encodeBase64, sha256Hex } from '../base/encoding.ts';
import { recordVersion } from './header.ts';
import { receivedFault } from './kind.ts';
import { isJsonText, payloadBytes } from './payload.ts';
import {
  checkSignature,
  isMessage,
  printOpen,
  printReceived,
  readSigned,
  type SignedRecord,
} from './signed.ts';

/** What can be wrong with a line by itself, in the order in which it is looked for. */
export type Problem = 'malformed' | 'unsupported-version' | 'bad-signature' | 'payload-mismatch';

/** A line that is not a record. */
export interface Malformed {
  readonly ok: false;
  readonly problem: 'malformed';
  readonly record?: undefined;
  /** A sentence: what is wrong with it. */
  readonly detail: string;
}

/** What became of parsing a line. */
export type Parsed = { readonly ok: true; readonly record: SignedRecord } | Malformed;

/** What became of verifying a line. */
export type Verified =
  | Parsed
  | {
      readonly ok: false;
      readonly problem: Exclude<Problem, 'malformed'>;
      /** The line has the shape of a record: this one. */
      readonly record: SignedRecord;
      /** A sentence: what is wrong with it. */
      readonly detail: string;
    };

/** More than the members before a payload can fill, `received` included. */
const openBytes = 16 << 10;
const receivedMember = ',"received":';
const jsonMember = ',"payload":';
const base64Member = ',"payload_b64":"';
const closingBrace = 0x7d;

/**
 * Returns the record on `line` (without its LF), or the first problem of it. A payload that is withheld is not
 * one; whether a kept message holds is `receivedContradicts`' to say.
 */
export function verifyRecord(line: string | Uint8Array): Verified {
  return verify(line, checkSignature);
}

/** Returns the same, but for the signature, which nothing is said of. */
export function verifyHashes(line: string | Uint8Array): Verified {
  return verify(line, () => true);
}

function verify(line: string | Uint8Array, isSigned: (record: SignedRecord) => boolean): Verified {
  const parsed = parseLine(line);
  if (!parsed.ok) return parsed;
  const { record } = parsed;
  const { version, signer, payloadHash } = record.header;
  const refused = (problem: Exclude<Problem, 'malformed'>, detail: string): Verified => {
    return { ok: false, problem, record, detail };
  };
  if (version !== recordVersion) {
    return refused('unsupported-version', `the record is of version ${version}`);
  }
  if (!isSigned(record)) return refused('bad-signature', `the signature is not ${signer}'s`);
  if (checkPayload(record)) return parsed;
  return refused('payload-mismatch', `the payload's SHA-256 is not the ${payloadHash} that was signed`);
}

/** Reports whether the payload is the one that was signed; one that is withheld contradicts nothing. */
export function checkPayload({ payload, header }: SignedRecord): boolean {
  return payload === undefined || sha256Hex(payload) === header.payloadHash;
}

/** Reads the shape of `line` (without its LF): grammar, JSON payload, the rules of its kind, in any version. */
export function parseLine(line: string | Uint8Array): Parsed {
  const bytes = bytesOf(line);
  if (bytes === undefined) return malformed('the line is not valid Unicode');
  const text = bytes.toString('latin1', 0, openBytes);
  const open = readSigned(text, 0);
  if (typeof open === 'string') return malformed(open);
  let { record, end } = open;
  if (text.startsWith(receivedMember, end)) {
    const kept = readSigned(text, end + receivedMember.length);
    if (typeof kept === 'string') return malformed(`of the message that it keeps: ${kept}`);
    if (text[kept.end] !== '}' || !isMessage(kept.record.header)) {
      return malformed('the message that it keeps is not a BUS.PUBLISH without its payload');
    }
    record = { ...record, received: kept.record };
    end = kept.end + 1;
  }
  const fault = receivedFault(record.header, record.received);
  if (fault !== undefined) return malformed(fault);
  return readPayload(record, bytes, text, end);
}

function readPayload(record: SignedRecord, bytes: Buffer, text: string, start: number): Parsed {
  const last = bytes.length - 1;
  if (bytes[last] !== closingBrace) return malformed('the line does not end with }');
  if (start === last) return { ok: true, record };
  if (text.startsWith(jsonMember, start)) {
    const payload = bytes.subarray(start + jsonMember.length, last);
    if (payload.length > payloadBytes) return malformed('the payload is over 64 MiB');
    if (!isJsonText(payload)) return malformed('the payload is not one JSON text');
    return { ok: true, record: { ...record, payload, payloadIsJson: true } };
  }
  if (text.startsWith(base64Member, start) && bytes[last - 1] === 0x22) {
    const from = start + base64Member.length;
    if (last - 1 - from > Math.ceil(payloadBytes / 3) * 4) return malformed('the payload is over 64 MiB');
    const payload = last - 1 < from ? undefined : decodeBase64(bytes.toString('latin1', from, last - 1));
    if (payload === undefined) return malformed('payload_b64 is not canonical base64');
    if (payload.length > payloadBytes) return malformed('the payload is over 64 MiB');
    return { ok: true, record: { ...record, payload } };
  }
  return malformed('what follows the signature is not a payload');
}

/** Returns the bytes of a line, or `undefined` if they have no UTF-8: a text with half a surrogate pair. */
export function bytesOf(line: string | Uint8Array): Buffer | undefined {
  if (typeof line === 'string') return /\p{Surrogate}/u.test(line) ? undefined : Buffer.from(line);
  return Buffer.from(line.buffer, line.byteOffset, line.byteLength);
}

/** Returns the answer for a line that is not a record. */
export function malformed(detail: string): Malformed {
  return { ok: false, problem: 'malformed', detail };
}

/** A line in the order in which it is written: ASCII, a payload that is JSON, ASCII. */
interface LineParts {
  readonly open: string;
  readonly json: Buffer | undefined;
  readonly close: string;
}

function partsOf(record: SignedRecord): LineParts {
  const { payload, payloadIsJson, received } = record;
  let open = printOpen(record);
  if (received !== undefined) open += receivedMember + printReceived(received);
  if (payload === undefined) return { open, json: undefined, close: '}\n' };
  if (payloadIsJson) return { open: open + jsonMember, json: payload, close: '}\n' };
  return { open: open + base64Member, json: undefined, close: `${encodeBase64(payload)}"}\n` };
}

/** Returns the bytes of the records' lines, each with the LF after it, in one buffer. */
export function linesBytes(records: readonly SignedRecord[]): Buffer {
  const lines = records.map(partsOf);
  let size = 0;
  for (const { open, json, close } of lines) size += open.length + (json?.length ?? 0) + close.length;
  const bytes = Buffer.allocUnsafe(size);
  let at = 0;
  for (const { open, json, close } of lines) {
    at += bytes.write(open, at, 'latin1');
    if (json !== undefined) at += json.copy(bytes, at);
    at += bytes.write(close, at, 'latin1');
  }
  return bytes;
}

/** Returns the record's line, without the LF that ends it in a file. */
export function printLine(record: SignedRecord): string {
  return linesBytes([record]).toString('utf8').slice(0, -1);
}
