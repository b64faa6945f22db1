/**
 * The command as JavaScript, laid out as it is published, so that the hundred runs of these tests start quickly.
 *
 * Only types are taken out, file by file. The folder is named for the sources it was made of and used again until
 * they change; it lies inside the project, where packages are found from it.
 */
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { sha256Hex } from '../../src/base/encoding.ts';

const project = resolve(import.meta.dirname, '../..');
/** Returns the path of main.js. */
export async function compiledCommand(): Promise<string> {
  const sources = readdirSync(join(project, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts') && !name.endsWith('.d.ts'))
    .sort()
    .map((name) => ({ name, text: readFileSync(join(project, 'src', name), 'utf8') }));
  const hash = sha256Hex(JSON.stringify(sources)).slice(0, 16);
  const folder = join(project, 'temp', `command-${hash}`);
  if (!existsSync(folder)) {
    removeOld(dirname(folder));
    const { default: ts } = await import('typescript'); // a second to load, and rarely needed
    const compilerOptions = {
      target: ts.ScriptTarget.ES2023,
      module: ts.ModuleKind.ESNext,
      rewriteRelativeImportExtensions: true,
    };
    const making = `${folder}.${process.pid}`;
    for (const { name, text } of sources) {
      const file = join(making, 'dist', name.replace(/\.ts$/, '.js'));
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(file, ts.transpileModule(text, { compilerOptions }).outputText);
    }
    cpSync(join(project, 'package.json'), join(making, 'package.json'));
    try {
      renameSync(making, folder);
    } catch {
      rmSync(making, { recursive: true }); // another test file was faster
    }
  }
  return join(folder, 'dist/cli/main.js');
}

/** Removes what earlier sources were compiled to, but nothing that a run of the tests may be at. */
function removeOld(temp: string): void {
  const anHourAgo = Date.now() - 3_600_000;
  for (const name of existsSync(temp) ? readdirSync(temp) : []) {
    const old = join(temp, name);
    if (name.startsWith('command-') && statSync(old).mtimeMs < anHourAgo)
      rmSync(old, { recursive: true, force: true });
  }
}
