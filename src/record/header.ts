/**
 * A record's header: printed as H, the bytes that are hashed and signed, and read back from them.
 *
 * A header has exactly one spelling (docs/format.md, section 2): members in one order, ASCII, no escapes. So it
 * is printed by concatenation, read by one regular expression, and never goes through a JSON parser, which
 * would round `ts_ns`. `printHeader(parseHeader(text))` is `text`.
 */
import { type Sha256Hex, sha256Hex } from '../base/encoding.ts';
import type { PublicKey } from '../identity/key.ts';
import { grammar, limits } from './grammar.ts';
import { kindFault } from './kind.ts';

/** Where the broker keeps a message, and which attempt at delivering it this is. */
export interface Delivery {
  readonly stream: string;
  /** The message's number in the stream, from 1. */
  readonly seq: number;
  /** The durable consumer's name, or empty. */
  readonly consumer: string;
  /** From 1. */
  readonly attempt: number;
}

/** The members of a header, in the words of docs/format.md, section 2. */
export interface Header {
  /** Nanoseconds since the Unix epoch, by the writer's clock. */
  readonly tsNs: bigint;
  readonly threadId: string;
  readonly subject: string;
  readonly kind: string;
  readonly payloadHash: Sha256Hex;
  /** 2; another is read too, so that it can be named. Past 2^53 it is rounded. */
  readonly version: number;
  readonly swarm?: string | undefined;
  /** 32 lowercase hex digits. */
  readonly session: string;
  readonly seq: number;
  readonly prev: Sha256Hex;
  readonly cause?: Sha256Hex | undefined;
  readonly refs?: readonly Sha256Hex[] | undefined;
  readonly trace?: string | undefined;
  readonly delivery?: Delivery | undefined;
  readonly reason?: string | undefined;
  readonly step?: string | undefined;
  readonly meta?: Readonly<Record<string, string>> | undefined;
  readonly signer: PublicKey;
}

/** The version that this project writes and verifies. */
export const recordVersion = 2;

const metaPair = `"${grammar.metaKey}":"${grammar.metaValue}"`;

/** The source of an expression for the header members between `{` and `}`; its groups are read by `readHeader`. */
export const headerMembers: string = [
  `"ts_ns":(${grammar.tsNs})`,
  `,"thread_id":"(${grammar.threadId})"`,
  `,"subject":"(${grammar.subject})"`,
  `,"kind":"(${grammar.kind})"`,
  `,"payload_hash":"(${grammar.hash})"`,
  `,"version":(${grammar.version})`,
  `(?:,"swarm":"(${grammar.swarm})")?`,
  `,"session":"(${grammar.session})"`,
  `,"seq":(${grammar.seq})`,
  `,"prev":"(${grammar.hash})"`,
  `(?:,"cause":"(${grammar.hash})")?`,
  `(?:,"refs":\\[("${grammar.hash}"(?:,"${grammar.hash}"){0,${limits.refs - 1}})\\])?`,
  `(?:,"trace":"(${grammar.trace})")?`,
  `(?:,"delivery":\\{"stream":"(${grammar.stream})","seq":(${grammar.streamSeq}),`,
  `"consumer":"(${grammar.consumer})","attempt":(${grammar.attempt})\\})?`,
  `(?:,"reason":"(${grammar.reason})")?`,
  `(?:,"step":"(${grammar.step})")?`,
  `(?:,"meta":\\{(${metaPair}(?:,${metaPair}){0,${limits.metaPairs - 1}})\\})?`,
  `,"sig_pk_b64":"(${grammar.publicKey})"`,
].join('');

/** How many groups `headerMembers` has: what stands after it in a longer expression is counted from here. */
export const headerGroups = 21;

const wholeHeader = new RegExp(`^\\{${headerMembers}\\}$`);
const latestTsNs = 2n ** 63n - 1n;

/** Returns H, the header's one spelling. What `header` holds must fit the grammar: drafts are checked before. */
export function printHeader(header: Header): string {
  const { swarm, cause, refs, trace, delivery, reason, step, meta } = header;
  let text = `{"ts_ns":${header.tsNs},"thread_id":"${header.threadId}","subject":"${header.subject}","kind":"${header.kind}","payload_hash":"${header.payloadHash}","version":${header.version}`;
  if (swarm !== undefined) text += `,"swarm":"${swarm}"`;
  text += `,"session":"${header.session}","seq":${header.seq},"prev":"${header.prev}"`;
  if (cause !== undefined) text += `,"cause":"${cause}"`;
  if (refs !== undefined) text += `,"refs":["${refs.join('","')}"]`;
  if (trace !== undefined) text += `,"trace":"${trace}"`;
  if (delivery !== undefined) {
    text += `,"delivery":{"stream":"${delivery.stream}","seq":${delivery.seq},"consumer":"${delivery.consumer}","attempt":${delivery.attempt}}`;
  }
  if (reason !== undefined) text += `,"reason":"${reason}"`;
  if (step !== undefined) text += `,"step":"${step}"`;
  if (meta !== undefined) {
    const keys = Object.keys(meta).sort();
    text += `,"meta":{${keys.map((key) => `"${key}":"${meta[key]}"`).join(',')}}`;
  }
  return `${text},"sig_pk_b64":"${header.signer}"}`;
}

/** Returns the header that `text` spells, or `undefined` if it breaks the grammar or the rules of its kind. */
export function parseHeader(text: string): Header | undefined {
  const match = wholeHeader.exec(text);
  const header = match === null ? undefined : readHeader(match);
  return header === undefined || kindFault(header) !== undefined ? undefined : header;
}

/** Reports whether `text` fits the grammar of a header, whatever its kind would say to it (section 8). */
export function isHeaderText(text: string): boolean {
  const match = wholeHeader.exec(text);
  return match !== null && readHeader(match) !== undefined;
}

/** Returns the leaf of a header's text: SHA-256(0x00 ‖ H). */
export function leafOf(headerText: string): Sha256Hex {
  return sha256Hex(`\0${headerText}`);
}

/** Returns the header in the groups of a match of `headerMembers`, or `undefined` where a limit is passed. */
export function readHeader(match: RegExpExecArray): Header | undefined {
  const tsNs = BigInt(match[1] ?? '');
  const subject = match[3] ?? '';
  const kind = match[4] ?? '';
  const seq = Number(match[9]);
  if (tsNs > latestTsNs || seq > Number.MAX_SAFE_INTEGER) return undefined;
  if (subject.length > limits.subjectLength || kind.length > limits.kindLength) return undefined;
  const refs = match[12];
  const stream = match[14];
  const streamSeq = Number(match[15]);
  if (stream !== undefined && streamSeq > Number.MAX_SAFE_INTEGER) return undefined;
  const metaText = match[20];
  const meta = metaText === undefined ? undefined : readMeta(metaText);
  if (meta === null) return undefined;
  return {
    tsNs,
    threadId: match[2] ?? '',
    subject,
    kind,
    payloadHash: (match[5] ?? '') as Sha256Hex,
    version: Number(match[6]),
    swarm: match[7],
    session: match[8] ?? '',
    seq,
    prev: (match[10] ?? '') as Sha256Hex,
    cause: match[11] as Sha256Hex | undefined,
    refs: refs === undefined ? undefined : (refs.slice(1, -1).split('","') as Sha256Hex[]),
    trace: match[13],
    delivery:
      stream === undefined
        ? undefined
        : { stream, seq: streamSeq, consumer: match[16] ?? '', attempt: Number(match[17]) },
    reason: match[18],
    step: match[19],
    meta,
    signer: (match[21] ?? '') as PublicKey,
  };
}

/** Returns the pairs of `text`, or `null` if their keys do not ascend. Neither keys nor values can hold a quote. */
function readMeta(text: string): Record<string, string> | null {
  const meta: Record<string, string> = {};
  const parts = text.split('"');
  let before = '';
  for (let at = 1; at < parts.length; at += 4) {
    const key = parts[at] ?? '';
    if (key <= before) return null;
    meta[key] = parts[at + 2] ?? '';
    before = key;
  }
  return meta;
}
