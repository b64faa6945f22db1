/**
 * A real nats-server for a test: found where the project finds it, with a port and a store of its own.
 */
import { findNatsServer } from '../../src/server/find.ts';
import { type NatsServer, type StartOptions, startNatsServer } from '../../src/server/nats-server.ts';

let path: Promise<string> | undefined;

/** Returns the path of the nats-server that the tests run; looked for once in a test file. */
export function natsServerPath(): Promise<string> {
  path ??= findNatsServer().then((found) => found.path);
  return path;
}

/** Returns a running server: `await using server = await testServer()`. */
export async function testServer(options: StartOptions = {}): Promise<NatsServer> {
  return startNatsServer({ path: await natsServerPath(), ...options });
}

/** Runs `use` with a server that is stopped afterwards, and returns what it returns. */
export async function withServer<Result>(
  use: (server: NatsServer) => Promise<Result>,
  options: StartOptions = {},
): Promise<Result> {
  await using server = await testServer(options);
  return await use(server);
}
