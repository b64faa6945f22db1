/**
 * Small files that are whole and on disk when the promise resolves, whatever crashes in between.
 *
 * The bytes go to a temporary file in the same folder, are fsynced, take the name in one step, and the
 * folder is fsynced, because a name is the folder's content, not the file's. A reader sees the old file or
 * the new one, never a part. A crash can leave the temporary file behind (`<path>.<16 hex digits>.tmp`), and
 * nothing worse. Failures are the system's own errors; who calls knows what to say about them.
 */
import { randomBytes } from 'node:crypto';
import type { Stats } from 'node:fs';
import {
  type FileHandle,
  link,
  mkdir,
  open,
  readlink,
  realpath,
  rename,
  stat,
  unlink,
} from 'node:fs/promises';
import { dirname, join, relative, resolve, sep } from 'node:path';

export interface DurableFileOptions {
  /**
   * Permissions of the file, from which the umask takes away. @default those of the file that is replaced, and its
   * owner where we may give it away; for a new one whatever the umask leaves
   */
  readonly mode?: number;
  /** Fail with `EEXIST` where the name is taken; of many at once, one succeeds. @default false */
  readonly exclusive?: boolean;
}

/** Writes a file of exactly `content` to `path`, in place of what may be there, in a folder that exists. */
export async function writeFileDurably(
  path: string,
  content: string | Uint8Array,
  options: DurableFileOptions = {},
): Promise<void> {
  const temporary = `${path}.${randomBytes(8).toString('hex')}.tmp`;
  try {
    const replaced = options.mode === undefined ? await stat(path).catch(() => undefined) : undefined;
    const file = await open(temporary, 'wx', options.mode ?? 0o666);
    try {
      if (replaced !== undefined) await likenTo(file, replaced);
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
    if (options.exclusive === true) {
      await link(temporary, path); // rename would replace; link refuses
      await unlink(temporary);
    } else {
      await rename(temporary, path);
    }
  } catch (cause) {
    await unlink(temporary).catch(() => undefined); // it may never have been made; the cause is what matters
    throw cause;
  }
  await syncFolder(dirname(path));
}

/** Gives `file` the owner of `other`, where that is allowed, and its permissions. */
export async function likenTo(file: FileHandle, other: Stats): Promise<void> {
  const { uid, gid } = await file.stat();
  // Only root may change the owner, and only to a group of ours the group.
  if (other.uid !== uid || other.gid !== gid) await file.chown(other.uid, other.gid).catch(() => undefined);
  await file.chmod(other.mode & 0o777);
}

const linksAtMost = 40;

/** Returns the path of the file that `path` leads to through links, whether or not it exists. */
export async function resolveLinks(path: string): Promise<string> {
  let file = path;
  for (let links = 0; links < linksAtMost; links++) {
    const target = await readlink(file).catch(() => undefined); // no link, or nothing there
    if (target === undefined) return await realpath(file).catch(() => file);
    file = resolve(dirname(file), target);
  }
  throw new Error(`the link ${path} leads nowhere`);
}

/** Makes the folder at `path` and those above it, where they do not exist. */
export async function makeFolderDurably(path: string): Promise<void> {
  const made = await mkdir(path, { recursive: true });
  if (made === undefined) return;
  let folder = dirname(made);
  await syncFolder(folder);
  for (const name of relative(folder, resolve(path)).split(sep)) {
    folder = join(folder, name);
    await syncFolder(folder);
  }
}

/** Makes the names in the folder at `path` as durable as the files that bear them. */
export async function syncFolder(path: string): Promise<void> {
  if (process.platform === 'win32') return; // folders cannot be opened there, and NTFS journals names
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
