/**
 * A signed record: a header's text, its leaf, and the signature that leads to it.
 *
 * It comes in two forms, a line of a log and the Swarm headers of a message; both are read by the same
 * expressions. Reading checks the shape alone, `checkSignature` whether the signature holds.
 */
import type { Sha256Hex } from '../base/encoding.ts';
import { checkFlush, parsePath } from './flush.ts';
import { grammar, limits } from './grammar.ts';
import {
  type Header,
  headerGroups,
  headerMembers,
  leafOf,
  parseHeader,
  readHeader,
  recordVersion,
} from './header.ts';
import { kindFault } from './kind.ts';

export interface SignedRecord {
  readonly header: Header;
  /** H: the header's bytes, as they were hashed. */
  readonly text: string;
  /** SHA-256(0x00 ‖ H). */
  readonly leaf: Sha256Hex;
  /** `sig_b64`. */
  readonly signature: string;
  /** `sig_path`; `undefined` where the record was alone in its flush. */
  readonly path: string | undefined;
  /** The message that a DELIVER or REJECT keeps: a PUBLISH without its payload. */
  readonly received: SignedRecord | undefined;
  /** As it was transported; `undefined` where it is withheld. Of a parsed line, a view into it. */
  readonly payload: Buffer | undefined;
  /** Whether the line carries the payload as the JSON text that it is, not in base64. */
  readonly payloadIsJson: boolean;
}

/** Where a signed record ends, and what it says. */
export interface Read {
  readonly record: SignedRecord;
  /** After the last member read: where `}` or further members stand. */
  readonly end: number;
}

const signedMembers = new RegExp(
  `\\{${headerMembers},"sig_b64":"(${grammar.signature})"(?:,"sig_path":"(${grammar.path})")?`,
  'y',
);
const signatureShape = new RegExp(`^${grammar.signature}$`);
const pathShape = new RegExp(`^${grammar.path}$`);

/**
 * Reads the header and signature that begin at `start` of `text`. Returns a sentence where they are not there
 * or break the rules of the header's kind.
 */
export function readSigned(text: string, start: number): Read | string {
  signedMembers.lastIndex = start;
  const match = signedMembers.exec(text);
  const header = match === null ? undefined : readHeader(match);
  const signature = match?.[headerGroups + 1];
  const path = match?.[headerGroups + 2];
  if (header === undefined || signature === undefined || (path?.length ?? 0) > limits.pathLength) {
    return 'the header and its signature do not fit the grammar';
  }
  const fault = kindFault(header);
  if (fault !== undefined) return fault;
  const end = signedMembers.lastIndex;
  const members = text.slice(start, end - printSignature(signature, path).length);
  return { record: bareRecord(header, `${members}}`, signature, path), end };
}

function bareRecord(header: Header, text: string, signature: string, path: string | undefined): SignedRecord {
  const leaf = leafOf(text);
  return {
    header,
    text,
    leaf,
    signature,
    path,
    received: undefined,
    payload: undefined,
    payloadIsJson: false,
  };
}

/** A record as headers carry it. */
export interface Carried {
  /** `Swarm-Record`: H. */
  readonly text: string;
  /** `Swarm-Sig`. */
  readonly signature: string;
  /** `Swarm-Path`, if the message has one. */
  readonly path?: string | undefined;
}

/**
 * Returns the BUS.PUBLISH record that a message's Swarm headers spell (section 5), or `undefined` if they have
 * not the shape of one. Whether its signature holds is not checked.
 */
export function parseSigned(headers: Carried): SignedRecord | undefined {
  const record = parseCarried(headers);
  return record !== undefined && isMessage(record.header) ? record : undefined;
}

/** Returns the record of whatever kind that headers spell, or `undefined`. Whether its signature holds is not checked. */
export function parseCarried({ text, signature, path }: Carried): SignedRecord | undefined {
  const header = parseHeader(text);
  if (header?.version !== recordVersion || !signatureShape.test(signature)) return undefined;
  if (path !== undefined && (path.length > limits.pathLength || !pathShape.test(path))) return undefined;
  return bareRecord(header, text, signature, path);
}

/** Reports whether a header is one that a message can carry. */
export function isMessage({ kind, version }: Header): boolean {
  return kind === 'BUS.PUBLISH' && version === recordVersion;
}

/** Returns the members that follow the header's: a comma, the signature, and its path if there is one. */
function printSignature(signature: string, path: string | undefined): string {
  return path === undefined ? `,"sig_b64":"${signature}"` : `,"sig_b64":"${signature}","sig_path":"${path}"`;
}

/** Returns the line of `record` up to its signature and path, without the `}` that would end it there. */
export function printOpen({ text, signature, path }: SignedRecord): string {
  return text.slice(0, -1) + printSignature(signature, path);
}

/** Returns the line of `record` without what it keeps and without its payload, as a `received` member holds it. */
export function printReceived(record: SignedRecord): string {
  return `${printOpen(record)}}`;
}

/** Reports whether the record's signature is its signer's, over a flush that the record is in (section 4). */
export function checkSignature({ leaf, header, signature, path }: SignedRecord): boolean {
  return checkFlush(leaf, header.signer, signature, path);
}

/** Returns where a record whose signature holds stands in its flush. */
export function flushPlaceOf({ path }: SignedRecord): { readonly index: number; readonly size: number } {
  const { index, size } = parsePath(path) ?? { index: 0, size: 1 };
  return { index, size };
}
