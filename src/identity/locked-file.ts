/**
 * A file opened and locked, for the rare writer of keys: one at a time between all processes.
 *
 * The lock is an OFD lock. It belongs to the open file, so closing that ends it, and so does the death of
 * its holder. Waiting is asking again rather than a blocking call: each of those would occupy one of Node's
 * few threads for files, and enough of them would keep the holder from finishing.
 */
import { type FileHandle, open } from 'node:fs/promises';
import { setTimeout } from 'node:timers/promises';
import locks from 'fs-native-extensions';

const askAgainMs = 5;
const giveUpMs = 10_000;

/**
 * Opens the file at `path` to read and write, `a+` making it where it does not exist, and locks it until it
 * is closed. Throws the system's errors, and one of its own when another holds the lock for 10 s.
 */
export async function openLocked(path: string, flags: 'r+' | 'a+'): Promise<FileHandle> {
  const file = await open(path, flags, 0o600);
  try {
    const givenUpAt = performance.now() + giveUpMs;
    while (!locks.tryLock(file.fd)) {
      if (performance.now() > givenUpAt) {
        throw new Error(`another process has had ${path} locked for ${giveUpMs / 1000} s`);
      }
      await setTimeout(askAgainMs);
    }
    return file;
  } catch (thrown) {
    await file.close();
    throw thrown;
  }
}
