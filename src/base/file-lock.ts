/**
 * An OFD lock on an open file: one holder at a time between all processes, or any number that only read.
 *
 * It belongs to the open file, so closing that ends it, and so does the death of its holder. Waiting is asking again
 * rather than a blocking call: each of those would occupy one of Node's few threads for files, which the holder may need
 * to finish, and would take the lock for a thread before this one has the time to use it.
 */
import { setImmediate as nextTurn, setTimeout as wait } from 'node:timers/promises';
import locks from 'fs-native-extensions';

const askAgainMs = 2;

export interface FileLockOptions {
  /** Hold it together with others that share it. The file must be open for reading, else for writing. @default false */
  readonly shared?: boolean;
  /** @default never */
  readonly giveUpMs?: number;
}

/** Resolves once this holds the lock; reports false where it gave up. Throws the system's own errors. */
export async function lockFile(
  fd: number,
  { shared = false, giveUpMs = Number.POSITIVE_INFINITY }: FileLockOptions = {},
): Promise<boolean> {
  if (locks.tryLock(fd, { shared })) return true;
  const givenUpAt = performance.now() + giveUpMs;
  await nextTurn(); // most are held for microseconds
  while (!locks.tryLock(fd, { shared })) {
    if (performance.now() > givenUpAt) return false;
    await wait(askAgainMs);
  }
  return true;
}

/** Takes the lock on one byte of the file, which need not be there, until the file is closed; reports whether it could. */
export function tryLockByte(
  fd: number,
  at: number,
  { shared = false }: { readonly shared?: boolean } = {},
): boolean {
  return locks.tryLock(fd, at, 1, { shared });
}

export function unlockFile(fd: number): void {
  locks.unlock(fd);
}
