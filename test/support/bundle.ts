/**
 * A TypeScript program of the tests as one file of JavaScript, for those that are started a hundred times: it loads in a
 * third of a second, and file by file it takes three.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { build } from 'esbuild';

const project = resolve(import.meta.dirname, '../..');

export interface Bundles extends Disposable {
  /** Returns the path of the bundled program, as in `talker`. */
  of(name: string): string;
}

/** Bundles the programs at `paths`, as in `test/fixtures/talker.ts`, until they are disposed of. */
export async function bundle(...paths: readonly string[]): Promise<Bundles> {
  const temp = join(project, 'temp'); // inside the project: packages with binaries are found from there
  mkdirSync(temp, { recursive: true });
  const folder = mkdtempSync(join(temp, 'bundle-'));
  await build({
    entryPoints: paths.map((path) => join(project, path)),
    outdir: folder,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    external: ['sodium-native', 'fs-native-extensions'],
    banner: {
      js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);",
    },
    logLevel: 'error',
  });
  return {
    of: (name) => join(folder, `${basename(name)}.mjs`),
    [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }),
  };
}
