/**
 * Verifies a log against a keyring: `npx tsx examples/verify-log.ts [log] [keyring]`.
 *
 * Needs no broker and no secret key. Exits with 0 if nothing is wrong, 1 if something is.
 */
import { loadKeyring, verifyLog } from 'can-swarm';

const [log = 'logs/swarm.jsonl', keyringPath = 'swarm.keys.json'] = process.argv.slice(2);
const { keyring } = await loadKeyring(keyringPath);
const { verified, bad, findings } = await verifyLog(log, { keyring });
for (const { at, code, detail } of findings) console.log(`${at.file}:${at.line}: ${code}: ${detail}`);
console.log(`Verified ${verified} records, ${bad} bad`);
process.exitCode = bad === 0 ? 0 : 1;
