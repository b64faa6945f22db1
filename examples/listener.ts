/**
 * Hears what is said in a thread until Ctrl-C: `SWARM_ENV=listener.env npx tsx examples/listener.ts`.
 *
 * Each message was verified, and is on disk as heard, before it is printed. The durable name lets the listener go on
 * where it was, however it ended.
 */
import { joinSwarm } from 'can-swarm';

await using swarm = await joinSwarm();
const subscription = swarm.subscribe('thread.demo-thread.>', { durable: 'listener' });
process.once('SIGINT', () => void subscription.stop()); // ends the loop below; a second Ctrl-C ends the process
await subscription.ready();
console.error('Listening on thread.demo-thread.>, until Ctrl-C');
for await (const message of subscription) {
  console.log('Got:', message.payload);
  await message.ack();
}
