/** A program that looks for a nats-server with the options it is given as JSON, to be killed while it fetches one. */
import { type FindOptions, findNatsServer } from '../../../src/server/find.ts';

const options: FindOptions = JSON.parse(process.argv[2] ?? '{}');
await findNatsServer({ ...options, note: (line) => console.log(line) });
