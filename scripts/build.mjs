#!/usr/bin/env node
/**
 * Builds dist/ from src/: `node scripts/build.mjs`, or with `--if-needed` only if the sources have changed.
 *
 * The compiler writes beside dist/, which is replaced when everything is there: a failed or killed build
 * leaves the old one standing, and nothing that was taken out of src/ stays in dist/. The stamp that says
 * which sources dist/ was built from is taken away first and written last.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const script = fileURLToPath(import.meta.url);
const root = resolve(dirname(script), '..');
const dist = join(root, 'dist');
const stamp = join(root, 'node_modules/.cache/can-swarm/built-from');

/** Reports whether dist/ is there and was built from the sources as they are now. */
export async function isBuilt() {
  if (!existsSync(dist)) return false;
  const builtFrom = await readFile(stamp, 'utf8').catch(() => '');
  return builtFrom !== '' && builtFrom === (await hashSources());
}

/** Builds dist/; throws an `Error` with what the compiler said. */
export async function build() {
  const sources = await hashSources();
  const fresh = join(root, 'temp', `dist-${process.pid}`);
  const old = `${fresh}-old`;
  await rm(stamp, { force: true });
  await removeAbandoned();
  try {
    await compile(fresh);
    const command = join(fresh, 'cli/main.js');
    if (existsSync(command)) await chmod(command, 0o755);
    for (let triesLeft = 5; ; triesLeft--) {
      if (existsSync(dist)) await rename(dist, old).catch(ignoreMissing);
      try {
        await rename(fresh, dist);
        break;
      } catch (failure) {
        if (triesLeft === 0) throw failure; // another build put its own there in between
        await rm(old, { recursive: true, force: true });
      }
    }
  } finally {
    await rm(fresh, { recursive: true, force: true });
    await rm(old, { recursive: true, force: true });
  }
  await mkdir(dirname(stamp), { recursive: true });
  await writeFile(stamp, sources);
}

/** Removes what killed builds left. */
async function removeAbandoned() {
  for (const name of await readdir(join(root, 'temp')).catch(() => [])) {
    const pid = /^dist-(\d+)/.exec(name)?.[1];
    if (pid !== undefined && !isRunning(Number(pid)))
      await rm(join(root, 'temp', name), { recursive: true, force: true });
  }
}

function isRunning(pid) {
  if (pid === process.pid) return false; // this process has written nothing yet
  try {
    process.kill(pid, 0);
    return true;
  } catch (failure) {
    return failure.code === 'EPERM';
  }
}

async function hashSources() {
  const hash = createHash('sha256');
  const names = (await readdir(join(root, 'src'), { recursive: true })).filter((name) =>
    name.endsWith('.ts'),
  );
  const files = names.sort().map((name) => join('src', name));
  for (const file of [...files, 'tsconfig.json', 'tsconfig.build.json', 'package-lock.json']) {
    const bytes = await readFile(join(root, file));
    hash.update(`${file}\0${bytes.length}\0`).update(bytes);
  }
  return hash.digest('hex');
}

function compile(outDir) {
  const tsc = join(root, 'node_modules/typescript/bin/tsc');
  const child = spawn(process.execPath, [tsc, '-p', 'tsconfig.build.json', '--outDir', outDir], {
    cwd: root,
  });
  let said = '';
  child.stdout.on('data', (text) => (said += text));
  child.stderr.on('data', (text) => (said += text));
  return new Promise((done, fail) => {
    child.on('error', fail);
    child.on('close', (code) =>
      code === 0 ? done() : fail(new Error(`src/ does not compile:\n${said.trim()}`)),
    );
  });
}

function ignoreMissing(failure) {
  if (failure.code !== 'ENOENT') throw failure;
}

if (process.argv[1] !== undefined && resolve(process.argv[1]) === script) {
  try {
    if (!process.argv.includes('--if-needed') || !(await isBuilt())) await build();
  } catch (failure) {
    console.error(`build: ${failure.message}`);
    process.exitCode = 1;
  }
}
