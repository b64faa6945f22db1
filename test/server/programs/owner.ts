/**
 * A program that owns a nats-server, to be killed, interrupted or broken off: `owner <nats-server> <store>`.
 *
 * Prints the server's process id once it is ready. On SIGINT it waits, stops the server and prints what it saw.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { startNatsServer } from '../../../src/server/nats-server.ts';

const [path = '', storeDir = ''] = process.argv.slice(2);
const server = await startNatsServer({ path, storeDir });
let interrupts = 0;

async function stopInOrder(): Promise<void> {
  await sleep(300);
  const saw = await Promise.race([server.exited.then(() => 'it heard it too'), 'it still ran']);
  await server.stop();
  console.log(saw, JSON.stringify(await server.exited), interrupts);
  process.exit();
}

process.on('SIGINT', () => {
  interrupts++;
  stopInOrder().catch((failure: unknown) => console.log(failure));
});
process.on('SIGUSR2', () => {
  throw new Error('nobody catches this');
});
process.on('SIGTERM', () => process.exit());
console.log(server.pid);
