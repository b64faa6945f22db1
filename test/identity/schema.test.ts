import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { keyringJsonSchema } from '../../src/identity/keyring.ts';

test('the JSON Schema on disk is the one that keyrings are checked with', () => {
  const onDisk = readFileSync(join(import.meta.dirname, '../../schema/swarm.keys.schema.json'), 'utf8');
  expect(
    onDisk,
    'schema/swarm.keys.schema.json is out of date: npm run build && node scripts/write-schema.mjs',
  ).toBe(`${JSON.stringify(keyringJsonSchema(), null, 2)}\n`);
});
