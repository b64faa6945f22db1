#!/usr/bin/env node
/**
 * Makes a checkout ready to run: packages, build, nats-server. `npm run setup`, and before most other scripts.
 *
 * Says a line for each thing that it does, and nothing if there is nothing to do. It may be killed at any
 * time and started again: each step is done only when its last act, one rename or one small file, is done.
 */
import { spawn } from 'node:child_process';
import { readFile, rm } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const oldestNode = [20, 19];
// npm's own record of what it has installed. npm writes it last, so it serves as the stamp; unlike one of
// ours it is also right after an `npm install` by hand.
const installed = join(root, 'node_modules/.package-lock.json');

try {
  checkNode();
  if (!(await isInstalled())) await step('installing packages (npm ci)', install);
  const { build, isBuilt } = await import('./build.mjs');
  if (!(await isBuilt())) await step('building dist/ from src/', build);
  const { findNatsServer } = await import(pathToFileURL(join(root, 'dist/server/find.js')).href);
  try {
    await findNatsServer({ from: root });
  } catch (failure) {
    if (process.env.SWARM_NATS_SERVER) throw failure; // one was named: another is not wanted
    await step("fetching a nats-server from Debian's packages", () =>
      findNatsServer({ from: root, download: true }),
    );
  }
} catch (failure) {
  process.stderr.write(`setup: ${failure.message}\n`);
  process.exitCode = 1;
}

function checkNode() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major > oldestNode[0] || (major === oldestNode[0] && minor >= oldestNode[1])) return;
  throw new Error(`this is Node.js ${process.versions.node}, and ${oldestNode.join('.')} or newer is needed`);
}

async function step(title, work) {
  const started = performance.now();
  process.stderr.write(`setup: ${title} … `);
  try {
    await work();
  } catch (failure) {
    process.stderr.write('failed\n');
    throw failure;
  }
  process.stderr.write(`${((performance.now() - started) / 1000).toFixed(1)} s\n`);
}

/** Reports whether node_modules holds what package-lock.json asks for, but for what is optional. */
async function isInstalled() {
  const wanted = JSON.parse(await readFile(join(root, 'package-lock.json'), 'utf8')).packages;
  let present;
  try {
    present = JSON.parse(await readFile(installed, 'utf8')).packages;
  } catch {
    return false;
  }
  return Object.entries(wanted).every(([path, { version, integrity, optional }]) => {
    const there = present[path];
    if (path === '') return true;
    if (there === undefined) return optional === true;
    return there.version === version && there.integrity === integrity;
  });
}

async function install() {
  await rm(installed, { force: true }); // before anything of it is taken away
  const args = ['ci', '--include=dev', '--no-audit', '--no-fund'];
  const npm = process.env.npm_execpath; // set where npm started this; its .cmd needs a shell on Windows
  const child =
    npm === undefined
      ? spawn('npm', args, { cwd: root, shell: process.platform === 'win32' })
      : spawn(process.execPath, [npm, ...args], { cwd: root });
  let said = '';
  child.stdout.on('data', (text) => (said += text));
  child.stderr.on('data', (text) => (said += text));
  await new Promise((done, fail) => {
    child.on('error', (failure) => fail(new Error(`npm cannot be run: ${failure.message}`)));
    child.on('close', (code) => (code === 0 ? done() : fail(new Error(`npm ci failed:\n${errorsOf(said)}`))));
  });
}

/** Returns npm's errors without its manual. */
function errorsOf(said) {
  const errors = said.split('\n').filter((line) => /^npm error ./.test(line));
  return errors.length === 0 ? said.trim() : errors.slice(0, 12).join('\n');
}
