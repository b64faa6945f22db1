/**
 * Malformed lines, until a later LOG.RECOVER names them by the SHA-256 of their bytes, or the log ends.
 */
import type { Sha256Hex } from '../base/encoding.ts';
import type { Finding } from './finding.ts';

/** A line that is bad unless something recovers it. */
export interface TornLine {
  readonly finding: Finding;
  /** Counted from 1 over all files. */
  readonly record: number;
}

const kept = 10_000;

export class TornLines {
  readonly #byHash = new Map<Sha256Hex, TornLine[]>();
  #count = 0;

  /** Keeps `line`, whose bytes have that hash; reports whether there is room: so many are no writers' that died. */
  add(hash: Sha256Hex, line: TornLine): boolean {
    if (this.#count === kept) return false;
    const same = this.#byHash.get(hash);
    if (same === undefined) this.#byHash.set(hash, [line]);
    else same.push(line);
    this.#count += 1;
    return true;
  }

  /** Takes out the last line of that hash and reports whether there was one: a writer recovers what it found, once. */
  recover(hash: Sha256Hex): boolean {
    const same = this.#byHash.get(hash);
    if (same?.pop() === undefined) return false;
    if (same.length === 0) this.#byHash.delete(hash);
    this.#count -= 1;
    return true;
  }

  /** Takes out all that nothing recovered. */
  takeAll(): TornLine[] {
    const lines = [...this.#byHash.values()].flat();
    this.#byHash.clear();
    this.#count = 0;
    return lines;
  }
}
