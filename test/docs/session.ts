/**
 * The console sessions of a page, played as a reader would play them: in a clone, one block after the other, with a
 * terminal of its own for each command that runs until Ctrl-C.
 *
 * A line after `$ ` is typed; below it stands what it says, stdout and stderr as they come. `…` stands for the rest
 * of what is on a line, alone on a line for any number of lines, and `^C` for Ctrl-C. A command fails the session if
 * it exits with anything but 0, unless `echo $?` is typed next.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import { blocksOf, project } from './markdown.ts';

interface Step {
  readonly command: string;
  readonly says: string;
  /** What it says after Ctrl-C; `undefined` if it ends by itself. */
  readonly saysAfterInterruption: string | undefined;
}

/** Returns what is typed in the `console` blocks of a page, in order. */
function stepsOf(markdown: string): Step[] {
  return blocksOf(markdown)
    .filter(({ info }) => info === 'console')
    .flatMap(({ text }) => text.split(/^(?=\$ )/m))
    .map((step) => {
      const [typed = '', ...said] = step.split(/(?<=\n)/);
      const interrupted = said.indexOf('^C\n');
      return {
        command: typed.replace(/^\$ /, '').trimEnd(),
        says: said.slice(0, interrupted < 0 ? undefined : interrupted).join(''),
        saysAfterInterruption: interrupted < 0 ? undefined : said.slice(interrupted + 1).join(''),
      };
    });
}

/** Makes `folder` look like a fresh clone after `npm run setup`. */
export function layOutClone(folder: string): void {
  for (const name of ['package.json', 'package-lock.json', 'node_modules', 'dist', 'examples', 'scripts']) {
    symlinkSync(join(project, name), join(folder, name));
  }
}

/** The variables of a reader's shell: nothing of npm's, vitest's or this project's own. */
function readersEnvironment(folder: string, natsServer: string): Record<string, string> {
  const kept = Object.entries(process.env).filter(([name]) => /^(?:PATH|HOME|LANG|TMPDIR|TERM)$/.test(name));
  return {
    ...Object.fromEntries(kept.map(([name, value]) => [name, value ?? ''])),
    SWARM_NATS_SERVER: natsServer,
    npm_config_cache: join(folder, '.npm'),
    npm_config_loglevel: 'error', // a machine's own npm settings may make it complain
    npm_config_offline: 'true',
    npm_config_update_notifier: 'false',
  };
}

/** Plays all sessions of `markdown` in `folder`, a clone. */
export async function play(markdown: string, folder: string, natsServer: string): Promise<void> {
  const steps = stepsOf(markdown);
  const env = readersEnvironment(folder, natsServer);
  const terminals: { readonly step: Step; readonly terminal: Terminal }[] = [];
  let broker = '127.0.0.1:4222';
  let exitCode: number | null = 0;
  try {
    for (const [index, step] of steps.entries()) {
      if (step.command === 'echo $?') {
        expect(`${exitCode}\n`).toBe(step.says);
        continue;
      }
      const command = elsewhere(step.command, broker);
      const direct = steps.slice(0, index).some((earlier) => isSameProgram(earlier, step));
      const terminal = new Terminal(direct ? withoutNpx(command) : command, folder, {
        ...env,
        NATS_URL: `nats://${broker}`,
      });
      terminals.push({ step, terminal });
      if (step.saysAfterInterruption === undefined) {
        exitCode = await terminal.ended();
        terminals.pop();
        expectSays(step.command, terminal.said, step.says);
        if (steps[index + 1]?.command !== 'echo $?')
          expect([step.command, exitCode]).toEqual([step.command, 0]);
      } else {
        await terminal.hasSaid(step.says.split('\n').slice(0, 1).join(''));
        broker = /^url +nats:\/\/(\S+)$/m.exec(terminal.said)?.[1] ?? broker;
      }
    }
    for (const { step, terminal } of terminals.toReversed()) {
      await terminal.hasSaid(step.says);
      await terminal.interrupt();
      expectSays(step.command, asIfElsewhere(terminal.said), step.says + (step.saysAfterInterruption ?? ''));
    }
  } finally {
    for (const { terminal } of terminals) await terminal.kill();
  }
}

/** The default ports may be taken here: `swarm up` is given free ones, and its words changed back. */
function elsewhere(command: string, broker: string): string {
  if (command.endsWith('swarm up')) return `${command} --port 0 --monitor-port 0`;
  return command.replace('nats://127.0.0.1:4222', `nats://${broker}`);
}

/** npx takes a second to find again what it has found before. */
function isSameProgram(earlier: Step, { command }: Step): boolean {
  const program = /\bnpx \w+/.exec(command)?.[0];
  return program !== undefined && earlier.command.includes(program);
}

function withoutNpx(command: string): string {
  return command
    .replace(/\bnpx swarm\b/, 'node dist/cli/main.js')
    .replace(/\bnpx tsx\b/, 'node_modules/.bin/tsx');
}

function asIfElsewhere(said: string): string {
  return said.replace(/(?<=^url +nats:.*:)\d+/m, '4222').replace(/(?<=^monitoring +http:.*:)\d+/m, '8222');
}

function expectSays(command: string, said: string, wanted: string): void {
  if (!patternOf(wanted, '$').test(said)) expect(`$ ${command}\n${said}`).toBe(`$ ${command}\n${wanted}`);
}

function patternOf(wanted: string, end: '$' | ''): RegExp {
  const lines = wanted.split(/(?<=\n)/).map((line) =>
    line === '…\n'
      ? '(?:.*\n)*?'
      : line
          .split('…')
          .map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
          .join('.*'),
  );
  return new RegExp(`^${lines.join('')}${end}`);
}

const longestMs = 60_000;

/** A command in a process group of its own, as a terminal runs it. */
class Terminal {
  said = '';
  readonly #child: ChildProcess;
  readonly #ended: Promise<number | null>;
  #isRunning = true;

  constructor(command: string, cwd: string, env: Record<string, string>) {
    this.#child = spawn('/bin/sh', ['-c', `{ ${command}\n} 2>&1`], {
      cwd,
      env,
      detached: true,
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.said += text;
    });
    this.#ended = new Promise((resolve, reject) => {
      this.#child.on('error', reject);
      this.#child.on('close', (code) => {
        this.#isRunning = false;
        resolve(code);
      });
    });
  }

  /** Resolves with the exit code; throws if the command does not end by itself. */
  async ended(): Promise<number | null> {
    const late = sleep(longestMs, 'late' as const, { ref: false });
    const code = await Promise.race([this.#ended, late]);
    if (code === 'late') throw new Error(`it does not end; so far it said:\n${this.said}`);
    return code;
  }

  /** Resolves once it has said `wanted` at least. */
  async hasSaid(wanted: string): Promise<void> {
    const deadline = performance.now() + longestMs;
    const pattern = patternOf(wanted, '');
    while (!pattern.test(asIfElsewhere(this.said))) {
      if (!this.#isRunning || performance.now() > deadline) {
        throw new Error(`it ought to say:\n${wanted}\nand said:\n${this.said}`);
      }
      await sleep(20);
    }
  }

  async interrupt(): Promise<void> {
    this.#signal('SIGINT');
    await this.ended();
  }

  async kill(): Promise<void> {
    if (!this.#isRunning) return;
    this.#signal('SIGKILL');
    await this.#ended;
  }

  #signal(name: NodeJS.Signals): void {
    const { pid } = this.#child;
    if (pid !== undefined && this.#isRunning) process.kill(-pid, name);
  }
}
