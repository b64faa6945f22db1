/**
 * A set of hashes in little memory: an 8-byte fingerprint of each, in one open-addressed table.
 *
 * A hash that was never added is taken for one that was with a chance of size / 2^64. Nobody can aim for that:
 * the fingerprints are hashes under a secret of this run.
 */
import { randomBytes } from 'node:crypto';
import { type Sha256Hex, sha256Hex } from '../base/encoding.ts';

export class LeafSet {
  #slots = new BigUint64Array(1 << 10);
  #size = 0;
  readonly #secret = randomBytes(16).toString('hex');

  get size(): number {
    return this.#size;
  }

  add(leaf: Sha256Hex): void {
    if (this.#size * 4 >= this.#slots.length * 3) this.#grow();
    const fingerprint = this.#fingerprintOf(leaf);
    const slot = slotOf(this.#slots, fingerprint);
    if (this.#slots[slot] === fingerprint) return;
    this.#slots[slot] = fingerprint;
    this.#size += 1;
  }

  has(leaf: Sha256Hex): boolean {
    const fingerprint = this.#fingerprintOf(leaf);
    return this.#slots[slotOf(this.#slots, fingerprint)] === fingerprint;
  }

  #fingerprintOf(leaf: Sha256Hex): bigint {
    return BigInt(`0x${sha256Hex(this.#secret + leaf).slice(0, 16)}`) || 1n; // 0 marks a free slot
  }

  #grow(): void {
    const bigger = new BigUint64Array(this.#slots.length * 2);
    for (const fingerprint of this.#slots) {
      if (fingerprint !== 0n) bigger[slotOf(bigger, fingerprint)] = fingerprint;
    }
    this.#slots = bigger;
  }
}

/** Returns the slot that holds `fingerprint`, or the free one where it belongs. */
function slotOf(slots: BigUint64Array, fingerprint: bigint): number {
  const mask = slots.length - 1;
  let slot = Number(fingerprint & 0xffffffffn) & mask;
  while (slots[slot] !== 0n && slots[slot] !== fingerprint) slot = (slot + 1) & mask;
  return slot;
}
