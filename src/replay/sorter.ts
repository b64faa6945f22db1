/**
 * Sorts more byte strings than fit into memory, as `memcmp` does.
 *
 * They are gathered in a buffer; a full one is sorted and written to a temporary file, as a run, and the runs are merged
 * while they are read. The file has no name, so nothing of it is left, however the process ends. An item is 8 to 65535
 * bytes; one that is the beginning of another comes first.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, openSync, readSync, unlinkSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { messageOf, SwarmError } from '../base/errors.ts';
import { Heap } from './heap.ts';

const lengthBytes = 2;
const readBytes = 64 << 10;
const writeBytes = 1 << 20;

/** A sorted part of the file. */
interface Run {
  readonly start: number;
  readonly end: number;
}

export class Sorter implements Disposable {
  #memory: Buffer;
  readonly #offsets: number[] = [];
  readonly #runs: Run[] = [];
  #used = 0;
  #fd: number | undefined;
  #written = 0;
  #sorted: Uint32Array | undefined;

  /** `memoryBytes` is how much is gathered before it is sorted; an item that is longer is gathered alone. */
  constructor(memoryBytes: number) {
    this.#memory = Buffer.allocUnsafeSlow(memoryBytes);
  }

  /** Adds the first `length` bytes of `item`, before the first call of `sorted`. */
  add(item: Buffer, length: number = item.length): void {
    const needed = lengthBytes + length;
    if (this.#used > 0 && this.#used + needed > this.#memory.length) this.#spill();
    if (needed > this.#memory.length) this.#memory = Buffer.allocUnsafeSlow(needed);
    this.#offsets.push(this.#used);
    this.#memory.writeUInt16LE(length, this.#used);
    item.copy(this.#memory, this.#used + lengthBytes, 0, length);
    this.#used += needed;
  }

  /** Yields all items in order, each a view that holds until the next. Can be called again. Throws `FILE_FAILED`. */
  *sorted(): Generator<Buffer> {
    if (this.#runs.length > 0 && this.#offsets.length > 0) {
      this.#spill();
      this.#memory = Buffer.alloc(0); // nothing is gathered any more
    }
    if (this.#runs.length === 0) {
      this.#sorted ??= this.#sort();
      for (const offset of this.#sorted) yield this.#at(offset);
    } else yield* this.#merged();
  }

  [Symbol.dispose](): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  *#merged(): Generator<Buffer> {
    const heap = new Heap<RunReader>((one, other) => one.isBefore(other));
    for (const run of this.#runs) {
      const reader = new RunReader(this.#fd as number, run);
      if (reader.next()) heap.push(reader);
    }
    for (let first = heap.peek(); first !== undefined; first = heap.peek()) {
      yield first.item;
      if (first.next()) heap.settle();
      else heap.pop();
    }
  }

  #at(offset: number): Buffer {
    const start = offset + lengthBytes;
    return this.#memory.subarray(start, start + this.#memory.readUInt16LE(offset));
  }

  /** Returns the offsets of the gathered items, in the order of the items. */
  #sort(): Uint32Array {
    const memory = this.#memory;
    const offsets = Uint32Array.from(this.#offsets);
    // Most items differ in their first 8 bytes; as a double these may be rounded, and then compare as equal.
    const heads = Float64Array.from(offsets, (offset) => headOf(memory, offset + lengthBytes));
    const order = Uint32Array.from(offsets.keys());
    order.sort((one, other) => {
      const difference = (heads[one] as number) - (heads[other] as number);
      if (difference !== 0) return difference;
      const [a, b] = [offsets[one] as number, offsets[other] as number];
      const [aStart, bStart] = [a + lengthBytes, b + lengthBytes];
      const aEnd = aStart + memory.readUInt16LE(a);
      return memory.compare(memory, bStart, bStart + memory.readUInt16LE(b), aStart, aEnd);
    });
    return order.map((index) => offsets[index] as number);
  }

  #spill(): void {
    const start = this.#written;
    const out = Buffer.allocUnsafeSlow(writeBytes);
    let filled = 0;
    for (const offset of this.#sort()) {
      const length = lengthBytes + this.#memory.readUInt16LE(offset);
      if (filled + length > out.length) {
        this.#write(out.subarray(0, filled));
        filled = 0;
      }
      filled += this.#memory.copy(out, filled, offset, offset + length);
    }
    this.#write(out.subarray(0, filled));
    this.#runs.push({ start, end: this.#written });
    this.#offsets.length = 0;
    this.#used = 0;
  }

  #write(bytes: Buffer): void {
    try {
      this.#fd ??= openNameless();
      for (let at = 0; at < bytes.length; ) {
        at += writeSync(this.#fd, bytes, at, bytes.length - at, this.#written + at);
      }
    } catch (cause) {
      const what = `cannot keep what is sorted in ${tmpdir()}: ${messageOf(cause)}; make room, or name another folder (TMPDIR)`;
      throw new SwarmError('FILE_FAILED', what, { cause });
    }
    this.#written += bytes.length;
  }
}

/** Reads one run, item by item. */
class RunReader {
  readonly #fd: number;
  readonly #end: number;
  readonly #bytes = Buffer.allocUnsafeSlow(readBytes + lengthBytes + 0xffff);
  #from: number;
  #at = 0;
  #filled = 0;
  #head = 0;
  item: Buffer = this.#bytes;

  constructor(fd: number, { start, end }: Run) {
    this.#fd = fd;
    this.#from = start;
    this.#end = end;
  }

  /** Goes to the next item; reports whether there is one. */
  next(): boolean {
    if (!this.#has(lengthBytes)) return false;
    const length = this.#bytes.readUInt16LE(this.#at);
    if (!this.#has(lengthBytes + length)) return false;
    const start = this.#at + lengthBytes;
    this.item = this.#bytes.subarray(start, start + length);
    this.#head = headOf(this.#bytes, start);
    this.#at = start + length;
    return true;
  }

  isBefore(other: RunReader): boolean {
    if (this.#head !== other.#head) return this.#head < other.#head;
    return Buffer.compare(this.item, other.item) < 0;
  }

  /** Reads on until `count` bytes are there; reports whether they are. */
  #has(count: number): boolean {
    if (this.#filled - this.#at >= count) return true;
    this.#bytes.copyWithin(0, this.#at, this.#filled);
    this.#filled -= this.#at;
    this.#at = 0;
    while (this.#filled < count) {
      const wanted = Math.min(readBytes, this.#end - this.#from);
      if (wanted === 0) return false;
      const read = readSync(this.#fd, this.#bytes, this.#filled, wanted, this.#from);
      if (read === 0) throw new SwarmError('FILE_FAILED', `a temporary file in ${tmpdir()} was cut off`);
      this.#filled += read;
      this.#from += read;
    }
    return true;
  }
}

/** Returns the 8 bytes at `at` as a number that never orders two items wrongly. */
function headOf(bytes: Buffer, at: number): number {
  return bytes.readUInt32BE(at) * 2 ** 32 + bytes.readUInt32BE(at + 4);
}

/** Opens a new file for reading and writing that is gone once it is closed. */
function openNameless(): number {
  const path = join(tmpdir(), `can-swarm-replay-${randomBytes(8).toString('hex')}`);
  const fd = openSync(path, 'wx+', 0o600);
  unlinkSync(path);
  return fd;
}
