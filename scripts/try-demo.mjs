#!/usr/bin/env node
/**
 * Runs the demo as the README has it and holds it to what the README promises.
 *
 * `node scripts/try-demo.mjs` runs `npm run demo` in the project, with an older log set aside while it runs.
 * `node scripts/try-demo.mjs --packed` packs the project, installs it in an empty one as anybody would, and
 * runs `npx swarm demo` there.
 */
import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const onWindows = process.platform === 'win32';
const promised = ["Got: { hello: 'world', n: 1 }", 'Verified 2 records, 0 bad'];

try {
  await (process.argv.includes('--packed') ? tryPackage() : tryProject());
} catch (failure) {
  console.error(`try-demo: ${failure.message}`);
  process.exitCode = 1;
}

async function tryProject() {
  const logs = join(root, 'logs');
  const aside = join(root, 'temp', `logs-${process.pid}`);
  await mkdir(join(root, 'temp'), { recursive: true });
  const wasThere = await rename(logs, aside).then(
    () => true,
    () => false,
  );
  try {
    hold(await run('npm', ['run', 'demo'], root), await readLog(root));
    console.log('try-demo: npm run demo keeps what the README promises');
  } finally {
    await rm(logs, { recursive: true, force: true });
    if (wasThere) await rename(aside, logs);
  }
}

async function tryPackage() {
  const temporary = await mkdtemp(join(tmpdir(), 'can-swarm-package-'));
  try {
    const project = join(temporary, 'project');
    await mkdir(project);
    await run('npm', ['pack', '--pack-destination', temporary], root);
    const tarball = (await readdir(temporary)).find((name) => name.endsWith('.tgz'));
    if (tarball === undefined) throw new Error('npm pack left no tarball');
    await run('npm', ['install', '--no-audit', '--no-fund', join(temporary, tarball)], project);
    // --no: the command must come from the package that was just installed, or not at all.
    hold(await run('npx', ['--no', 'swarm', 'demo'], project), await readLog(project));
    console.log(`try-demo: ${tarball}, installed in an empty project, keeps what the README promises`);
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

function readLog(folder) {
  return readFile(join(folder, 'logs/swarm.jsonl'), 'utf8').catch(() => '');
}

function hold(said, log) {
  const problems = promised.filter((line) => !said.includes(line)).map((line) => `it did not say ${line}`);
  const lines = log.split('\n').length - 1;
  if (lines !== 2) problems.push(`logs/swarm.jsonl has ${lines} lines, not 2`);
  if (problems.length > 0) throw new Error(`the demo broke a promise: ${problems.join('; ')}\n${said}`);
}

/** Runs `command` to its end and returns all it said; throws if it fails. */
function run(command, args, cwd) {
  // Without npm's own variables, which name the project of the script that this is run from.
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('npm_')));
  const child = spawn(command, args, { cwd, env, shell: onWindows, stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (text) => (said += text));
  child.stderr.setEncoding('utf8').on('data', (text) => (said += text));
  return new Promise((done, fail) => {
    child.on('error', fail);
    child.on('close', (code) => {
      if (code === 0) done(said);
      else fail(new Error(`${command} ${args.join(' ')} ended with ${code}:\n${said.trim()}`));
    });
  });
}
