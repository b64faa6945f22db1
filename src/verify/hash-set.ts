/**
 * A set of hashes in little memory: 5 bytes a place, in tables that grow one at a time.
 *
 * A hash that was never added is taken for one that was with a chance of size / 2^48. Nobody can aim for that: what is
 * kept of a hash is computed under a secret.
 */
import { KeyedHash } from './keyed-hash.ts';

const tables = 256;

interface Table {
  low: Uint32Array;
  high: Uint8Array;
  size: number;
}

export class HashSet {
  readonly #hash: KeyedHash;
  readonly #tables: Table[] = Array.from({ length: tables }, () => tableOf(16));
  #table = 0;
  #low = 0;
  #high = 0;
  size = 0;

  /** An empty set, under `secret` if one is given, of 64 bytes. */
  constructor(secret?: Buffer) {
    this.#hash = new KeyedHash(secret);
  }

  get secret(): Buffer {
    return this.#hash.secret;
  }

  /** Adds the hash, or whatever is 16 bytes at least and chosen by a hash or at random, that begins at `at` of `bytes`. */
  add(bytes: Buffer, at = 0): void {
    this.#mix(bytes, at);
    this.#put();
  }

  has(bytes: Buffer, at = 0): boolean {
    this.#mix(bytes, at);
    const table = this.#tables[this.#table] as Table;
    return table.low[slotOf(table, this.#low, this.#high)] !== 0;
  }

  /** Returns what is kept of the hashes, for `fromBytes` under the same secret. */
  toBytes(): Buffer {
    const bytes = Buffer.allocUnsafe(this.size * 6);
    let at = 0;
    for (const [index, { low, high }] of this.#tables.entries()) {
      for (const [slot, word] of low.entries()) {
        if (word === 0) continue;
        at = bytes.writeUInt8(index, at);
        at = bytes.writeUInt8(high[slot] ?? 0, at);
        at = bytes.writeUInt32LE(word, at);
      }
    }
    return bytes;
  }

  static fromBytes(bytes: Buffer, secret: Buffer): HashSet {
    const set = new HashSet(secret);
    for (let at = 0; at + 6 <= bytes.length; at += 6) {
      set.#table = bytes.readUInt8(at);
      set.#high = bytes.readUInt8(at + 1);
      set.#low = bytes.readUInt32LE(at + 2);
      set.#put();
    }
    return set;
  }

  /** Takes 48 bits of the hash. */
  #mix(bytes: Buffer, at: number): void {
    this.#low = this.#hash.of(bytes, at, 0) || 1; // 0 marks a free place
    this.#table = this.#hash.of(bytes, at, 1) >>> 24;
    this.#high = this.#hash.of(bytes, at, 2) >>> 24;
  }

  #put(): void {
    let table = this.#tables[this.#table] as Table;
    if (table.size * 4 >= table.low.length * 3) {
      table = grown(table);
      this.#tables[this.#table] = table;
    }
    const slot = slotOf(table, this.#low, this.#high);
    if (table.low[slot] !== 0) return;
    table.low[slot] = this.#low;
    table.high[slot] = this.#high;
    table.size += 1;
    this.size += 1;
  }
}

function tableOf(places: number): Table {
  return { low: new Uint32Array(places), high: new Uint8Array(places), size: 0 };
}

function grown(table: Table): Table {
  const bigger = tableOf(table.low.length * 2);
  bigger.size = table.size;
  for (const [slot, low] of table.low.entries()) {
    if (low === 0) continue;
    const high = table.high[slot] as number;
    const to = slotOf(bigger, low, high);
    bigger.low[to] = low;
    bigger.high[to] = high;
  }
  return bigger;
}

/** Returns the place that holds these bits, or the free one where they belong. */
function slotOf({ low: lows, high: highs }: Table, low: number, high: number): number {
  const mask = lows.length - 1;
  let slot = low & mask;
  while (lows[slot] !== 0 && (lows[slot] !== low || highs[slot] !== high)) slot = (slot + 1) & mask;
  return slot;
}
