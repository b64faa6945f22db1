/** Delivery: ours verified, on disk before the handler and acked; the official client's `consume()` and `ack()`. */

import { join } from 'node:path';
import { AckPolicy, jetstream } from '@nats-io/jetstream';
import { connect } from '@nats-io/transport-node';
import { generateKey, joinSwarm } from '../dist/index.js';
import { payload, times } from './publish.ts';
import { type Comparison, compare } from './rounds.ts';
import type { BenchPlace } from './run.ts';

export async function compareDelivery({ folder, url }: BenchPlace): Promise<Comparison> {
  const key = generateKey();
  const environment = {
    SWARM_SIGNING_SK_B64: key.exportSeed().toString('base64'),
    SWARM_VERIFY_PK_B64: key.publicKey,
  };
  await using swarm = await joinSwarm({
    url,
    environment,
    log: join(folder, 'delivery.jsonl'),
    state: join(folder, 'sealed'),
  });
  const count = await times(1_024, () => swarm.publish('thread.delivery.self', payload));
  const plain = await connect({ servers: url });
  const js = jetstream(plain);
  const manager = await js.jetstreamManager();
  let durables = 0;
  try {
    return await compare(
      'Delivery, messages of about 100 bytes',
      {
        name: 'can-swarm: verified, logged (fsync), handled, acked',
        round: async () => {
          let handled = 0;
          durables += 1;
          const all = counter(count);
          const options = { durable: `ours-${durables}` };
          const handling = await swarm.handle('thread.delivery.>', options, () => all.count(++handled));
          await all.reached;
          await handling.stop();
          return count;
        },
      },
      {
        name: 'consume() and ack()',
        round: async () => {
          let handled = 0;
          durables += 1;
          const name = `theirs-${durables}`;
          const filter_subject = 'thread.delivery.>';
          await manager.consumers.add('THREADS', {
            durable_name: name,
            filter_subject,
            ack_policy: AckPolicy.Explicit,
          });
          const consumed = await (await js.consumers.get('THREADS', name)).consume();
          for await (const message of consumed) {
            message.ack();
            handled += 1;
            if (handled === count) break;
          }
          await plain.flush();
          return count;
        },
      },
      7,
    );
  } finally {
    await plain.close();
  }
}

/** Returns a promise that is kept once `count` was called with `target`. */
function counter(target: number): { readonly reached: Promise<void>; count(n: number): void } {
  let reach = (): void => {};
  const reached = new Promise<void>((resolve) => {
    reach = resolve;
  });
  return { reached, count: (n) => n === target && reach() };
}
