/**
 * Ed25519 keys: made, derived, signing and checking.
 *
 * A `SigningKey` holds its secret where nothing prints it: it can sign, and its public key can be read, but
 * only `exportSeed` lets the secret out. Checking is strict (docs/format.md, section 4): canonical S and
 * points, no small-order A or R, no cofactor. That is libsodium's rule; OpenSSL's is laxer, and is not used.
 */
import { hkdfSync, randomBytes } from 'node:crypto';
import { inspect } from 'node:util';
import sodium from 'sodium-native';
import { type Brand, decodeBase64, encodeBase64 } from '../base/encoding.ts';
import { SwarmError } from '../base/errors.ts';
import { quoted } from './quoted.ts';

/** A public key, 32 bytes in canonical base64, as in a record's `sig_pk_b64`. */
export type PublicKey = Brand<string, 'PublicKey'>;

/** What a further key may be derived for, so that no two purposes share one (docs/format.md, section 4). */
export type KeyPurpose = 'can-swarm/checkpoint/v1' | 'can-swarm/nkey/v1';

const seedBytes = 32;
const publicKeyBytes = 32;
const secretKeyBytes = 64; // as libsodium keeps it: seed ‖ public key
const signatureBytes = 64;

/** Returns `text` as a public key; throws `KEY_MALFORMED` if it is not 32 bytes in canonical base64. */
export function parsePublicKey(text: string): PublicKey {
  if (decodeBase64(text)?.length === publicKeyBytes) return text as PublicKey;
  throw new SwarmError(
    'KEY_MALFORMED',
    `not a public key: ${quoted(text)} (${publicKeyBytes} bytes in base64, 44 characters)`,
  );
}

const decodedKeysKept = 1024;
const decodedKeys = new Map<string, Buffer>();

/** Returns the 32 bytes of `key`, or `undefined` if a cast let something else through. Not to be written to. */
function decodedKey(key: PublicKey): Buffer | undefined {
  const known = decodedKeys.get(key);
  if (known !== undefined) return known;
  const bytes = decodeBase64(key);
  if (bytes?.length !== publicKeyBytes) return undefined;
  if (decodedKeys.size >= decodedKeysKept) decodedKeys.clear(); // a log of more keys than that decodes some anew
  decodedKeys.set(key, bytes);
  return bytes;
}

/**
 * Reports whether `signature` is that of `message` by `key`, under the strict rule. A signature that is not
 * 64 bytes is simply not one.
 */
export function verifySignature(key: PublicKey, message: Uint8Array, signature: Uint8Array): boolean {
  if (signature.length !== signatureBytes) return false;
  const bytes = decodedKey(key);
  return bytes !== undefined && sodium.crypto_sign_verify_detached(signature, message, bytes);
}

/** An Ed25519 key pair that signs. Printing it, in whatever way, shows the public key alone. */
export class SigningKey {
  readonly publicKey: PublicKey;
  readonly #secret: Buffer;

  private constructor(publicKey: PublicKey, secret: Buffer) {
    this.publicKey = publicKey;
    this.#secret = secret;
  }

  /** Returns a new key from the system's randomness. */
  static generate(): SigningKey {
    return SigningKey.fromSeed(randomBytes(seedBytes));
  }

  /** Returns the key of a seed of 32 bytes, which is copied; throws `KEY_MALFORMED` for another length. */
  static fromSeed(seed: Uint8Array): SigningKey {
    if (seed.length !== seedBytes) {
      throw new SwarmError(
        'KEY_MALFORMED',
        `not a signing key: ${seed.length} bytes instead of ${seedBytes}`,
      );
    }
    const publicKey = Buffer.alloc(publicKeyBytes);
    const secret = Buffer.alloc(secretKeyBytes); // not of Node's shared pool
    sodium.crypto_sign_seed_keypair(publicKey, secret, seed);
    return new SigningKey(encodeBase64(publicKey) as PublicKey, secret);
  }

  /** Returns the signature of `message`, 64 bytes. */
  sign(message: Uint8Array): Buffer {
    const signature = Buffer.allocUnsafe(signatureBytes);
    sodium.crypto_sign_detached(signature, message, this.#secret);
    return signature;
  }

  /** Returns the key of this agent for another purpose: HKDF-SHA-256 of the seed, no salt, info `purpose`. */
  derive(purpose: KeyPurpose): SigningKey {
    const seed = this.#secret.subarray(0, seedBytes);
    return SigningKey.fromSeed(new Uint8Array(hkdfSync('sha256', seed, '', purpose, seedBytes)));
  }

  /** Returns a copy of the secret seed, 32 bytes: the one way out of it. */
  exportSeed(): Buffer {
    const seed = Buffer.alloc(seedBytes);
    this.#secret.copy(seed, 0, 0, seedBytes);
    return seed;
  }

  toJSON(): { publicKey: PublicKey } {
    return { publicKey: this.publicKey };
  }

  toString(): string {
    return `SigningKey(${this.publicKey})`;
  }

  static {
    // For console.log and util.inspect, which show no private members today: not to depend on that.
    Object.defineProperty(SigningKey.prototype, inspect.custom, { value: SigningKey.prototype.toString });
  }
}

/** Returns a new signing key from the system's randomness. */
export function generateKey(): SigningKey {
  return SigningKey.generate();
}
