/**
 * Says one thing and leaves: `SWARM_ENV=planner.env npx tsx examples/publisher.ts`.
 *
 * The message is signed with the planner's key, and on disk before it is sent. `publish` resolves once the stream
 * has it.
 */
import { joinSwarm } from 'can-swarm';

await using swarm = await joinSwarm();
const { seq, record } = await swarm.publish('thread.demo-thread.planner', { hello: 'world', n: 1 });
console.log(`Published as message ${seq} of the stream, record ${record.leaf}`);
