/**
 * What an agent's earlier sessions may not have got into the stream: looked for when it joins again.
 *
 * The log's end is read, and the stream is asked for the last messages of the sessions there, and for these alone; of lines as
 * large as they like only what is asked is held. A session whose writer lives is left to it, and one process of an agent looks at a time (log/alive.ts). Older
 * losses are for `reconcile`, which reads everything.
 */

import type { Sha256Hex } from '../base/encoding.ts';
import { SwarmError } from '../base/errors.ts';
import type { Bus } from '../bus/connection.ts';
import type { StoredMessage } from '../bus/read-message.ts';
import { readMessages, readStreamState } from '../bus/stored.ts';
import { firstSaidAs } from '../handler/received.ts';
import type { PublicKey } from '../identity/key.ts';
import { aliveOf } from '../log/alive.ts';
import { readLog } from '../log/reader.ts';
import { leafOfLine } from '../record/entry.ts';
import { verifyRecord } from '../record/line.ts';
import type { SignedRecord } from '../record/signed.ts';
import { parseEnvelope } from './envelope.ts';

export interface UnsaidOptions {
  /** The path of the log. */
  readonly log: string;
  readonly key: PublicKey;
  readonly swarm: string | undefined;
  readonly stream: string;
  readonly freshForNs: bigint;
}

/** Of each session, so many last messages are looked for. */
const lastOfSession = 1_024;
/** How far back the log is read. Less would do only if nobody had died while it was looking. */
const linesRead = 16_384;
/** More subjects than this are asked for together, by their pattern. */
const subjectsAtMost = 32;
/** Nobody waits for it, and a process that has just begun is busy. */
const withinMs = 30_000;

/** Returns the leaves of messages that the stream should have and does not. Throws `LOG_OPEN`, `BUS_STREAM`, `BUS_PERMISSION`. */
export async function findUnsaid(bus: Bus, options: UnsaidOptions): Promise<ReadonlySet<Sha256Hex>> {
  const { stream, freshForNs } = options;
  const owed = await lastSaid(options);
  if (owed.size === 0) return new Set();
  const { firstSeq, firstTimeNs } = await readStreamState(bus, stream);
  for (const [message, { last }] of owed) {
    const mayBeGone = firstTimeNs === undefined || last.tsNs - freshForNs <= firstTimeNs;
    if (firstSeq > 1 && mayBeGone) owed.delete(message); // purged or expired, for all that can be known
  }
  const said = new Map<string, { readonly message: string; readonly line: OwnLine }>();
  for (const [message, { records }] of owed)
    for (const line of records) said.set(line.leaf, { message, line });
  const [oldest] = [...said.values()].map(({ line }) => line.tsNs).sort((a, b) => (a < b ? -1 : 1));
  if (oldest === undefined) return new Set();
  const patterns = patternsOf([...owed.values()].map(({ last }) => last.subject));
  const search = { stream, ...patterns, sinceNs: oldest - freshForNs, headersOnly: true, withinMs };
  for await (const message of readMessages(bus, search)) {
    const known = said.get(message.headers.messageId ?? '');
    if (known === undefined || !isThere(known.line, message, freshForNs)) continue;
    owed.delete(known.message);
    if (owed.size === 0) break;
  }
  return new Set([...owed.values()].map(({ last }) => last.leaf));
}

/** Reports whether `stored` is what `line` says, as far as its headers tell, and in time to count as fresh. */
function isThere(
  line: OwnLine,
  { subject, headers, timestampNs }: StoredMessage,
  freshForNs: bigint,
): boolean {
  const age = timestampNs - line.tsNs;
  const envelope = parseEnvelope(headers); // its record is the one of the id
  const isOurs = envelope.state === 'well-formed' && envelope.record.signature === line.signature;
  return isOurs && subject === line.subject && age <= freshForNs && age >= -freshForNs;
}

/**
 * Yields the records at the end of the log that have one of `leaves`, in its order. Throws `LOG_OPEN`, also where others have
 * written so much meanwhile that they are not at its end any more.
 */
export async function* recordsOf(path: string, leaves: ReadonlySet<Sha256Hex>): AsyncGenerator<SignedRecord> {
  let left = leaves.size;
  for await (const { bytes } of readLog(path, { last: 2 * linesRead })) {
    if (!leaves.has(leafOfLine(bytes))) continue;
    const verified = verifyRecord(bytes);
    if (verified.ok) yield verified.record;
    left -= 1;
    if (left === 0) return;
  }
  throw new SwarmError('LOG_OPEN', `${left} records of ${path} are too far from its end by now`);
}

/** Returns subjects, or few patterns of them, that do not overlap; none where that is all. */
function patternsOf(subjects: readonly string[]): { readonly subjects?: readonly string[] } {
  const each = [...new Set(subjects)];
  if (each.length <= subjectsAtMost) return { subjects: each };
  const patterns = [...new Set(each.map((subject) => subject.replace(/^thread\.[^.]+\./, 'thread.*.')))];
  return patterns.length <= subjectsAtMost ? { subjects: patterns } : {};
}

/** A message that may be owed: the records that say it, and the last of them. */
interface Owed {
  readonly records: readonly OwnLine[];
  readonly last: OwnLine;
}

/** Returns what sessions of our key said last, that nobody says any more, by the first leaf, in the order of the log. */
async function lastSaid({ log, key, swarm }: UnsaidOptions): Promise<Map<string, Owed>> {
  const lines = await ownLines(log, key);
  const alive = aliveOf(log, new Set(lines.map(({ session }) => session)));
  const left = new Map<string, number>();
  const isLast = ({ session }: OwnLine): boolean => {
    const more = (left.get(session) ?? lastOfSession) - 1;
    left.set(session, more);
    return more >= 0;
  };
  const looked = new Set(
    lines
      .filter(({ isPublish }) => isPublish)
      .toReversed()
      .filter(isLast),
  );
  const owed = new Map<string, Owed>();
  for (const line of lines) {
    const before = owed.get(line.first)?.records ?? [];
    owed.delete(line.first); // what was said anew stands where it was said last
    const isOver = !line.isPublish || alive.has(line.session) || line.swarm !== swarm;
    if (!isOver && looked.has(line)) owed.set(line.first, { records: [...before, line], last: line });
  }
  return owed;
}

/** A line of our key that says that something was said, or that it was not sent. */
interface OwnLine {
  readonly leaf: Sha256Hex;
  readonly signature: string;
  /** The leaf under which its message was said first. */
  readonly first: string;
  readonly tsNs: bigint;
  readonly subject: string;
  readonly swarm: string | undefined;
  readonly session: string;
  readonly isPublish: boolean;
}

/** What of a header is asked for here; whole records are read of what is owed, and they are few. */
const members = new RegExp(
  '^\\{"ts_ns":(\\d+),"thread_id":"[^"]+","subject":"([^"]+)","kind":"([A-Z.]+)".*?(?:,"swarm":"([^"]+)")?' +
    `,"session":"(\\w{32})","seq":\\d+,"prev":"\\w{64}"(?:,"cause":"(\\w{64})")?.*?` +
    `(?:"${firstSaidAs}":"([^"]+)".*?)?,"sig_pk_b64":"([^"]+)","sig_b64":"([^"]+)"`,
);
/** More than a header can fill. */
const headerWithin = 8_192;

/** Returns such lines of the log's end, in its order. */
async function ownLines(path: string, key: PublicKey): Promise<readonly OwnLine[]> {
  const signed = Buffer.from(`"sig_pk_b64":"${key}"`);
  const lines: OwnLine[] = [];
  for await (const { bytes } of readLog(path, { last: linesRead })) {
    if (!bytes.includes(signed)) continue;
    const found = members.exec(bytes.toString('latin1', 0, headerWithin));
    if (found?.[8] !== key) continue; // another heard us
    const [, ts = '', subject = '', kind, swarm, session = '', cause, saidFirstAs, , signature = ''] = found;
    const isPublish = kind === 'BUS.PUBLISH';
    if (!isPublish && kind !== 'BUS.UNSENT') continue;
    const leaf = leafOfLine(bytes);
    const first = saidFirstAs ?? (isPublish ? leaf : (cause ?? ''));
    lines.push({ leaf, signature, first, tsNs: BigInt(ts), subject, swarm, session, isPublish });
  }
  return lines;
}
