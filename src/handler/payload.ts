/**
 * What agents say, as bytes, and back: JSON for values, the bytes themselves for bytes.
 */
import { messageOf, SwarmError } from '../base/errors.ts';
import { isJsonText } from '../record/payload.ts';

/** Returns the bytes that carry `payload`, its own copy of them; throws `PAYLOAD_INVALID` where it has no JSON. */
export function encodePayload(payload: unknown): Uint8Array {
  if (payload instanceof Uint8Array) return Buffer.from(payload);
  let text: string | undefined;
  try {
    text = JSON.stringify(payload);
  } catch (cause) {
    throw new SwarmError('PAYLOAD_INVALID', `the payload has no JSON: ${messageOf(cause)}`, { cause });
  }
  if (text === undefined) {
    throw new SwarmError('PAYLOAD_INVALID', `the payload has no JSON: it is ${typeof payload}`);
  }
  return Buffer.from(text, 'utf8');
}

/** Returns the value that `bytes` spell where they are one JSON text, else the bytes. Integers past 2^53 lose digits. */
export function decodePayload(bytes: Uint8Array): unknown {
  return isJsonText(bytes) ? JSON.parse(Buffer.from(bytes).toString('utf8')) : bytes;
}
