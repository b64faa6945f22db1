/**
 * Small files that are whole and on disk when the promise resolves, whatever crashes in between.
 *
 * The bytes go to a temporary file in the same folder, are fsynced, take the name in one step, and the
 * folder is fsynced, because a name is the folder's content, not the file's. A reader sees the old file or
 * the new one, never a part. A crash can leave the temporary file behind (`<path>.<16 hex digits>.tmp`), and
 * nothing worse. Failures are the system's own errors, of a folder with its name before them; who calls knows
 * what else to say about them.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, openSync, type Stats } from 'node:fs';
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
import { dirname, resolve } from 'node:path';
import { messageOf } from './errors.ts';

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
  await writeWhole(path, content, options);
  await syncFolder(dirname(path));
}

/** Writes files, each whole, in folders that exist: all are on disk when it resolves, in any order before. */
export async function writeFilesDurably(
  files: readonly { readonly path: string; readonly content: string | Uint8Array }[],
  options: DurableFileOptions,
): Promise<void> {
  for (const { path, content } of files) await writeWhole(path, content, options);
  for (const folder of new Set(files.map(({ path }) => dirname(path)))) await syncFolder(folder);
}

/** Does all but make the name durable. */
async function writeWhole(
  path: string,
  content: string | Uint8Array,
  options: DurableFileOptions,
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

/** Makes the folder at `path` and those above it, where they do not exist; an `Error` names the one it cannot make. */
export async function makeFolderDurably(path: string): Promise<void> {
  const made = await makeFolder(path);
  for (const folder of made) await syncFolder(dirname(folder));
  if (made.length > 0) await syncFolder(path);
}

/**
 * Does the same without waiting for the disk, and returns the folders that it made, from the top down.
 *
 * Node's own recursive `mkdir` asks again for ever where a folder that is there answers as one that is not, as those
 * in /proc do; and from its thread nothing can call it back.
 */
export async function makeFolder(path: string): Promise<readonly string[]> {
  const folder = resolve(path);
  const above = dirname(folder);
  try {
    return await makeOne(folder);
  } catch (thrown) {
    if (codeOfCause(thrown) !== 'ENOENT' || above === folder) throw thrown;
    return [...(await makeFolder(above)), ...(await makeOne(folder))];
  }
}

/** Makes the folder at `path` in one that exists, unless it is there. */
async function makeOne(path: string): Promise<readonly string[]> {
  try {
    await mkdir(path);
    return [path];
  } catch (cause) {
    const found = await stat(path).catch(() => undefined);
    if (found?.isDirectory() === true) return [];
    throw new Error(`cannot make the folder ${path}: ${messageOf(cause)}`, { cause });
  }
}

function codeOfCause(thrown: unknown): string | undefined {
  return thrown instanceof Error ? (thrown.cause as NodeJS.ErrnoException | undefined)?.code : undefined;
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

/** Does the same in this turn, for who holds a lock meanwhile. */
export function syncFolderSync(path: string): void {
  if (process.platform === 'win32') return;
  const folder = openSync(path, 'r');
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}
