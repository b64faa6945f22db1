/**
 * Every file call of a flush, a rotation and a seal fails, or is the last one: what was promised is there afterwards.
 *
 * A run without faults tells the calls, by thread, for each of which strace counts by itself. Then the same again for each
 * call and each fault. What runs is test/fixtures/sealing-writer.mjs, which does one thing after another, so that the
 * calls of two runs are the same ones. Of these a sample is taken for each fault, by the seed that is printed:
 * FAULTS_SEED takes the same one again, FAULTS_RUNS=10000 takes all.
 */
import { spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { logFiles } from '../../src/log/files.ts';
import { brokenPromises, flushes, sealingWriter, type Told, toldIn } from '../support/promises.ts';
import { findStrace } from '../support/strace.ts';

/** Returns where the log is of a run in `folder`. */
function logIn(folder: string): string {
  return join(folder, 'log/swarm.jsonl');
}
type Thread = 'main' | 'pool';

/** A file call: the `nth` of its name in its thread. */
interface Call {
  readonly thread: Thread;
  readonly name: string;
  readonly nth: number;
  /** What it was in the run without faults. */
  readonly line: string;
}

/** Reports whether a call changes what is on the disk, or makes it last. */
function changes({ name, line }: Call): boolean {
  if (line.includes(') = -1 E')) return false; // a folder that is there is not made
  return /^(?:p?write|mkdir|rename|link|unlink|rmdir|f(?:data)?sync)/.test(name) || line.includes('O_CREAT');
}

const faults: Readonly<Record<string, { readonly inject: string; hits(call: Call): boolean }>> = {
  // A killed process leaves nothing but its files, so that before any other call is before the next of these.
  'is the one before which the process is killed': { inject: 'signal=KILL', hits: changes },
  'fails with ENOSPC': {
    inject: 'error=ENOSPC',
    hits: (call) => changes(call) && !/^(?:unlink|rmdir)/.test(call.name),
  },
  'fails with EIO': { inject: 'error=EIO', hits: ({ name }) => name !== 'fcntl' }, // a local lock does not fail
};
/** Of more calls, a sample. */
const runsOfOneFault = Number(process.env.FAULTS_RUNS ?? 80);
const runsAtOnce = 2;

interface Run {
  readonly told: readonly Told[];
  /** What strace wrote. */
  readonly trace: string;
  /** Thread numbers of this run. */
  readonly threads: Readonly<Record<Thread, number>>;
  readonly errors: string;
}

/** Runs the writer in `folder`, with strace at one thread of it, or at all. */
async function runWriter(
  strace: string,
  folder: string,
  thread: Thread | 'all',
  traced: readonly string[],
): Promise<Run> {
  const trace = `${folder}.trace`;
  // strace replaces the shell, and so is the parent of what it traces: others may not trace it everywhere.
  const script = `"$@" 2>&1 </dev/null & echo "$!" >&2; read options; exec "$STRACE" -y -o "$TRACE" $options`;
  const child = spawn('sh', ['-c', script, 'sh', process.execPath, ...sealingWriter(logIn(folder))], {
    env: { ...process.env, UV_THREADPOOL_SIZE: '1', STRACE: strace, TRACE: trace },
    stdio: ['pipe', 'pipe', 'pipe', 'pipe'],
  });
  const [stdin, stdout, stderr, go] = child.stdio;
  let output = '';
  let errors = '';
  let threads: Run['threads'] | undefined;
  let isGoing = false;
  const proceed = (): void => {
    const ready = /^\{"ready":(\d+)\}$/m.exec(output)?.[1];
    const main = /^(\d+)$/m.exec(errors)?.[1];
    if (threads === undefined && ready !== undefined && main !== undefined) {
      threads = { main: Number(main), pool: Number(ready) };
      stdin.end(`${traced.join(' ')} -p ${thread === 'all' ? main : threads[thread]}\n`);
    }
    if (isGoing || !/attached/.test(errors)) return;
    isGoing = true;
    (go as NodeJS.WritableStream).end('\n');
  };
  stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
    proceed();
  });
  stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
    proceed();
  });
  (go as NodeJS.WritableStream).on('error', () => {}); // killed before it was read
  const timeout = setTimeout(() => {
    errors += 'it did not end in a minute\n';
    if (threads !== undefined) process.kill(threads.main, 'SIGKILL');
    child.kill('SIGKILL');
  }, 60_000);
  await new Promise((resolve) => child.on('close', resolve));
  clearTimeout(timeout);
  if (!isGoing || threads === undefined) throw new Error(`nothing was traced: ${errors}${output}`);
  const lines = output.split('\n');
  const told = toldIn(output);
  const stray = lines.filter((line) => line !== '' && !line.startsWith('{'));
  const text = readFileSync(trace, 'utf8');
  rmSync(trace);
  return {
    told,
    trace: text,
    threads,
    errors: [...errors.split('\n').filter((line) => /minute/.test(line)), ...stray].join('\n'),
  };
}

/** Returns the file calls of a run without faults: those in `folder`. */
function callsOf({ trace, threads }: Run, folder: string): Call[] {
  const counts = new Map<string, number>();
  const calls: Call[] = [];
  for (const line of trace.split('\n')) {
    const [, number, name] = /^(\d+) +(\w+)\(/.exec(line) ?? [];
    const thread =
      Number(number) === threads.main ? 'main' : Number(number) === threads.pool ? 'pool' : undefined;
    if (thread === undefined || name === undefined) continue;
    const nth = (counts.get(`${thread} ${name}`) ?? 0) + 1;
    counts.set(`${thread} ${name}`, nth);
    if (line.includes(`${folder}/`)) calls.push({ thread, name, nth, line: line.replaceAll(folder, '') });
  }
  return calls;
}

/** Returns what a writer said or did that it should not have, though a call failed. */
function misbehaviour({ told, errors }: Run, isKilled: boolean): string[] {
  const problems: string[] = [];
  for (const { failed, code, message, stack } of told) {
    if (failed === undefined) continue;
    const isTheFault = /EIO|ENOSPC|EEXIST: file already exists, mkdir/.test(message ?? '');
    if (code === undefined) problems.push(`${failed} failed with ${stack}`);
    else if (!isTheFault) problems.push(`${failed} failed, but not for the fault: ${message}`);
  }
  if (!isKilled && told.at(-1)?.end !== true) problems.push('it did not come to its end');
  if (errors !== '') problems.push(errors);
  return problems;
}

/** Returns `count` of `all`, evenly spread from a place that `seed` decides, in their order. */
function sample<Item>(all: readonly Item[], count: number, seed: number): Item[] {
  if (all.length <= count) return [...all];
  const offset = (seed % 1000) / 1000;
  return Array.from(
    { length: count },
    (_, index) => all[Math.floor(((index + offset) * all.length) / count)] as Item,
  );
}

const onLinux = process.platform === 'linux';

test.skipIf(!onLinux)(
  'whichever file call of a flush, a rotation or a seal fails or is the last, nothing promised is lost, and the next seal extends the last',
  async () => {
    const strace = await findStrace();
    const folder = mkdtempSync(join(tmpdir(), 'can-swarm-faults-'));
    const seed = Number(process.env.FAULTS_SEED ?? randomInt(1000));
    try {
      const whole = join(folder, 'whole');
      const run = await runWriter(strace, whole, 'all', ['-f']);
      expect(misbehaviour(run, false)).toEqual([]);
      expect(await brokenPromises(logIn(whole), run.told)).toEqual([]);
      expect(run.told.filter(({ sealed }) => sealed !== undefined)).toHaveLength(flushes.length);
      expect(logFiles(logIn(whole))).toHaveLength(3);
      const calls = callsOf(run, whole);
      expect(calls.length).toBeGreaterThan(300);

      const runs = Object.entries(faults).flatMap(([fault, { inject, hits }]) =>
        sample(calls.filter(hits), runsOfOneFault, seed).map((call) => ({ fault, inject, call })),
      );
      const failures: string[] = [];
      const tally: Record<string, number> = {};
      let begun = 0;
      const work = async (): Promise<void> => {
        for (let next = runs[begun++]; next !== undefined; next = runs[begun++]) {
          const { fault, inject, call } = next;
          const place = join(folder, `run-${begun}`);
          const options = [
            '-e',
            `trace=${call.name}`,
            '-e',
            `inject=${call.name}:${inject}:when=${call.nth}`,
          ];
          const faulty = await runWriter(strace, place, call.thread, options);
          const hit = faulty.trace.split('\n').find((line) => /\(INJECTED\)|\+\+\+ killed by/.test(line));
          const isKilled = inject.startsWith('signal');
          const problems = await brokenPromises(logIn(place), faulty.told);
          const kind = `${call.name} ${fault}`;
          tally[kind] = (tally[kind] ?? 0) + 1;
          // A call that was another's in this run, as of the event loop's own files, is a fault all the same.
          if (hit === undefined || !(isKilled || hit.includes(place))) tally.missed = (tally.missed ?? 0) + 1;
          else problems.unshift(...misbehaviour(faulty, isKilled));
          if (problems.length > 0) {
            failures.push(`${call.thread} ${call.nth}. ${call.line} ${fault}:\n  ${problems.join('\n  ')}`);
          }
          rmSync(place, { recursive: true, force: true });
        }
      };
      await Promise.all(Array.from({ length: runsAtOnce }, work));
      process.stdout.write(`faults: ${calls.length} calls, ${runs.length} runs, FAULTS_SEED=${seed}\n`);
      process.stdout.write(`faults: ${JSON.stringify(tally)}\n`);
      expect(failures.join('\n')).toBe('');
      expect(tally.missed ?? 0).toBeLessThan(runs.length / 20); // else the calls of two runs are not the same
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  },
);
