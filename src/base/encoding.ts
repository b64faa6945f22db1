/**
 * Hex, base64 and SHA-256, strictly: text that decodes must also be the one spelling of its bytes.
 *
 * `Buffer.from(text, 'base64')` skips what it does not know and ignores stray bits; here such text is
 * `undefined`. Stands on RFC 4648, section 4 (with padding, canonical).
 */
import { hash } from 'node:crypto';

declare const brand: unique symbol;
export type Brand<T, Name extends string> = T & { readonly [brand]: Name };

/** A SHA-256 in 64 lowercase hex digits. */
export type Sha256Hex = Brand<string, 'Sha256Hex'>;

/** 64 zeros: what stands where there is no earlier record. */
export const zeroHash: Sha256Hex = '0'.repeat(64) as Sha256Hex;

/** Returns the SHA-256 of `data` (a string counts as its UTF-8 bytes) as 64 lowercase hex digits. */
export function sha256Hex(data: Uint8Array | string): Sha256Hex {
  return hash('sha256', data, 'hex') as Sha256Hex;
}

/** Returns the SHA-256 of `data` as 32 bytes. */
export function sha256(data: Uint8Array): Buffer {
  return Buffer.from(hash('sha256', data, 'hex'), 'hex');
}

/** Returns `text` as a hash if it is 64 lowercase hex digits. */
export function parseSha256Hex(text: string): Sha256Hex | undefined {
  return /^[0-9a-f]{64}$/.test(text) ? (text as Sha256Hex) : undefined;
}

/** Returns the bytes that `text` spells in canonical, padded base64, or `undefined` if it is anything else. */
export function decodeBase64(text: string): Buffer | undefined {
  const bytes = Buffer.from(text, 'base64');
  return bytes.toString('base64') === text ? bytes : undefined;
}

/** Returns `bytes` in padded base64. */
export function encodeBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64');
}
