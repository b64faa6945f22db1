/**
 * A payload as the command shows it: as it is spelled where it is JSON, so that long numbers keep their digits, else in
 * base64.
 */
import { encodeBase64 } from '../base/encoding.ts';
import { isJsonText } from '../record/payload.ts';

/** Returns `bytes` for a person. */
export function shownPayload(bytes: Uint8Array): string {
  return isJsonText(bytes) ? textOf(bytes) : `base64:${encodeBase64(bytes)}`;
}

/** Returns `object` as JSON with `bytes` as its last member, `payload` or `payload_b64`. */
export function jsonWithPayload(object: object, bytes: Uint8Array): string {
  const member = isJsonText(bytes) ? `"payload":${textOf(bytes)}` : `"payload_b64":"${encodeBase64(bytes)}"`;
  return `${JSON.stringify(object).slice(0, -1)},${member}}`;
}

function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
}
