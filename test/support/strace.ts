/** strace, where it is installed, and else fetched. */
import { existsSync } from 'node:fs';
import { chmod, writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { messageOf } from '../../src/base/errors.ts';
import { run } from '../../src/server/run.ts';
import { unpacked } from './debian-package.ts';

/** Returns the path of a strace; throws an `Error` that says what to do where there is none. */
export async function findStrace(env: NodeJS.ProcessEnv = process.env): Promise<string> {
  for (const folder of (env.PATH ?? '').split(delimiter)) {
    if (folder !== '' && existsSync(join(folder, 'strace'))) return join(folder, 'strace');
  }
  try {
    return join(await unpacked('strace', ['strace', 'libunwind8'], addScript), 'strace');
  } catch (cause) {
    throw new Error(
      `faults are injected with strace, which is not on this machine; install it (apt-get install strace), or see why its package cannot be fetched: ${messageOf(cause)}`,
      { cause },
    );
  }
}

/** Adds a script that runs it with the libraries beside it. */
async function addScript(folder: string): Promise<void> {
  const path = join(folder, 'strace');
  const script = `#!/bin/sh
here=$(dirname "$0")/usr
LD_LIBRARY_PATH=$(echo "$here"/lib/*-linux-*) exec "$here/bin/strace" "$@"
`;
  await writeFile(path, script);
  await chmod(path, 0o755);
  await run(path, ['--version'], { timeoutMs: 10_000 });
}
