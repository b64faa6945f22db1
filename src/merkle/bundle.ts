/**
 * Entry bundles: a log's entries in files of up to 256, each after its length in two bytes, big-endian.
 *
 * C2SP tlog-tiles, section "Log entries". What an entry is, the log says; its leaf is SHA-256(0x00 ‖ entry).
 */
const lengthBytes = 2;
const entryBytes = 0xffff;

/** Returns the bundle of `entries`; throws a `RangeError` if one is over 65,535 bytes. */
export function printEntries(entries: readonly Uint8Array[]): Buffer {
  const bundle = Buffer.allocUnsafe(entries.reduce((sum, { length }) => sum + lengthBytes + length, 0));
  let at = 0;
  for (const entry of entries) {
    if (entry.length > entryBytes) throw new RangeError(`an entry of ${entry.length} bytes is too long`);
    at = bundle.writeUInt16BE(entry.length, at);
    bundle.set(entry, at);
    at += entry.length;
  }
  return bundle;
}

/** Returns the `width` entries of a bundle, or `undefined` if these are not the bytes of exactly so many. */
export function parseEntries(bundle: Buffer, width: number): Buffer[] | undefined {
  const entries: Buffer[] = [];
  let at = 0;
  while (at + lengthBytes <= bundle.length && entries.length < width) {
    const start = at + lengthBytes;
    at = start + bundle.readUInt16BE(at);
    entries.push(bundle.subarray(start, at));
  }
  return at === bundle.length && entries.length === width ? entries : undefined;
}
