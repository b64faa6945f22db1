/** What `can-swarm/verify` loads, when it is imported and while it verifies: our own code, three packages, no network. */
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { beforeAll, expect, test } from 'vitest';
import { SigningKey } from '../../src/identity/key.ts';
import { logOf, temporaryFolder } from '../support/log.ts';

const run = promisify(execFile);
const project = join(import.meta.dirname, '../..');

beforeAll(async () => {
  await run(process.execPath, ['scripts/build.mjs', '--if-needed'], { cwd: project });
});

test('can-swarm/verify verifies a log, and loads nothing that could reach a network', async () => {
  const key = SigningKey.generate();
  const log = await logOf(3, key);
  const keyring = join(temporaryFolder(), 'swarm.keys.json');
  const agents = [{ name: 'planner', keys: [{ record: key.publicKey }] }];
  writeFileSync(keyring, JSON.stringify({ version: 1, agents }));
  const fixture = join(project, 'test/fixtures/loaded-modules.mjs');
  const { stdout } = await run(process.execPath, [fixture, log, keyring], { cwd: project });
  const { verdict, verified, loaded, builtins } = JSON.parse(stdout) as {
    verdict: string;
    verified: number;
    loaded: string[];
    builtins: string[];
  };
  expect({ verdict, verified }).toEqual({ verdict: 'CONSISTENT', verified: 3 });

  const files = loaded.filter((url) => url.startsWith('file:')).map((url) => fileURLToPath(url));
  const ours = files.flatMap((file) => /[\\/]dist[\\/](\w+)[\\/]/.exec(file)?.[1] ?? []);
  expect(unique(ours)).toEqual(['base', 'identity', 'log', 'merkle', 'record', 'verify']);
  const packages = files.flatMap((file) => /.*[\\/]node_modules[\\/]([^\\/]+)/.exec(file)?.[1] ?? []);
  expect(unique(packages)).toEqual([
    ...['bare-addon-resolve', 'bare-module-resolve', 'bare-semver'], // how an addon finds its binary
    'fs-native-extensions',
    ...['require-addon', 'sodium-native', 'which-runtime', 'zod'],
  ]);
  expect(loaded.filter((url) => !url.startsWith('file:')).map((url) => url.replace(/^node:/, ''))).toEqual(
    'assert buffer crypto fs fs/promises os path timers timers/promises url util worker_threads'.split(' '),
  );
  // And by Node's own account, whoever asked for it:
  const network = /^(?:_?(?:net|tls|https?|http2|dgram|dns)(?:\W|_|$)|inspector|internal\/deps\/undici)/;
  expect(builtins).toContain('crypto');
  expect(builtins.filter((name) => network.test(name))).toEqual([]);
});

function unique(names: readonly string[]): string[] {
  return [...new Set(names)].sort();
}
