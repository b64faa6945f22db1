/**
 * A large log as a busy swarm leaves it: half PUBLISH, half DELIVER, a few sessions that take turns, flushes of 64.
 *
 * `large-log.ts LOG RECORDS [ROTATE_BYTES]` writes it without waiting for the disk, seals it, and writes the keyring
 * beside it.
 */
import { writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { SigningKey } from '../../src/identity/key.ts';
import { openLog } from '../../src/log/writer.ts';
import type { SignedRecord } from '../../src/record/signed.ts';

const flush = 64;

/** Writes `records` more to the log at `path`; keys are made from `seed`, so that another call is the same agents'. */
export async function writeLargeLog(
  path: string,
  records: number,
  { seed = 1, rotateBytes = 256 << 20 }: { readonly seed?: number; readonly rotateBytes?: number } = {},
): Promise<void> {
  const keys = [1, 2, 3, 4].map((agent) => SigningKey.fromSeed(Buffer.alloc(32, seed * 16 + agent)));
  const [first = SigningKey.generate()] = keys;
  const folder = dirname(path);
  const agents = keys.map((key, index) => ({
    name: `agent-${index}`,
    publish: ['thread.>'],
    keys: [{ record: key.publicKey, checkpoint: key.derive('can-swarm/checkpoint/v1').publicKey }],
  }));
  const logs = await Promise.all(keys.map((key) => openLog(path, { key, durability: 'os', rotateBytes })));
  writeFileSync(join(folder, 'swarm.keys.json'), JSON.stringify({ version: 1, agents }));
  for (let written = 0; written < records; ) {
    const turn = Math.floor(written / (2 * flush));
    const speaker = logs[turn % logs.length];
    const hearer = logs[(turn + 1) % logs.length];
    if (speaker === undefined || hearer === undefined) return;
    const payloads = Array.from({ length: Math.min(flush, records - written) }, (_, index) => {
      return Buffer.from(
        JSON.stringify({ task: written + index, text: 'what an agent might say to another one' }),
      );
    });
    const said: SignedRecord[] = await Promise.all(
      payloads.map((payload) =>
        speaker.append({ subject: 'thread.large.speaker', kind: 'BUS.PUBLISH', payload }),
      ),
    );
    written += said.length;
    const heard = said.slice(0, records - written);
    await Promise.all(
      heard.map((received, index) =>
        hearer.append({
          subject: 'thread.large.speaker',
          kind: 'BUS.DELIVER',
          payload: received.payload ?? Buffer.alloc(0),
          cause: received.leaf,
          received,
          delivery: { stream: 'THREADS', seq: written + index + 1, consumer: 'hearer', attempt: 1 },
        }),
      ),
    );
    written += heard.length;
  }
  for (const log of logs) await log.close();
  const { sealLog } = await import('../../src/log/sealer.ts');
  await sealLog(path, { key: first.derive('can-swarm/checkpoint/v1'), state: join(folder, 'remembered') });
}

const [, program = '', path, records, rotateBytes] = process.argv;
if (import.meta.url === pathToFileURL(program).href && path !== undefined) {
  const more = rotateBytes === undefined ? {} : { rotateBytes: Number(rotateBytes) };
  await writeLargeLog(path, Number(records), more);
}
