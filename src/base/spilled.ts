/**
 * Rows of one length, in parts by a hash that each begins with: what does not fit into memory goes to temporary files.
 *
 * Two collections of rows with equal hashes are compared part by part, so that memory holds one part at a time, however
 * many rows there are. Rows of a part come back in the order in which they were added.
 */
import { appendFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** How many parts there are. */
export const spilledParts = 64;

/** What a part keeps in memory, at most: 16 MiB for all. */
const partBytes = 256 * 1024;
const firstBytes = 1024;

class Part {
  readonly #file: () => string;
  #memory = Buffer.alloc(0);
  #used = 0;
  #spilled = false;

  constructor(file: () => string) {
    this.#file = file;
  }

  add(bytes: Buffer, at: number, length: number): void {
    if (this.#used + length > this.#memory.length) this.#makeRoom(length);
    bytes.copy(this.#memory, this.#used, at, at + length);
    this.#used += length;
  }

  rows(): Buffer {
    const memory = this.#memory.subarray(0, this.#used);
    return this.#spilled ? Buffer.concat([readFileSync(this.#file()), memory]) : Buffer.from(memory);
  }

  #makeRoom(length: number): void {
    if (this.#memory.length < partBytes) {
      const bigger = Buffer.alloc(Math.max(firstBytes, this.#memory.length * 2, length));
      this.#memory.copy(bigger, 0, 0, this.#used);
      this.#memory = bigger;
      return;
    }
    appendFileSync(this.#file(), this.#memory.subarray(0, this.#used));
    this.#spilled = true;
    this.#used = 0;
  }
}

export class Spilled implements Disposable {
  readonly #rowBytes: number;
  readonly #parts: readonly Part[];
  #folder: string | undefined;
  size = 0;

  /** An empty collection of rows of `rowBytes` bytes. */
  constructor(rowBytes: number) {
    this.#rowBytes = rowBytes;
    this.#parts = Array.from({ length: spilledParts }, (_, part) => new Part(() => this.#path(part)));
  }

  /** Adds the row that begins at `at` of `bytes`. `spread` decides its part: a byte of its hash. */
  add(bytes: Buffer, at: number, spread: number): void {
    this.#parts[spread % spilledParts]?.add(bytes, at, this.#rowBytes);
    this.size += 1;
  }

  /** Returns the rows of a part, one after another. */
  part(part: number): Buffer {
    return this.#parts[part]?.rows() ?? Buffer.alloc(0);
  }

  [Symbol.dispose](): void {
    if (this.#folder !== undefined) rmSync(this.#folder, { recursive: true, force: true });
  }

  #path(part: number): string {
    this.#folder ??= mkdtempSync(join(tmpdir(), 'can-swarm-spilled-'));
    return join(this.#folder, String(part));
  }
}
