/**
 * Another program run to its end, and what it said if it failed.
 *
 * Nothing waits for ever: a program that outlives its time is killed, and that is a failure like any other.
 */
import { execFile } from 'node:child_process';

export interface RunOptions {
  readonly cwd?: string;
  /** Its environment, whose PATH is also where it is looked for. @default this process's */
  readonly env?: NodeJS.ProcessEnv;
  readonly timeoutMs: number;
}

/** Runs `command` to its end and returns its stdout; throws an `Error` that says in a line what went wrong. */
export function run(command: string, args: readonly string[], options: RunOptions): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(
      command,
      args,
      {
        encoding: 'utf8',
        maxBuffer: 16 * 1024 * 1024,
        timeout: options.timeoutMs,
        killSignal: 'SIGKILL',
        windowsHide: true,
        ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
        ...(options.env === undefined ? {} : { env: options.env }),
      },
      (failure, stdout, stderr) => {
        if (failure === null) resolve(stdout);
        else reject(new Error(describe(command, args, failure, stderr, options), { cause: failure }));
      },
    );
  });
}

function describe(
  command: string,
  args: readonly string[],
  failure: {
    code?: number | string | null;
    killed?: boolean;
    signal?: NodeJS.Signals | null;
    message: string;
  },
  stderr: string,
  options: RunOptions,
): string {
  if (failure.code === 'ENOENT' && !command.includes('/')) return `${command} is not on this machine`;
  if (typeof failure.code === 'string') return `${command} cannot be run here (${failure.code})`;
  const verb = args.find((arg) => /^(?:--)?[a-z]{2,}$/.test(arg));
  const what = verb === undefined ? command : `${command} ${verb}`;
  if (failure.killed) return `${what} was still running after ${options.timeoutMs / 1000} s, and was killed`;
  const how =
    typeof failure.code === 'number' ? `exit code ${failure.code}` : (failure.signal ?? failure.message);
  const said = lastLines(stderr);
  return `${what} failed (${how})${said === '' ? '' : `: ${said}`}`;
}

/** Returns the last few lines of `text` that say something, errors before warnings, on one line. */
function lastLines(text: string): string {
  const lines = text.split('\n').map((line) => line.trim());
  const errors = lines.filter((line) => line.startsWith('E: '));
  const chosen = errors.length > 0 ? errors : lines.filter((line) => line !== '');
  return chosen.slice(-3).join(' / ').slice(-600);
}
