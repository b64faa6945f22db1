/**
 * A child process that does not outlive this one, however this one ends, and does not hear the terminal's Ctrl-C.
 *
 * A process that is killed cannot clean up after itself, so something else has to notice. Here it is a shell
 * of two lines that starts as the child: it leaves a watchdog in the background and then becomes the program
 * (`exec`), so that the process id, the exit and the signals are the program's own. The watchdog reads a pipe
 * whose other end only this process holds and on which nothing is ever written: the read ends when this
 * process does, and then the program is told to stop, and killed if it does not.
 *
 * Why this way: `setpriv --pdeathsig` is a line shorter, but exists only on Linux with util-linux, and follows
 * the thread that spawned; a process group to kill needs somebody to kill it.
 *
 * The watchdog cannot hit a stranger. The child leads a process group of its own, the watchdog is in it, and
 * POSIX (XBD 4.14) reuses no process id while it is the id of a group. The same group is why a Ctrl-C in the
 * terminal reaches this process alone, which then stops the child in its own order.
 *
 * On Windows there is no such shell: there the child is a plain one, a killed parent may leave it running, and
 * `heldOpen` is not passed on.
 */
import { type ChildProcess, spawn } from 'node:child_process';

const shell = '/bin/sh';

// 0 is the pipe, 3 is `heldOpen`: the program keeps that and not the pipe, the watchdog the other way about.
// The watchdog lets go of stdout and stderr, so that they end when the program does.
const script = `exec 4<&0
{ read -r line <&4; kill -TERM $$ && sleep 5 && kill -KILL $$; } 3>&- >/dev/null 2>&1 &
exec "$@" 4<&- </dev/null`;

/**
 * Starts `program` with stdout and stderr piped, tied to this process. `heldOpen` is a file that it inherits
 * and never uses: what is locked through it stays locked as long as the program runs.
 */
export function spawnTethered(program: string, args: readonly string[], heldOpen?: number): ChildProcess {
  if (process.platform === 'win32') {
    return spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], windowsHide: true });
  }
  return spawn(shell, ['-c', script, program, program, ...args], {
    stdio: ['pipe', 'pipe', 'pipe', heldOpen ?? 'ignore'],
    detached: true,
  });
}
