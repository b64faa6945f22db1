/**
 * How many of the hashes asked for were never given: the causes that a log does not hold.
 *
 * Both sides are kept as 8 bytes each and compared part by part at the end (base/spilled.ts), so memory does not grow with
 * the log. A wrong answer has a chance of size / 2^64 for each question, and nobody gains by it: this is a count.
 */
import { Spilled, spilledParts } from '../base/spilled.ts';

const hashBytes = 8;

export class Unresolved implements Disposable {
  readonly #given = new Spilled(hashBytes);
  readonly #asked = new Spilled(hashBytes);

  /** Takes the hash that begins at `at` of `bytes` for one that there is. */
  give(bytes: Buffer, at = 0): void {
    this.#given.add(bytes, at, bytes[at + hashBytes] as number);
  }

  /** Asks whether there is the hash that begins at `at` of `bytes`, before or after. */
  ask(bytes: Buffer, at = 0): void {
    this.#asked.add(bytes, at, bytes[at + hashBytes] as number);
  }

  get hasQuestions(): boolean {
    return this.#asked.size > 0;
  }

  /** Returns how many questions had no answer. */
  count(): number {
    if (!this.hasQuestions) return 0;
    let unresolved = 0;
    for (let part = 0; part < spilledParts; part += 1) {
      const questions = wordsOf(this.#asked.part(part)).sort();
      if (questions.length === 0) continue;
      const given = wordsOf(this.#given.part(part)).sort();
      let at = 0;
      for (const question of questions) {
        while (at < given.length && (given[at] as bigint) < question) at += 1;
        if (given[at] !== question) unresolved += 1;
      }
    }
    return unresolved;
  }

  [Symbol.dispose](): void {
    this.#given[Symbol.dispose]();
    this.#asked[Symbol.dispose]();
  }
}

function wordsOf(bytes: Buffer): BigUint64Array {
  const words = new BigUint64Array(bytes.length / hashBytes);
  Buffer.from(words.buffer).set(bytes);
  return words;
}
