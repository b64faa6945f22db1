/** strace, where it is installed, and else out of the machine's own Debian or Ubuntu packages, without root. */
import { existsSync } from 'node:fs';
import { chmod, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { makeFolder } from '../../src/base/durable.ts';
import { messageOf } from '../../src/base/errors.ts';
import { projectFolder } from '../../src/server/project.ts';
import { run } from '../../src/server/run.ts';

/** Returns the path of a strace, fetched if need be; throws an `Error` that says what to do where there is none. */
export async function findStrace(env: NodeJS.ProcessEnv = process.env): Promise<string> {
  for (const folder of (env.PATH ?? '').split(delimiter)) {
    if (folder !== '' && existsSync(join(folder, 'strace'))) return join(folder, 'strace');
  }
  const cached = join(projectFolder(), 'strace');
  if (existsSync(join(cached, 'strace'))) return join(cached, 'strace');
  try {
    return await fetchStrace(cached);
  } catch (cause) {
    throw new Error(
      `faults are injected with strace, which is not on this machine; install it (apt-get install strace), or see why its package cannot be fetched: ${messageOf(cause)}`,
      { cause },
    );
  }
}

/** Fetches strace and the library that may be missing into `final`, signatures checked by apt as the machine has it. */
async function fetchStrace(final: string): Promise<string> {
  await makeFolder(projectFolder());
  const folder = await mkdtemp(`${final}-`);
  try {
    for (const part of ['lists/partial', 'cache/archives/partial']) await makeFolder(join(folder, part));
    const options = [
      `Dir::State::lists=${join(folder, 'lists')}`,
      `Dir::Cache=${join(folder, 'cache')}`,
      ...(process.getuid?.() === 0 ? ['APT::Sandbox::User=root'] : []),
      'APT::Update::Error-Mode=any',
      'Acquire::Languages=none',
    ].flatMap((option) => ['-o', option]);
    const apt = (...args: string[]): Promise<string> =>
      run('apt-get', [...options, '-q', ...args], { cwd: folder, timeoutMs: 180_000 });
    await apt('update');
    await apt('download', 'strace', 'libunwind8');
    for (const name of await readdir(folder)) {
      if (!name.endsWith('.deb')) continue;
      await run('dpkg-deb', ['-x', join(folder, name), join(folder, 'unpacked')], { timeoutMs: 60_000 });
    }
    const script = `#!/bin/sh
here=$(dirname "$0")/unpacked/usr
LD_LIBRARY_PATH=$(echo "$here"/lib/*-linux-*) exec "$here/bin/strace" "$@"
`;
    await writeFile(join(folder, 'strace'), script);
    await chmod(join(folder, 'strace'), 0o755);
    await run(join(folder, 'strace'), ['--version'], { timeoutMs: 10_000 });
    for (const part of ['lists', 'cache']) await rm(join(folder, part), { recursive: true });
    await rename(folder, final);
    return join(final, 'strace');
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
