/**
 * The part of every context that is the same live and run again: time and chance, derived from the delivery that is
 * handled, so that they need no record.
 *
 * The time is the delivery's own. Chance is SHA-256 of the delivery's leaf and of how often was drawn: nobody knows it
 * before the delivery is on the log, everybody who has the log knows it after. It is for spreading and naming, not for
 * secrets.
 */
import { createHash } from 'node:crypto';
import type { SignedRecord } from '../record/signed.ts';

export abstract class Chance {
  readonly #delivery: SignedRecord;
  #drawn = 0;

  constructor(delivery: SignedRecord) {
    this.#delivery = delivery;
  }

  /** Returns when the message was delivered, in ms since the Unix epoch, as `Date.now()` would. */
  now(): number {
    return Number(this.#delivery.header.tsNs / 1_000_000n);
  }

  /** Returns a number from 0 to below 1, in steps of 2^-53, as `Math.random()` would. */
  random(): number {
    return Number(this.#draw().readBigUInt64BE() >> 11n) / 2 ** 53;
  }

  /** Returns a UUID of version 8 (RFC 9562, section 5.8). */
  uuid(): string {
    const bytes = this.#draw().subarray(0, 16);
    bytes.writeUInt8((bytes.readUInt8(6) & 0x0f) | 0x80, 6);
    bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8);
    return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
  }

  #draw(): Buffer {
    const drawn = this.#drawn;
    this.#drawn += 1;
    return createHash('sha256').update(`can-swarm/chance/v1\n${this.#delivery.leaf}\n${drawn}`).digest();
  }
}
