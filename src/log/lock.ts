/**
 * Exclusive locks, each one holder at a time between all processes and all holders of a process.
 *
 * A lock is that of `<path>.lock` (base/file-lock.ts): freed when its holder dies, a free one taken in microseconds.
 * A log has two (docs/format.md, section 1). That of the file, `swarm.jsonl.lock`, guards every write;
 * what is done under it is synchronous, so that it is never held across a turn of the event loop. That of its tree,
 * `swarm.tlog.lock`, is held for as long as a seal takes; a writer waits for it only to close a segment.
 */
import { closeSync, openSync } from 'node:fs';
import { messageOf, SwarmError } from '../base/errors.ts';
import { lockFile, unlockFile } from '../base/file-lock.ts';

export class LogLock {
  readonly path: string;
  readonly #fd: number;
  /** A lock belongs to its file descriptor, so holders that share one take turns. */
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(path: string, fd: number) {
    this.path = path;
    this.#fd = fd;
  }

  /** Returns the lock of `locked`, a log or a tree's folder, making its file if need be; throws `LOG_OPEN`. */
  static open(locked: string): LogLock {
    const path = lockPathOf(locked);
    try {
      return new LogLock(path, openSync(path, 'a+'));
    } catch (cause) {
      throw new SwarmError('LOG_OPEN', `cannot open the lock ${path}: ${messageOf(cause)}`, { cause });
    }
  }

  /** Returns what `act` returns or resolves with, called and awaited while nobody else holds the lock. */
  hold<Result>(act: () => Result | Promise<Result>): Promise<Result> {
    const result = this.#turn.then(async () => {
      await lockFile(this.#fd);
      try {
        const done = act();
        return done instanceof Promise ? await done : done; // nothing waits for what is there
      } finally {
        unlockFile(this.#fd);
      }
    });
    this.#turn = result.catch(() => undefined); // the caller hears of the failure; the next in turn goes on
    return result;
  }

  /** Never throws: the lock is free in any case. */
  close(): void {
    try {
      closeSync(this.#fd);
    } catch {}
  }
}

/** Returns what `act` returns, called while no writer holds the lock of the log at `logPath`, if it has one. */
export async function whileUnlocked<Result>(logPath: string, act: () => Result): Promise<Result> {
  let fd: number;
  try {
    fd = openSync(lockPathOf(logPath), 'r'); // sharing it asks for no right to write, and keeps no other reader waiting
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return act(); // nobody ever wrote here
    throw new SwarmError('LOG_OPEN', `cannot read the lock ${lockPathOf(logPath)}: ${messageOf(cause)}`, {
      cause,
    });
  }
  try {
    await lockFile(fd, { shared: true });
    return act();
  } finally {
    closeSync(fd);
  }
}

function lockPathOf(locked: string): string {
  return `${locked}.lock`;
}
