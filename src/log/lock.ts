/**
 * The log's exclusive lock: one writer at a time between all processes and all writers of a process.
 *
 * It is an OFD lock on `<log>.lock` (docs/format.md, section 1): the kernel frees it when its holder dies,
 * and a free one is taken in microseconds. What is done under it is synchronous, so that a lock is never
 * held across a turn of the event loop, and waiting writers of one process cannot starve its holder.
 */
import { closeSync, existsSync, openSync } from 'node:fs';
import locks from 'fs-native-extensions';
import { messageOf, SwarmError } from '../base/errors.ts';

export class LogLock {
  readonly path: string;
  readonly #fd: number;
  /** A lock belongs to its file descriptor, so holders that share one take turns. */
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(path: string, fd: number) {
    this.path = path;
    this.#fd = fd;
  }

  /** Returns the lock of the log at `logPath`, making its file if need be; throws `LOG_OPEN`. */
  static open(logPath: string): LogLock {
    const path = lockPathOf(logPath);
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

function lockPathOf(logPath: string): string {
  return `${logPath}.lock`;
}
