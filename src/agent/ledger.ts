/**
 * Two accounts of the same messages, a log's and a stream's, held against each other message by message.
 *
 * A message is what one key said under one first leaf, on one subject, with one payload: said anew it is the same one
 * (docs/format.md, section 5). Entries of both sides are rows that spill to disk (base/spilled.ts), so memory does not
 * grow with them; the comparison takes a part of them at a time.
 */
import { type Sha256Hex, sha256 } from '../base/encoding.ts';
import { Spilled, spilledParts } from '../base/spilled.ts';
import { firstSaidAs } from '../handler/received.ts';
import type { PublicKey } from '../identity/key.ts';
import type { Header } from '../record/header.ts';

/**
 * What an entry says of its message. Of the log: `said`, or `under-way` where its writer may still be at it; `unsent`,
 * `heard`. Of the stream: `stored`; `stale`, so that no receiver takes it; `altered`, not what its record says; `barred`,
 * as its record says, but the keyring is against it.
 */
const kinds = ['said', 'under-way', 'unsent', 'heard', 'stored', 'stale', 'altered', 'barred'] as const;

export type EntryKind = (typeof kinds)[number];

export interface Entry {
  readonly kind: EntryKind;
  /** Of the PUBLISH that it is about. */
  readonly leaf: Sha256Hex;
  /** Whose message it is: the number under which the caller knows the key. */
  readonly signer: number;
  /** Where it is: a place in the log, or of the stream's a number of a message. */
  readonly at: number;
  /**
   * Of `said` and `under-way`, the time in ns; of `heard`, the message's number in the stream; of `stored` and `stale`, 1
   * where the log should have the record; of `altered` and `barred`, which of `rejectReasons`.
   */
  readonly about: bigint;
}

const keyBytes = 16;
const leafBytes = 32;
const rowBytes = keyBytes + leafBytes + 1 + 2 + 8 + 8;

export class Ledger implements Disposable {
  readonly #rows = new Spilled(rowBytes);
  readonly #row = Buffer.alloc(rowBytes);

  /** Adds what `entry` says of the message that `header`, of a PUBLISH, said first as `first`. */
  add(header: Pick<Header, 'signer' | 'subject' | 'payloadHash'>, first: string, entry: Entry): void {
    const row = this.#row;
    messageKey(header, first).copy(row, 0, 0, keyBytes);
    row.write(entry.leaf, keyBytes, 'hex');
    let at = keyBytes + leafBytes;
    at = row.writeUInt8(kinds.indexOf(entry.kind), at);
    at = row.writeUInt16LE(entry.signer, at);
    at = row.writeDoubleLE(entry.at, at);
    row.writeBigUInt64LE(entry.about, at);
    this.#rows.add(row, 0, row[0] as number);
  }

  /** Yields the entries about each message, in the order in which they were added. */
  *messages(): Generator<readonly Entry[]> {
    for (let part = 0; part < spilledParts; part += 1) {
      const rows = this.#rows.part(part);
      const messages = new Map<string, Entry[]>();
      for (let start = 0; start < rows.length; start += rowBytes) {
        const key = rows.toString('latin1', start, start + keyBytes);
        const entries = messages.get(key);
        if (entries === undefined) messages.set(key, [entryAt(rows, start)]);
        else entries.push(entryAt(rows, start));
      }
      yield* messages.values();
    }
  }

  [Symbol.dispose](): void {
    this.#rows[Symbol.dispose]();
  }
}

function entryAt(rows: Buffer, start: number): Entry {
  const at = start + keyBytes + leafBytes;
  return {
    leaf: rows.toString('hex', start + keyBytes, at) as Sha256Hex,
    kind: kinds[rows.readUInt8(at)] as EntryKind,
    signer: rows.readUInt16LE(at + 1),
    at: rows.readDoubleLE(at + 3),
    about: rows.readBigUInt64LE(at + 11),
  };
}

/** Returns the leaf under which the message of a PUBLISH was said first. */
export function firstLeafOf({ leaf, header }: { readonly leaf: Sha256Hex; readonly header: Header }): string {
  return header.meta?.[firstSaidAs] ?? leaf;
}

/** Returns what is the same for all records of one message, and for no two messages: nobody finds another for a hash. */
function messageKey(
  {
    signer,
    subject,
    payloadHash,
  }: { readonly signer: PublicKey; readonly subject: string; readonly payloadHash: Sha256Hex },
  first: string,
): Buffer {
  return sha256(Buffer.from(`${signer} ${first} ${subject} ${payloadHash}`));
}
