/**
 * The real command, run in a folder as a person or a script would: by name in a shell, or as a process to signal.
 *
 * Its environment holds nothing of the tests' own. Whatever is run, what it printed is searched for every secret that
 * lies in the folder by then.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { parseEnv } from 'node:util';
import { expect } from 'vitest';
import { saveIdentity } from '../../src/identity/envfile.ts';
import { parseHandover, printHandover } from '../../src/identity/handover.ts';
import { SigningKey } from '../../src/identity/key.ts';
import { updateKeyring, withAgent } from '../../src/identity/keyring-edit.ts';
import { compiledCommand } from './compiled.ts';

const main = await compiledCommand();

const root = mkdtempSync(join(tmpdir(), 'can-swarm-cli-'));
const bin = join(root, 'bin');
mkdirSync(bin);
writeFileSync(join(bin, 'swarm'), `#!/bin/sh\nexec '${process.execPath}' '${main}' "$@"\n`, { mode: 0o755 });

/** Returns a new folder, gone when the run of the tests is over. */
export function newFolder(): string {
  return mkdtempSync(join(root, 'folder-'));
}

/** Does in `folder` what `swarm keys new --name` does, without the time it takes to start. */
export async function saveAgent(folder: string, name: string, envFile = '.env'): Promise<SigningKey> {
  const key = SigningKey.generate();
  await saveIdentity(join(folder, envFile), key);
  const { record, checkpoint, nkey } = parseHandover(printHandover(name, key));
  await updateKeyring(join(folder, 'swarm.keys.json'), (keyring) =>
    withAgent(keyring, { name, keys: [{ record, checkpoint, nkey }] }),
  );
  return key;
}

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
}

/** Runs `line` in a shell whose folder is `folder` and whose `swarm` is the command. */
export function shell(folder: string, line: string, options: RunOptions = {}): Promise<Ended> {
  return started(folder, 'sh', ['-c', line], options).ended;
}

/** Runs `swarm` with `args` and returns how it ended. */
export function swarm(folder: string, args: readonly string[], options: RunOptions = {}): Promise<Ended> {
  return start(folder, args, options).ended;
}

export interface Running {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  /** Resolves once stdout and stderr together contain `text`; rejects if the command ends before. */
  says(text: string): Promise<void>;
  signal(name: NodeJS.Signals): void;
}

/** Starts `swarm` with `args` as a process of its own. */
export function start(folder: string, args: readonly string[], options: RunOptions = {}): Running {
  return started(folder, process.execPath, [main, ...args], options);
}

function started(
  folder: string,
  program: string,
  args: readonly string[],
  { env = {} }: RunOptions,
): Running {
  const child = spawn(program, args, {
    cwd: folder,
    env: { PATH: `${bin}:${process.env.PATH}`, HOME: folder, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const said = { stdout: '', stderr: '' };
  const listeners = new Set<() => void>();
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => {
      said[name] += text;
      for (const listener of listeners) listener();
    });
  }
  const ended = new Promise<Ended>((end, fail) => {
    child.on('error', fail);
    child.on('close', (code, signal) => {
      const shown = secretShown(folder, said.stdout + said.stderr);
      if (signal !== null) fail(new Error(`the command was killed by ${signal}`));
      else if (shown !== undefined) fail(new Error(`the secret of ${shown} is shown`));
      else end({ code, ...said });
    });
  });
  ended.catch(() => undefined); // for whoever awaits it
  return {
    child,
    ended,
    says: (text) =>
      new Promise((heard, fail) => {
        const look = (): void => {
          if (`${said.stdout}${said.stderr}`.includes(text)) heard();
        };
        listeners.add(look);
        look();
        ended.then(
          () => fail(new Error(`it ended and did not say ${text}: ${said.stdout}${said.stderr}`)),
          fail,
        );
      }),
    signal: (name) => void child.kill(name),
  };
}

/** Returns the env file in `folder`, or kept there, whose secret `text` holds in any usual spelling. */
function secretShown(folder: string, text: string): string | undefined {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((file) => /\.env(\..*)?$/.test(basename(file)))
    .find((file) => {
      const secret = parseEnv(readFileSync(join(folder, file), 'utf8')).SWARM_SIGNING_SK_B64;
      const bytes = Buffer.from(secret ?? '', 'base64');
      const spellings = [secret ?? '', bytes.toString('hex'), bytes.toString('base64url')];
      return bytes.length > 0 && spellings.some((spelling) => text.includes(spelling));
    });
}

const placeholders: Readonly<Record<string, string>> = {
  '<key>': '[A-Za-z0-9+/]{43}=',
  '<nkey>': 'U[A-Z2-7]{55}',
  '<hash>': '[0-9a-f]{64}',
  '<time>': '\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{3}Z',
  '<file-time>': '\\d{4}-\\d\\d-\\d\\dT\\d\\d-\\d\\d-\\d\\dZ',
  '<n>': '\\d+',
  '<...>': '.*',
};

/**
 * Plays a session in `folder`. Lines that start with `$ ` are typed into a shell; below each stand, line by line, what
 * it says on stdout, with `! ` before it what it says on stderr, and `[n]` if its exit code is not 0. Names in angle
 * brackets stand for what differs from run to run.
 */
export async function session(folder: string, script: string, options: RunOptions = {}): Promise<void> {
  const lines = script
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
  while (lines.length > 0) {
    const typed = lines.shift() ?? '';
    const below = lines.splice(0, (lines.findIndex((line) => line.startsWith('$ ')) + 1 || Infinity) - 1);
    const { code, stdout, stderr } = await shell(folder, typed.replace(/^\$ /, ''), options);
    const found = [
      ...linesOf(stdout),
      ...linesOf(stderr).map((line) => `! ${line.trim()}`.trim()),
      ...(code === 0 ? [] : [`[${code}]`]),
    ];
    const isCode = (line: string): boolean => /^\[\d+\]$/.test(line);
    const wanted = [
      ...below.filter((line) => !line.startsWith('!') && !isCode(line)),
      ...below.filter((line) => line.startsWith('!')),
      ...below.filter(isCode),
    ];
    const shown = found.map((line, index) => (matches(wanted[index] ?? '', line) ? wanted[index] : line));
    expect([typed, ...shown]).toEqual([typed, ...wanted]);
  }
}

function linesOf(text: string): string[] {
  return text === '' ? [] : text.replace(/\n$/, '').split('\n');
}

function matches(wanted: string, found: string): boolean {
  const parts = wanted.split(/(<[a-z.-]+>)/).map((part) => placeholders[part] ?? escapeRegExp(part));
  return new RegExp(`^${parts.join('')}$`).test(found);
}

function escapeRegExp(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}
