/**
 * A hash of 16 bytes under a secret, for tables: who chooses what is kept in one cannot choose its place there.
 */
import { randomBytes } from 'node:crypto';

const secretWords = 16;

export class KeyedHash {
  readonly #secret: Uint32Array;

  /** Under `secret` if one is given, of 64 bytes. */
  constructor(secret: Buffer = randomBytes(secretWords * 4)) {
    this.#secret = Uint32Array.from({ length: secretWords }, (_, at) => secret.readUInt32LE(at * 4) | 1);
  }

  get secret(): Buffer {
    const secret = Buffer.alloc(secretWords * 4);
    for (const [at, word] of this.#secret.entries()) secret.writeUInt32LE(word, at * 4);
    return secret;
  }

  /**
   * Returns 32 bits of the 16 bytes from `at` of `bytes` on; other ones for each `turn` of 0, 1 and 2.
   *
   * Each word goes through a multiplication, and its bits into all others, before the next comes: no sum of differences.
   */
  of(bytes: Buffer, at: number, turn: 0 | 1 | 2): number {
    const from = turn * 5;
    let mixed = this.#secret[from] as number;
    for (let word = 0; word < 4; word += 1) {
      mixed = Math.imul(mixed ^ bytes.readInt32LE(at + 4 * word), this.#secret[from + 1 + word] as number);
      mixed ^= mixed >>> 15;
      mixed = Math.imul(mixed, 0x2c1b3c6d);
      mixed ^= mixed >>> 13;
    }
    return mixed >>> 0;
  }
}
