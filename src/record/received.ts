/**
 * Whether the message that a record keeps bears the record out: docs/format.md, sections 3 and 7.
 *
 * A DELIVER says that a message was let in, so the kept one must be signed and be the message of the record. A
 * REJECT may keep a message just because its signature does not hold; so that no byte of it can be changed
 * unseen, our writers sign its SHA-256 into the record as the `meta` pair `received`.
 */
import { parseSha256Hex, type Sha256Hex, sha256Hex } from '../base/encoding.ts';
import { rejectReasons } from './kind.ts';
import { checkSignature, printReceived, type SignedRecord } from './signed.ts';

/** The `meta` key under which a REJECT signs the hash of the message that it keeps. */
export const receivedHashKey = 'received';

/** Reasons that are given only to messages whose signature was found to hold. */
const afterSignature: ReadonlySet<string> = new Set(
  rejectReasons.slice(rejectReasons.indexOf('bad-signature') + 1),
);

/** Returns what a REJECT that keeps `received` puts into its `meta` under `receivedHashKey`. */
export function receivedHash(received: SignedRecord): Sha256Hex {
  return sha256Hex(printReceived(received));
}

/** Returns in a sentence how the message that a well-formed record keeps contradicts it, or `undefined`. */
export function receivedContradicts({ header, received }: SignedRecord): string | undefined {
  if (received === undefined) return undefined;
  if (header.kind === 'BUS.REJECT') {
    const signedHash = parseSha256Hex(header.meta?.[receivedHashKey] ?? ''); // else the pair means something else
    if (signedHash !== undefined) {
      return signedHash === receivedHash(received)
        ? undefined
        : 'the message that it keeps is not the one that was refused';
    }
    if (!afterSignature.has(header.reason ?? '') || checkSignature(received)) return undefined;
    return `the message that it keeps is not signed, which ${header.reason} says it was`;
  }
  const { subject, swarm, payloadHash } = received.header;
  if (!checkSignature(received))
    return `the message that it keeps is not signed by ${received.header.signer}`;
  if (subject !== header.subject) return `the message that it keeps was sent on ${subject}`;
  if (swarm !== header.swarm) return `the message that it keeps was said in swarm ${swarm ?? '(none)'}`;
  if (payloadHash !== header.payloadHash) return `the message that it keeps has payload ${payloadHash}`;
  return undefined;
}
