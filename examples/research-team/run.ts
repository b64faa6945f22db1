/**
 * Puts a question to the team: `npx tsx examples/research-team/run.ts "Why is the sky blue?"`.
 *
 * Runs all of the team here, each agent in its own place in the swarm, with the key in its own env file: planner.env,
 * worker-1.env and so on, and user.env for who asks. They could as well be processes on different machines.
 */
import { randomUUID } from 'node:crypto';
import { joinSwarm, type Swarm } from 'can-swarm';
import { Answer } from './messages.ts';
import { team } from './team.ts';

const question = process.argv.slice(2).join(' ');
if (question === '')
  throw new Error('no question; try: npx tsx examples/research-team/run.ts "Why is the sky blue?"');

const swarms: Swarm[] = [];
try {
  for (const agent of team) {
    const swarm = await joinSwarm({ env: `${agent.name}.env` });
    swarms.push(swarm);
    await agent.run(swarm);
  }
  const user = await joinSwarm({ env: 'user.env' });
  swarms.push(user);
  const answers = user.subscribe('thread.*.reviewer', { durable: 'user' });
  await answers.ready();
  const threadId = randomUUID();
  console.error(`Asked the team, in thread ${threadId}`);
  await user.publish(`thread.${threadId}.user`, { question });
  for await (const message of answers) {
    await message.ack();
    if (message.threadId !== threadId) continue; // an answer that nobody waited for any more
    console.log(Answer.parse(message.payload).answer);
    break;
  }
} finally {
  for (const swarm of swarms.reverse()) await swarm.close();
}
