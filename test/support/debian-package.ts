/** Programs that tests need and the machine may not have, out of its own Debian or Ubuntu packages, without root. */
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { makeFolder } from '../../src/base/durable.ts';
import { projectFolder } from '../../src/server/project.ts';
import { run } from '../../src/server/run.ts';

/**
 * Returns the folder that holds what is in `packages`, as below `/`: fetched once, signatures checked by apt as the machine
 * has it. `finish` may add to it before anybody finds it.
 */
export async function unpacked(
  name: string,
  packages: readonly string[],
  finish: (folder: string) => Promise<void> = async () => {},
): Promise<string> {
  const final = join(projectFolder(), name);
  if (existsSync(final)) return final;
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
    await apt('download', ...packages);
    const root = join(folder, 'root');
    for (const file of await readdir(folder)) {
      if (file.endsWith('.deb'))
        await run('dpkg-deb', ['-x', join(folder, file), root], { timeoutMs: 60_000 });
    }
    await finish(root);
    await rename(root, final);
    return final;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
