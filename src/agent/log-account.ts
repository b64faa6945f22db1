/**
 * A log's side of the ledger: what its agents said, what the broker would not take of it, and what they heard.
 */

import { zeroHash } from '../base/encoding.ts';
import { firstSaidAs } from '../handler/received.ts';
import type { PublicKey } from '../identity/key.ts';
import { aliveOf } from '../log/alive.ts';
import { type LogLine, type Position, readLog } from '../log/reader.ts';
import { parseLine } from '../record/line.ts';
import type { SignedRecord } from '../record/signed.ts';
import { firstLeafOf, type Ledger } from './ledger.ts';
import type { Signers } from './signers.ts';

/** A place of a log as one number, in the order of the lines: the file's, from 0, and the line's first byte. */
type Place = number;

const placesOfFile = 2 ** 40; // 2^13 files of a TiB each

/** What is known of a log beyond its entries. */
export interface LogAccount {
  readonly records: number;
  /** Who wrote here, whatever it was: what else they say in the stream is due here too. */
  readonly writers: ReadonlySet<PublicKey>;
  /** From when on all that its writers said is here, by their clocks: later than 0 where its first files are elsewhere. */
  readonly sinceNs: bigint;
}

export interface LogAccountOptions {
  /** Deliveries of other streams are passed over. */
  readonly stream: string;
  /** Reports whether the stream would take a subject; what was said elsewhere is passed over. */
  readonly isOfStream: (subject: string) => boolean;
  /** A message said after this may still be on its way, if its writer lives. */
  readonly underWaySinceNs: bigint;
  readonly onProgress?: ((bytes: number) => void) | undefined;
}

/** Adds what the log at `path` holds to `ledger`. Throws `LOG_OPEN`. */
export async function addLog(
  path: string,
  ledger: Ledger,
  signers: Signers,
  options: LogAccountOptions,
): Promise<LogAccount> {
  const { stream, isOfStream, underWaySinceNs, onProgress } = options;
  const writers = new Set<PublicKey>();
  const living = new Map<string, boolean>();
  const isAlive = (session: string): boolean => {
    const known = living.get(session) ?? aliveOf(path, [session]).has(session);
    living.set(session, known);
    return known;
  };
  let records = 0;
  let sinceNs = 0n;
  for await (const { line, place } of placedLines(path)) {
    records += 1;
    onProgress?.(line.bytes.length + 1);
    const parsed = parseLine(line.bytes);
    if (!parsed.ok) continue; // torn and named by a later record, or of version 1: those were of no stream
    const { record } = parsed;
    const { header, leaf } = record;
    if (writers.size === 0 && header.prev !== zeroHash) sinceNs = header.tsNs;
    writers.add(header.signer);
    const at = place;
    switch (header.kind) {
      case 'BUS.PUBLISH': {
        if (!isOfStream(header.subject)) break;
        const kind = header.tsNs > underWaySinceNs && isAlive(header.session) ? 'under-way' : 'said';
        const entry = {
          kind,
          leaf,
          signer: signers.numberOf(header.signer),
          at,
          about: header.tsNs,
        } as const;
        ledger.add(header, firstLeafOf(record), entry);
        break;
      }
      case 'BUS.UNSENT': {
        const { cause } = header;
        if (cause === undefined) break;
        const entry = {
          kind: 'unsent',
          leaf: cause,
          signer: signers.numberOf(header.signer),
          at,
          about: 0n,
        } as const;
        ledger.add(header, header.meta?.[firstSaidAs] ?? cause, entry);
        break;
      }
      case 'BUS.DELIVER': {
        const { received } = record;
        if (received === undefined || header.delivery?.stream !== stream) break;
        const about = BigInt(header.delivery.seq);
        const signer = signers.numberOf(received.header.signer);
        ledger.add(received.header, firstLeafOf(received), {
          kind: 'heard',
          leaf: received.leaf,
          signer,
          at,
          about,
        });
        break;
      }
    }
  }
  return { records, writers, sinceNs };
}

/** A record of a log, and where it stands. */
export interface PlacedRecord {
  readonly at: Position;
  readonly place: number;
  readonly record: SignedRecord;
}

/** Yields the records at `places`, which ascend, of the log at `path`. Throws `LOG_OPEN`. */
export async function* recordsAt(path: string, places: readonly number[]): AsyncGenerator<PlacedRecord> {
  let next = 0;
  if (places.length === 0) return;
  for await (const { line, place } of placedLines(path)) {
    if (place !== places[next]) continue;
    const parsed = parseLine(line.bytes);
    if (parsed.ok) yield { at: line.at, place, record: parsed.record };
    next += 1;
    if (next === places.length) return;
  }
}

async function* placedLines(path: string): AsyncGenerator<{ line: LogLine; place: Place }> {
  let file = -1;
  let before: Position | undefined;
  for await (const line of readLog(path)) {
    const { at } = line;
    // A segment that is closed meanwhile leaves its name to the next.
    if (at.file !== before?.file || at.offset <= before.offset) file += 1;
    before = at;
    yield { line, place: file * placesOfFile + at.offset };
  }
}
