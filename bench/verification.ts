/** Verifying a log on one core, against the rate at which libsodium checks bare Ed25519 signatures. */
import { join } from 'node:path';
import sodium from 'sodium-native';
import { generateKey, openLog, verifyLog } from '../dist/index.js';
import { type Comparison, compare } from './rounds.ts';
import type { BenchPlace } from './run.ts';

const records = 20_000;
const checks = 5_000;

export async function compareVerification({ folder }: BenchPlace): Promise<Comparison> {
  const key = generateKey();
  const path = join(folder, 'verification.jsonl');
  const log = await openLog(path, { key });
  const payload = Buffer.from(JSON.stringify({ hello: 'world', text: 'x'.repeat(64) }));
  for (let written = 0; written < records; written += 64) {
    const draft = { subject: 'thread.bench.self', kind: 'BUS.PUBLISH', payload };
    await Promise.all(Array.from({ length: 64 }, () => log.append(draft)));
  }
  await log.close();
  const message = Buffer.alloc(54);
  const signature = key.sign(message);
  const publicKey = Buffer.from(key.publicKey, 'base64');
  return await compare(
    'Verification, records in flushes of 64',
    {
      name: 'verifyLog: each line, its signature, chain and place in the tree',
      round: async () => {
        const { verified, bad } = await verifyLog(path);
        if (bad > 0) throw new Error('the log does not verify');
        return verified;
      },
    },
    {
      name: 'libsodium: one Ed25519 check for each record',
      round: async () => {
        for (let n = 0; n < checks; n += 1) sodium.crypto_sign_verify_detached(signature, message, publicKey);
        return checks;
      },
    },
    7,
  );
}
