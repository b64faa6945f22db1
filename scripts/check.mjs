#!/usr/bin/env node
/**
 * Everything that can be said of the code without running it: `npm run check`, the same here and in CI.
 *
 * Every check runs, whatever the others found; a line each, the findings of those that failed below it, and
 * the names of those at the end.
 */
import { spawn } from 'node:child_process';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');

const checks = [
  { name: 'format and lint', command: ['biome', 'check', '.'] },
  { name: 'types', command: ['tsc', '-p', 'tsconfig.json'] },
  { name: 'layers', command: ['depcruise', '--config', '--output-type', 'json', 'src'], judge: judgeLayers },
  { name: 'unused code', command: ['knip'] },
  { name: 'package', command: ['publint', '--strict'] },
  { name: 'types of the package', command: ['attw', '--pack', '.', '--profile', 'esm-only'] },
  { name: 'public API', command: ['api-extractor', 'run'] },
  { name: 'API of verify', command: ['api-extractor', 'run', '--config', 'api-extractor.verify.json'] },
  { name: 'API of testing', command: ['api-extractor', 'run', '--config', 'api-extractor.testing.json'] },
];

const failed = [];
for (const { name, command, judge = judgeExit } of checks) {
  const started = performance.now();
  const finding = judge(await run(command));
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  console.log(
    `check: ${name.padEnd(22)} ${finding === undefined ? 'ok    ' : 'FAILED'} ${seconds.padStart(5)} s  ${command[0]}`,
  );
  if (finding === undefined) continue;
  failed.push(name);
  console.log(finding.replace(/^/gm, '    '));
}
if (failed.length > 0) {
  console.log(`check: failed: ${failed.join(', ')}`);
  process.exitCode = 1;
} else {
  console.log(`check: all ${checks.length} hold`);
}

function judgeExit({ code, stdout, stderr }) {
  return code === 0 ? undefined : `${stdout}${stderr}`.trim() || `exit code ${code}`;
}

/** dependency-cruiser is content with a program that it could not read: 0 modules have no wrong imports. */
function judgeLayers({ stdout, stderr }) {
  let summary;
  try {
    summary = JSON.parse(stdout).summary;
  } catch {
    return `${stdout}${stderr}`.trim() || 'no output';
  }
  if (summary.totalCruised === 0) return 'no module was looked at: dependency-cruiser cannot read src/';
  const violations = summary.violations.filter(({ rule }) => rule.severity !== 'ignore');
  if (violations.length === 0) return undefined;
  return violations.map(({ rule, from, to }) => `${rule.severity} ${rule.name}: ${from} → ${to}`).join('\n');
}

function run([tool, ...args]) {
  const onWindows = process.platform === 'win32';
  const path = join(root, 'node_modules/.bin', onWindows ? `${tool}.cmd` : tool);
  const child = spawn(path, args, { cwd: root, shell: onWindows, stdio: ['ignore', 'pipe', 'pipe'] });
  const result = { code: 1, stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text) => (result.stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text) => (result.stderr += text));
  return new Promise((done) => {
    child.on('error', (failure) => (result.stderr += failure.message));
    child.on('close', (code) => done({ ...result, code: code ?? 1 }));
  });
}
