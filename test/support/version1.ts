/** Lines of version 1, which the product reads and does not write. */
import { encodeBase64, sha256Hex } from '../../src/base/encoding.ts';
import { canonicalMembers, printCanonical } from '../../src/record/canonical.ts';
import { key } from '../record/arbitrary.ts';

/** Returns a version 1 line with `payload` as it is spelled, `form` being its canonical form. */
export function version1Line(payload: string, form: string = payload, more = ''): string {
  const members = `"ts_ns":1761742380738047001,"thread_id":"demo","subject":"thread.demo.x","kind":"BUS.PUBLISH","payload_hash":"${sha256Hex(form)}","payload":${payload}${more}`;
  const signed = printCanonical(canonicalMembers(Buffer.from(`{${members}}`)) as ReadonlyMap<string, string>);
  const signature = encodeBase64(key.sign(Buffer.from(signed)));
  return `{${members},"sig_pk_b64":"${key.publicKey}","sig_b64":"${signature}"}`;
}
