/**
 * How many of the hashes asked for were never given: the causes that a log does not hold.
 *
 * Both sides are kept as 8 bytes each, in order of arrival, and compared part by part at the end. What does not fit
 * into memory goes to a temporary folder, so memory does not grow with the log. A wrong answer has a chance of
 * size / 2^64 for each question, and nobody gains by it: this is a count.
 */
import { appendFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const parts = 64;
const hashBytes = 8;
/** What each side of a part keeps in memory: 64 MiB / 128 altogether, at most. */
const partBytes = 256 * 1024;

class Side {
  readonly #file: () => string;
  #memory = Buffer.alloc(0);
  #used = 0;
  #spilled = false;

  constructor(file: () => string) {
    this.#file = file;
  }

  add(bytes: Buffer, at: number): void {
    if (this.#used === this.#memory.length) this.#makeRoom();
    bytes.copy(this.#memory, this.#used, at, at + hashBytes);
    this.#used += hashBytes;
  }

  all(): BigUint64Array {
    const memory = this.#memory.subarray(0, this.#used);
    const bytes = this.#spilled ? Buffer.concat([readFileSync(this.#file()), memory]) : Buffer.from(memory);
    const words = new BigUint64Array(bytes.length / hashBytes);
    Buffer.from(words.buffer).set(bytes);
    return words;
  }

  #makeRoom(): void {
    if (this.#memory.length < partBytes) {
      const bigger = Buffer.alloc(Math.max(1024, this.#memory.length * 2));
      this.#memory.copy(bigger);
      this.#memory = bigger;
      return;
    }
    appendFileSync(this.#file(), this.#memory);
    this.#spilled = true;
    this.#used = 0;
  }
}

export class Unresolved implements Disposable {
  #folder: string | undefined;
  readonly #given = Array.from({ length: parts }, (_, part) => new Side(() => this.#path(`given-${part}`)));
  readonly #asked = Array.from({ length: parts }, (_, part) => new Side(() => this.#path(`asked-${part}`)));
  #questions = 0;

  /** Takes the hash that begins at `at` of `bytes` for one that there is. */
  give(bytes: Buffer, at = 0): void {
    this.#given[(bytes[at + hashBytes] as number) % parts]?.add(bytes, at);
  }

  /** Asks whether there is the hash that begins at `at` of `bytes`, before or after. */
  ask(bytes: Buffer, at = 0): void {
    this.#questions += 1;
    this.#asked[(bytes[at + hashBytes] as number) % parts]?.add(bytes, at);
  }

  get hasQuestions(): boolean {
    return this.#questions > 0;
  }

  /** Returns how many questions had no answer. */
  count(): number {
    if (this.#questions === 0) return 0;
    let unresolved = 0;
    for (const [part, asked] of this.#asked.entries()) {
      const given = this.#given[part]?.all().sort() ?? new BigUint64Array();
      const questions = asked.all().sort();
      let at = 0;
      for (const question of questions) {
        while (at < given.length && (given[at] as bigint) < question) at += 1;
        if (given[at] !== question) unresolved += 1;
      }
    }
    return unresolved;
  }

  [Symbol.dispose](): void {
    if (this.#folder !== undefined) rmSync(this.#folder, { recursive: true, force: true });
  }

  #path(name: string): string {
    this.#folder ??= mkdtempSync(join(tmpdir(), 'can-swarm-verify-'));
    return join(this.#folder, name);
  }
}
