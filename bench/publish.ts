/** Publishing: ours signed, on disk and acknowledged; the official client's `js.publish`, acknowledged. */

import { join } from 'node:path';
import { jetstream } from '@nats-io/jetstream';
import { connect } from '@nats-io/transport-node';
import { generateKey, joinSwarm } from '../dist/index.js';
import { type Comparison, compare } from './rounds.ts';
import type { BenchPlace } from './run.ts';

const messages = 10_000;
const inFlight = { ours: 1_024, theirs: 256 };
export const payload = { hello: 'world', text: 'x'.repeat(64), n: 1 };

export async function comparePublish({ folder, url }: BenchPlace): Promise<Comparison> {
  const key = generateKey();
  const environment = {
    SWARM_SIGNING_SK_B64: key.exportSeed().toString('base64'),
    SWARM_VERIFY_PK_B64: key.publicKey,
  };
  await using swarm = await joinSwarm({
    url,
    environment,
    log: join(folder, 'publish.jsonl'),
    state: join(folder, 'sealed'),
  });
  const plain = await connect({ servers: url });
  const js = jetstream(plain);
  await (await js.jetstreamManager()).streams.add({
    name: 'PLAIN',
    subjects: ['plain.>'],
    duplicate_window: 30e9,
  });
  const bytes = JSON.stringify(payload);
  try {
    return await compare(
      'Publish, messages of about 100 bytes',
      {
        name: `can-swarm: signed, logged (fsync), acknowledged, ${inFlight.ours} at once`,
        round: () => times(inFlight.ours, () => swarm.publish('thread.bench.self', payload)),
      },
      {
        name: `js.publish: acknowledged, ${inFlight.theirs} at once`,
        round: () => times(inFlight.theirs, () => js.publish('plain.bench', bytes)),
      },
      7,
    );
  } finally {
    await plain.close();
  }
}

/** Calls `act` for each message, `atOnce` at a time, and returns how many. */
export async function times(atOnce: number, act: () => Promise<unknown>): Promise<number> {
  let left = messages;
  const work = async (): Promise<void> => {
    while (left > 0) {
      left -= 1;
      await act();
    }
  };
  await Promise.all(Array.from({ length: atOnce }, work));
  return messages;
}
