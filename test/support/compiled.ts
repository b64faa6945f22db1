/**
 * The sources as JavaScript, for tests that need a process of their own: one to kill, or to interrupt.
 *
 * Only types are taken out, file by file; nothing is checked or built. The folder lies inside the project so
 * that packages are found from it.
 */
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import ts from 'typescript';
import type { TemporaryFolder } from './folder.ts';

const project = resolve(import.meta.dirname, '../..');

/** Returns a folder with `folders` of src (as in `['base', 'server']`) compiled; import `<path>/server/find.js`. */
export async function compiledSources(folders: readonly string[]): Promise<TemporaryFolder> {
  await mkdir(join(project, 'temp'), { recursive: true });
  const path = await mkdtemp(join(project, 'temp', 'compiled-'));
  for (const folder of folders) {
    const source = join(project, 'src', folder);
    for (const name of await readdir(source, { recursive: true })) {
      if (!name.endsWith('.ts') || name.endsWith('.d.ts')) continue;
      const { outputText } = ts.transpileModule(await readFile(join(source, name), 'utf8'), {
        compilerOptions: {
          target: ts.ScriptTarget.ES2023,
          module: ts.ModuleKind.ESNext,
          rewriteRelativeImportExtensions: true,
        },
      });
      const output = join(path, folder, name.replace(/\.ts$/, '.js'));
      await mkdir(dirname(output), { recursive: true });
      await writeFile(output, outputText);
    }
  }
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}
