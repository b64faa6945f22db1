/**
 * NATS NKeys of users: how a NATS server and its operators spell an Ed25519 public key, "U…".
 *
 * A prefix byte (20 << 3 for a user), the 32 bytes, their CRC-16/XMODEM, lower byte first, all in base32
 * (RFC 4648, section 6) without padding: 35 bytes, 56 characters, one spelling each. As in nats-io/nkeys.
 */
import { encodeBase64 } from '../base/encoding.ts';
import { SwarmError } from '../base/errors.ts';
import type { PublicKey } from './key.ts';
import { quoted } from './quoted.ts';

const userPrefix = 20 << 3;
const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';

/** Returns `key` as the NKey of a NATS user. */
export function printNkey(key: PublicKey): string {
  const body = Buffer.concat([Buffer.of(userPrefix), Buffer.from(key, 'base64')]);
  const checksum = crc16(body);
  return encodeBase32(Buffer.concat([body, Buffer.of(checksum & 0xff, checksum >> 8)]));
}

/** Returns the public key of a NATS user's NKey; throws `KEY_MALFORMED`. */
export function parseNkey(text: string): PublicKey {
  const bytes = /^U[A-Z2-7]{55}$/.test(text) ? decodeBase32(text) : undefined;
  if (bytes === undefined || bytes[0] !== userPrefix) {
    throw new SwarmError(
      'KEY_MALFORMED',
      `not a NATS user's NKey: ${quoted(text)} (U and 55 characters of A-Z and 2-7)`,
    );
  }
  if (bytes.readUInt16LE(33) !== crc16(bytes.subarray(0, 33))) {
    throw new SwarmError(
      'KEY_MALFORMED',
      `not a NATS user's NKey: ${quoted(text)} (its checksum does not hold)`,
    );
  }
  return encodeBase64(bytes.subarray(1, 33)) as PublicKey;
}

/** Returns the CRC-16/XMODEM of `bytes`: polynomial 0x1021, from 0, not reflected. */
function crc16(bytes: Uint8Array): number {
  let crc = 0;
  for (const byte of bytes) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit++) crc = ((crc << 1) ^ (crc & 0x8000 ? 0x1021 : 0)) & 0xffff;
  }
  return crc;
}

/** Returns `bytes`, a multiple of 5 of them, in base32. */
function encodeBase32(bytes: Uint8Array): string {
  let text = '';
  let bits = 0;
  let value = 0;
  for (const byte of bytes) {
    value = (value << 8) | byte;
    for (bits += 8; bits >= 5; bits -= 5) text += alphabet.charAt((value >> (bits - 5)) & 31);
    value &= 31;
  }
  return text;
}

/** Returns the bytes of `text`, a multiple of 8 characters of the alphabet. */
function decodeBase32(text: string): Buffer {
  const bytes: number[] = [];
  let bits = 0;
  let value = 0;
  for (const character of text) {
    value = (value << 5) | alphabet.indexOf(character);
    bits += 5;
    if (bits >= 8) {
      bits -= 8;
      bytes.push(value >> bits);
      value &= (1 << bits) - 1;
    }
  }
  return Buffer.from(bytes);
}
