/**
 * What of a wrong text an error may repeat: enough to find it by, and never what could be a secret key that somebody
 * pasted in the wrong place.
 */

/** A secret key in base64 has 44 characters, in hex 64, and an NKey's seed 58; none is told from a public key by looks. */
const couldBeKey = /[A-Za-z0-9+/_-]{40,}/;

/** Returns `text` as JSON for an error, cut after 80 characters; of what could be a key only how long it is. */
export function quoted(text: string): string {
  return couldBeKey.test(text) ? `[${text.length} characters, not shown]` : JSON.stringify(text.slice(0, 80));
}
