/**
 * Runs a script in processes of its own against the sources of `base` and `identity`, which Node 20 cannot
 * import as they are: their types are stripped into a folder of their own first.
 */
import { execFile } from 'node:child_process';
import { mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import ts from 'typescript';

const root = join(import.meta.dirname, '../..');

/** Puts `base/` and `identity/` as JavaScript into `folder`. */
export async function transpileInto(folder: string): Promise<void> {
  await symlink(join(root, 'node_modules'), join(folder, 'node_modules'));
  await writeFile(join(folder, 'package.json'), '{"type":"module"}');
  const compilerOptions: ts.CompilerOptions = {
    target: ts.ScriptTarget.ES2023,
    module: ts.ModuleKind.ESNext,
    verbatimModuleSyntax: true,
    rewriteRelativeImportExtensions: true,
  };
  for (const chapter of ['base', 'identity']) {
    await mkdir(join(folder, chapter));
    for (const name of await readdir(join(root, 'src', chapter))) {
      if (!name.endsWith('.ts') || name.endsWith('.d.ts')) continue;
      const source = await readFile(join(root, 'src', chapter, name), 'utf8');
      const { outputText } = ts.transpileModule(source, { compilerOptions, fileName: name });
      await writeFile(join(folder, chapter, name.replace(/ts$/, 'js')), outputText);
    }
  }
}

/** Runs the module text `script` from `folder` in `count` processes at once, and returns what each printed. */
export async function runMany(folder: string, script: string, count: number): Promise<string[]> {
  const path = join(folder, 'script.js');
  await writeFile(path, script);
  const runs = Array.from({ length: count }, (_, index) =>
    promisify(execFile)(process.execPath, [path, String(index)]),
  );
  return (await Promise.all(runs)).map(({ stdout }) => stdout.trim());
}
