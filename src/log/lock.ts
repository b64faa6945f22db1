/**
 * Exclusive locks, each one holder at a time between all processes and all holders of a process.
 *
 * A lock is an OFD lock on `<path>.lock`: the kernel frees it when its holder dies, and a free one is taken in
 * microseconds. A log has two (docs/format.md, section 1). That of the file, `swarm.jsonl.lock`, guards every write;
 * what is done under it is synchronous, so that it is never held across a turn of the event loop. That of its tree,
 * `swarm.tlog.lock`, is held for as long as a seal takes; a writer waits for it only to close a segment.
 */
import { closeSync, existsSync, openSync } from 'node:fs';
import { setTimeout as wait } from 'node:timers/promises';
import locks from 'fs-native-extensions';
import { messageOf, SwarmError } from '../base/errors.ts';

const pollMs = 2;

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

  /** Returns what `act` returns, called while nobody else holds the lock. */
  hold<Result>(act: () => Result): Promise<Result> {
    const result = this.#turn.then(async () => {
      if (!locks.tryLock(this.#fd)) await locks.waitForLock(this.#fd);
      try {
        return act();
      } finally {
        locks.unlock(this.#fd);
      }
    });
    this.#turn = result.catch(() => undefined); // the caller hears of the failure; the next in turn goes on
    return result;
  }

  /**
   * Resolves with what `act` resolves with, called and awaited while nobody else holds the lock. It is asked for now and
   * then: threads that wait for a lock are threads that its holder, in the same process, may need to go on.
   */
  holdWhile<Result>(act: () => Promise<Result>): Promise<Result> {
    const result = this.#turn.then(async () => {
      while (!locks.tryLock(this.#fd)) await wait(pollMs);
      try {
        return await act();
      } finally {
        locks.unlock(this.#fd);
      }
    });
    this.#turn = result.catch(() => undefined);
    return result;
  }

  close(): void {
    closeSync(this.#fd);
  }
}

/** Returns what `act` returns, called while no writer holds the lock of the log at `logPath`, if it has one. */
export async function whileUnlocked<Result>(logPath: string, act: () => Result): Promise<Result> {
  if (!existsSync(lockPathOf(logPath))) return act();
  let lock: LogLock;
  try {
    lock = LogLock.open(logPath);
  } catch {
    return act(); // a log that cannot be locked, on a read-only disk or for a reader without the right, has no writer to wait for
  }
  try {
    return await lock.hold(act);
  } finally {
    lock.close();
  }
}

function lockPathOf(locked: string): string {
  return `${locked}.lock`;
}
