/**
 * Keys as small numbers, so that a row can name one. Whoever floods a stream with keys of its own fills the list, no more.
 */
import type { PublicKey } from '../identity/key.ts';

/** What stands for every key after the list is full. */
const many = 0xffff;

export class Signers {
  readonly #keys: PublicKey[] = [];
  readonly #numbers = new Map<PublicKey, number>();

  numberOf(key: PublicKey): number {
    const known = this.#numbers.get(key);
    if (known !== undefined) return known;
    if (this.#keys.length === many) return many;
    this.#numbers.set(key, this.#keys.length);
    return this.#keys.push(key) - 1;
  }

  /** Returns the key of that number; `undefined` where it stands for several. */
  keyOf(number: number): PublicKey | undefined {
    return this.#keys[number];
  }
}
