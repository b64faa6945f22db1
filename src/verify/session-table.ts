/**
 * Where each session of a file stands, in little memory: 73 bytes a session, and up to 16 to find it by.
 *
 * Sessions stand in blocks, in the order in which they began; a table of their numbers finds one. Its places are drawn
 * under a secret, for sessions are chosen by whoever writes. Texts that many share, keys and swarms, stand once.
 */
import type { Sha256Hex } from '../base/encoding.ts';
import type { BatchEntry } from './batch.ts';
import { KeyedHash } from './keyed-hash.ts';

const at = { session: 0, leaf: 16, tsNs: 48, seq: 56, signer: 64, swarm: 68, flushEnded: 72 } as const;
const sessionBytes = 16;
const leafBytes = 32;
const entryBytes = 73;
const blockEntries = 1024;

/** One session in its block. */
export class Session {
  readonly #block: Buffer;
  readonly #start: number;
  readonly #texts: readonly string[];

  constructor(block: Buffer, start: number, texts: readonly string[]) {
    this.#block = block;
    this.#start = start;
    this.#texts = texts;
  }

  get signer(): string {
    return this.#text(at.signer);
  }
  get swarm(): string | undefined {
    return this.#text(at.swarm) || undefined;
  }
  get seq(): number {
    return this.#block.readDoubleLE(this.#start + at.seq);
  }
  get tsNs(): bigint {
    return this.#block.readBigInt64LE(this.#start + at.tsNs);
  }
  get leaf(): Sha256Hex {
    return this.#block.toString('hex', this.#start + at.leaf, this.#start + at.tsNs) as Sha256Hex;
  }
  /** Whether the last record was the last of its flush. */
  get flushEnded(): boolean {
    return this.#block[this.#start + at.flushEnded] === 1;
  }

  /** Reports whether `record` names the last one as the one before it. */
  isBefore({ entries, prevAt }: BatchEntry): boolean {
    const leafAt = this.#start + at.leaf;
    return entries.compare(this.#block, leafAt, leafAt + leafBytes, prevAt, prevAt + leafBytes) === 0;
  }

  /** Takes `record` for the last one. */
  moveTo({ entries, leafAt, tsNs, seq, isFlushEnd }: BatchEntry): void {
    entries.copy(this.#block, this.#start + at.leaf, leafAt, leafAt + leafBytes);
    this.#block.writeBigInt64LE(tsNs, this.#start + at.tsNs);
    this.#block.writeDoubleLE(seq, this.#start + at.seq);
    this.#block[this.#start + at.flushEnded] = isFlushEnd ? 1 : 0;
  }

  #text(place: number): string {
    return this.#texts[this.#block.readUInt32LE(this.#start + place)] ?? '';
  }
}

/** A table as it is remembered: its sessions one after the other, and the texts that they share. */
export interface PackedSessions {
  readonly texts: readonly string[];
  readonly entries: Buffer;
}

export class SessionTable {
  readonly #hash = new KeyedHash();
  readonly #blocks: Buffer[] = [];
  readonly #texts: string[] = [];
  readonly #numbers = new Map<string, number>();
  /** By the hash of a session: its number, from 1; 0 is a free place. At most half are taken. */
  #places = new Uint32Array(64);
  #size = 0;

  /** The sessions that `packed` holds. */
  static from({ texts, entries }: PackedSessions): SessionTable {
    const table = new SessionTable();
    for (const text of texts) table.#numberOf(text);
    for (let start = 0; start + entryBytes <= entries.length; start += entryBytes) {
      table.#add(entries, start + at.session, (block, to) => {
        entries.copy(block, to, start, start + entryBytes);
      });
    }
    return table;
  }

  get packed(): PackedSessions {
    const entries = Buffer.concat(this.#blocks).subarray(0, this.#size * entryBytes);
    return { texts: this.#texts, entries };
  }

  /** Returns the session of `record`, if it has begun. */
  find({ entries, sessionAt }: BatchEntry): Session | undefined {
    const number = this.#places[this.#placeOf(entries, sessionAt)] as number;
    return number === 0 ? undefined : this.#session(number - 1);
  }

  /** Begins the session of `record` with it. */
  begin(record: BatchEntry): void {
    const { entries, sessionAt, signer, swarm = '' } = record;
    this.#add(entries, sessionAt, (block, start) => {
      entries.copy(block, start + at.session, sessionAt, sessionAt + sessionBytes);
      block.writeUInt32LE(this.#numberOf(signer), start + at.signer);
      block.writeUInt32LE(this.#numberOf(swarm), start + at.swarm);
      new Session(block, start, this.#texts).moveTo(record);
    });
  }

  /** Yields each session, and where its 16 bytes stand. */
  *all(): Generator<{ readonly session: Session; readonly bytes: Buffer; readonly at: number }> {
    for (let number = 0; number < this.#size; number += 1) {
      yield { session: this.#session(number), bytes: this.#blockOf(number), at: startOf(number) };
    }
  }

  /** Adds the session that `write` writes, whose 16 bytes stand at `from` of `bytes`. */
  #add(bytes: Buffer, from: number, write: (block: Buffer, start: number) => void): void {
    if (this.#size * 2 >= this.#places.length) this.#makeRoom();
    const number = this.#size;
    if (startOf(number) === 0) this.#blocks.push(Buffer.allocUnsafeSlow(blockEntries * entryBytes));
    write(this.#blockOf(number), startOf(number));
    this.#places[this.#placeOf(bytes, from)] = number + 1;
    this.#size += 1;
  }

  #makeRoom(): void {
    this.#places = new Uint32Array(this.#places.length * 2);
    for (let number = 0; number < this.#size; number += 1) {
      this.#places[this.#placeOf(this.#blockOf(number), startOf(number))] = number + 1;
    }
  }

  /** Returns the place that leads to the session at `from` of `bytes`, or the free one where it belongs. */
  #placeOf(bytes: Buffer, from: number): number {
    const mask = this.#places.length - 1;
    for (let place = this.#hash.of(bytes, from, 0) & mask; ; place = (place + 1) & mask) {
      const number = this.#places[place] as number;
      if (number === 0) return place;
      const start = startOf(number - 1);
      const block = this.#blockOf(number - 1);
      if (bytes.compare(block, start, start + sessionBytes, from, from + sessionBytes) === 0) return place;
    }
  }

  #session(number: number): Session {
    return new Session(this.#blockOf(number), startOf(number), this.#texts);
  }

  #blockOf(number: number): Buffer {
    return this.#blocks[Math.floor(number / blockEntries)] as Buffer;
  }

  #numberOf(text: string): number {
    const known = this.#numbers.get(text);
    if (known !== undefined) return known;
    this.#numbers.set(text, this.#texts.length);
    return this.#texts.push(text) - 1;
  }
}

/** Returns where in its block the session of that number stands. */
function startOf(number: number): number {
  return (number % blockEntries) * entryBytes;
}
