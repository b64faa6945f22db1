/** The code of the documentation compiles, and does what the text around it says. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { beforeAll, expect, test } from 'vitest';
import { agentsIn } from '../support/agents.ts';
import { temporaryFolder } from '../support/log.ts';
import { natsServerPath, testServer } from '../support/nats.ts';
import { blockOf, blocksOf, pages, project, readPage } from './markdown.ts';

const run = promisify(execFile);

beforeAll(async () => {
  await run(process.execPath, ['scripts/build.mjs', '--if-needed'], { cwd: project });
});

/** Returns a folder that is a project of somebody's own, with the package installed. */
function projectOfOnesOwn(): string {
  const folder = temporaryFolder();
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(project, join(folder, 'node_modules/can-swarm'));
  symlinkSync(join(project, 'node_modules/zod'), join(folder, 'node_modules/zod'));
  return folder;
}

test('every ts block of every page compiles against the package', async () => {
  const folder = projectOfOnesOwn();
  let blocks = 0;
  for (const page of await pages()) {
    for (const { info, text } of blocksOf(readPage(page))) {
      if (info === 'ts') writeFileSync(join(folder, `${page.replaceAll('/', '-')}-${++blocks}.ts`), text);
    }
  }
  expect(blocks).toBeGreaterThan(1);
  expect(await compilerSays(folder)).toBe('');
});

/** Returns what is wrong with the types of the programs in `folder`. */
async function compilerSays(folder: string): Promise<string> {
  const compilerOptions = {
    target: 'es2023',
    lib: ['es2023', 'esnext.disposable'],
    module: 'nodenext',
    strict: true,
    noEmit: true,
    rewriteRelativeImportExtensions: true,
    skipLibCheck: true,
    typeRoots: [join(project, 'node_modules/@types')],
    types: ['node'],
  };
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['*.ts'] }));
  const tsc = join(project, 'node_modules/typescript/bin/tsc');
  const said = await run(process.execPath, [tsc, '-p', folder]).catch(
    (failure: { stdout: string }) => failure,
  );
  return said.stdout;
}

test('the programs of README.md talk: one publishes and hears itself, one answers with its cause', async () => {
  await using server = await testServer();
  const folder = projectOfOnesOwn();
  const place = await agentsIn(folder, server.url, ['planner', 'worker']);
  const [first, second] = blocksOf(readPage('README.md')).filter(({ info }) => info === 'ts');
  writeFileSync(join(folder, 'first.ts'), first?.text ?? '');
  writeFileSync(join(folder, 'second.ts'), second?.text ?? '');
  const programs: ChildProcess[] = [];
  let said = '';
  const start = (file: string, agent: string): void => {
    const child = spawn(process.execPath, ['--import', tsx, file], {
      cwd: folder,
      env: { PATH: process.env.PATH, NATS_URL: server.url, SWARM_ENV: `${agent}.env` },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        said += text;
      });
    }
    programs.push(child);
  };
  try {
    start('second.ts', 'worker');
    start('first.ts', 'planner');
    await until(
      () => said.includes("Got: { answers: { hello: 'world', n: 1 } }"),
      () => said,
    );
  } finally {
    for (const child of programs) child.kill('SIGKILL');
  }
  expect(said).toMatch(/^Message 1 of the stream, record [0-9a-f]{64}$/m);
  expect(said).toContain("Got: { hello: 'world', n: 1 }");
  const records = place.records();
  const answer = records.find(
    ({ header }) => header.subject.endsWith('.worker') && header.kind === 'BUS.PUBLISH',
  );
  const cause = records.find(({ leaf }) => leaf === answer?.header.cause);
  expect(cause?.header).toMatchObject({ kind: 'BUS.DELIVER', subject: 'thread.demo-thread.planner' });
  expect((await place.verify()).bad).toBe(0);
});

test('the programs of docs/testing.md record a log, and test against it', async () => {
  const folder = projectOfOnesOwn();
  const programs = blocksOf(readPage('docs/testing.md')).flatMap(({ info, text }) => {
    const [language, file] = info.split(' ');
    return language === 'ts' && file !== undefined ? [{ file, text }] : [];
  });
  for (const { file, text } of programs) writeFileSync(join(folder, file), text);
  expect(await compilerSays(folder)).toBe('');
  const node = (...args: string[]): Promise<string> =>
    run(process.execPath, ['--import', tsx, ...args], { cwd: folder, env }).then(
      ({ stdout }) => stdout,
      (failure: { stdout: string }) => failure.stdout,
    );
  const { NODE_TEST_CONTEXT: _, ...environment } = process.env;
  const env = { ...environment, SWARM_NATS_SERVER: await natsServerPath() };

  await node('record.ts');
  expect(readdirSync(join(folder, 'golden')).toSorted()).toEqual([
    'swarm.jsonl',
    'swarm.keys.json',
    'swarm.tlog',
  ]);
  const tests = ['--test', 'worker.test.ts', 'answers.test.ts'];
  expect(await node(...tests)).toContain('# pass 3\n# fail 0\n');

  const worker = programs.find(({ file }) => file === 'worker.ts')?.text ?? '';
  writeFileSync(join(folder, 'worker.ts'), worker.replace(/`What is (.*)\?`/, '`Tell me about $1.`'));
  const failed = await node('--test', 'worker.test.ts');
  const inOneLine = (text: string): string => text.trim().replaceAll(/\s+/g, ' ');
  expect(inOneLine(failed)).toContain(inOneLine(blockOf('docs/testing.md', 'text')));
});

const tsx = pathToFileURL(join(project, 'node_modules/tsx/dist/esm/index.mjs')).href;

async function until(holds: () => boolean, words: () => string): Promise<void> {
  const deadline = performance.now() + 30_000;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`it did not happen; so far:\n${words()}`);
    await sleep(20);
  }
}
