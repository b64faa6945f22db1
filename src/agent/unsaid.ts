/**
 * What an agent's earlier sessions may not have got into the stream: looked for when it joins again.
 *
 * The log's end is read, as far back as the last messages of the sessions there go, and the stream is asked for these
 * alone. A session whose writer lives is left to it, and one process of an agent looks at a time (log/alive.ts). Older
 * losses are for `reconcile`, which reads everything.
 */
import type { Bus } from '../bus/connection.ts';
import { readMessages, readStreamState } from '../bus/stored.ts';
import { firstSaidAs } from '../handler/received.ts';
import type { PublicKey } from '../identity/key.ts';
import { aliveOf } from '../log/alive.ts';
import { readLog } from '../log/reader.ts';
import { verifyRecord } from '../record/line.ts';
import type { SignedRecord } from '../record/signed.ts';
import { parseEnvelope } from './envelope.ts';
import { firstLeafOf, messageKey } from './ledger.ts';

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
/** How many lines are read at first, and at most where those do not show as many messages. */
const linesAtFirst = 2 * lastOfSession;
const linesAtMost = 8 * linesAtFirst;
/** More subjects than this are asked for together, by their pattern. */
const subjectsAtMost = 32;
const lookWithinMs = 5_000;

/**
 * Returns the records of messages that the stream should have and does not, in the order of the log. Throws `LOG_OPEN`,
 * `BUS_STREAM`, `BUS_PERMISSION`.
 */
export async function findUnsaid(bus: Bus, options: UnsaidOptions): Promise<readonly SignedRecord[]> {
  const { stream, freshForNs } = options;
  const wanted = await lastSaid(options);
  if (wanted.size === 0) return [];
  const { firstSeq, firstTimeNs } = await readStreamState(bus, stream);
  for (const [key, { header }] of wanted) {
    const mayBeGone = firstTimeNs === undefined || header.tsNs - freshForNs <= firstTimeNs;
    if (firstSeq > 1 && mayBeGone) wanted.delete(key); // purged or expired, for all that can be known
  }
  const times = [...wanted.values()].map(({ header }) => header.tsNs).sort((a, b) => (a < b ? -1 : 1));
  const [oldest] = times;
  if (oldest === undefined) return [];
  const patterns = patternsOf([...wanted.values()].map(({ header }) => header.subject));
  const sinceNs = oldest - freshForNs;
  const search = { stream, ...patterns, sinceNs, headersOnly: true, withinMs: lookWithinMs };
  for await (const { subject, headers, timestampNs } of readMessages(bus, search)) {
    const envelope = parseEnvelope(headers);
    if (envelope.state !== 'well-formed') continue;
    const { record } = envelope;
    const age = timestampNs - record.header.tsNs;
    if (record.header.subject !== subject || age > freshForNs || age < -freshForNs) continue;
    wanted.delete(keyOf(record));
    if (wanted.size === 0) break;
  }
  return [...wanted.values()];
}

function keyOf(record: SignedRecord): string {
  return messageKey(record.header, firstLeafOf(record)).toString('latin1');
}

/** Returns subjects, or few patterns of them, that do not overlap; none where that is all. */
function patternsOf(subjects: readonly string[]): { readonly subjects?: readonly string[] } {
  const each = [...new Set(subjects)];
  if (each.length <= subjectsAtMost) return { subjects: each };
  const patterns = [...new Set(each.map((subject) => subject.replace(/^thread\.[^.]+\./, 'thread.*.')))];
  return patterns.length <= subjectsAtMost ? { subjects: patterns } : {};
}

/** Returns the last record of each message that sessions of our key said last, and nobody says any more, by its key. */
async function lastSaid({ log, key, swarm }: UnsaidOptions): Promise<Map<string, SignedRecord>> {
  const lines = await ownLines(log, key);
  const alive = aliveOf(log, new Set(lines.map(({ session }) => session)));
  const left = new Map<string, number>();
  const isLast = ({ session }: OwnLine): boolean => {
    const more = (left.get(session) ?? lastOfSession) - 1;
    left.set(session, more);
    return more >= 0;
  };
  const said = lines.filter(({ isPublish }) => isPublish);
  const looked = new Set(said.toReversed().filter(isLast));
  const wanted = new Map<string, SignedRecord>();
  for (const line of lines) {
    if (line.isPublish && !looked.has(line)) continue;
    const verified = verifyRecord(line.bytes);
    if (!verified.ok || verified.record.header.signer !== key) continue;
    const { record } = verified;
    const { header } = record;
    if (!line.isPublish) {
      wanted.delete(messageKey(header, header.meta?.[firstSaidAs] ?? header.cause ?? '').toString('latin1'));
      continue;
    }
    wanted.delete(keyOf(record)); // what was said anew stands where it was said last
    if (!alive.has(header.session) && header.swarm === swarm) wanted.set(keyOf(record), record);
  }
  return wanted;
}

/** A line of our key that says that something was said, or that it was not sent. */
interface OwnLine {
  readonly bytes: Buffer;
  readonly session: string;
  readonly isPublish: boolean;
}

const own = /"kind":"([A-Z.]+)".*?"session":"([0-9a-f]{32})","seq":(\d+),.*?"sig_pk_b64":"([^"]+)"/;
/** More than a header can fill. */
const headerWithin = 8_192;

/** Returns such lines of the log's end, in its order. */
async function ownLines(path: string, key: PublicKey): Promise<readonly OwnLine[]> {
  const signed = Buffer.from(`"sig_pk_b64":"${key}"`);
  for (let last = linesAtFirst; ; last = linesAtMost) {
    const lines: OwnLine[] = [];
    /** Of each session, how many messages are still looked for; none where its beginning was seen. */
    const missing = new Map<string, number>();
    let read = 0;
    for await (const { bytes } of readLog(path, { last })) {
      read += 1;
      if (!bytes.includes(signed)) continue;
      const [, kind, session = '', seq, signer] = own.exec(bytes.toString('latin1', 0, headerWithin)) ?? [];
      if (signer !== key) continue; // another heard us
      const isPublish = kind === 'BUS.PUBLISH';
      if (isPublish || kind === 'BUS.UNSENT') lines.push({ bytes, session, isPublish });
      const more = missing.get(session) ?? lastOfSession;
      missing.set(session, seq === '0' ? 0 : Math.max(0, more - (isPublish ? 1 : 0)));
    }
    const said = lines.filter(({ isPublish }) => isPublish).length;
    const isEnough = said >= lastOfSession && [...missing.values()].every((more) => more === 0);
    if (isEnough || read < last || last === linesAtMost) return lines;
  }
}
