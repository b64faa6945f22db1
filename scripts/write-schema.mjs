// Writes schema/swarm.keys.schema.json from the code that checks keyrings. Run after `npm run build`.
import { writeFile } from 'node:fs/promises';
import { keyringJsonSchema } from '../dist/identity/keyring.js';

await writeFile(
  new URL('../schema/swarm.keys.schema.json', import.meta.url),
  `${JSON.stringify(keyringJsonSchema(), null, 2)}\n`,
);
