/**
 * A file opened and locked, for the rare writer of keys: one at a time between all processes.
 *
 * Closing the file ends the lock (base/file-lock.ts).
 */
import { type FileHandle, open, stat } from 'node:fs/promises';
import { likenTo } from '../base/durable.ts';
import { lockFile } from '../base/file-lock.ts';

const giveUpMs = 10_000;

export interface LockedFileOptions {
  /** A file whose owner and permissions a new one is given, if it exists. @default none: the umask decides */
  readonly like?: string;
}

/**
 * Opens the file at `path` to read and write, `a+` making it where it does not exist, and locks it until it
 * is closed. Throws the system's errors, and one of its own when another holds the lock for 10 s.
 */
export async function openLocked(
  path: string,
  flags: 'r+' | 'a+',
  { like }: LockedFileOptions = {},
): Promise<FileHandle> {
  const file = await open(path, flags);
  try {
    await likenToOwn(file, like);
    if (!(await lockFile(file.fd, { giveUpMs }))) {
      throw new Error(`another process has had ${path} locked for ${giveUpMs / 1000} s`);
    }
    return file;
  } catch (thrown) {
    await file.close();
    throw thrown;
  }
}

/** Likens a file of ours to the one at `like`; whoever owns another has seen to it. */
async function likenToOwn(file: FileHandle, like: string | undefined): Promise<void> {
  const other = like && (await stat(like).catch(() => undefined));
  if (!other) return;
  const { uid, mode } = await file.stat();
  if (uid === process.getuid?.() && (mode & 0o777) !== (other.mode & 0o777)) await likenTo(file, other);
}
