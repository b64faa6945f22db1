/**
 * Records the golden log anew: `rm -r examples/research-team/golden && npx tsx examples/research-team/record.ts`.
 *
 * It brings its own nats-server and its own keys. Do this when the team is meant to do otherwise than it did, and read what
 * changed in the log before you keep it. Another folder may be named as an argument.
 */
import { join } from 'node:path';
import { recordGolden } from 'can-swarm/testing';
import { team } from './team.ts';

const [folder = join(import.meta.dirname, 'golden')] = process.argv.slice(2);
const { log } = await recordGolden(
  folder,
  team,
  async (user) => {
    await Promise.all([
      user.publish('thread.sky.user', { question: 'Why is the sky blue?' }),
      user.publish('thread.sea.user', { question: 'Why is the sea salt?' }),
    ]);
  },
  { driver: 'user' },
);
console.error(`Recorded ${log}`);
