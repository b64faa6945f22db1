/**
 * Small files that are whole and on disk when the promise resolves, whatever crashes in between.
 *
 * The bytes go to a temporary file in the same folder, are fsynced, take the name in one step, and the
 * folder is fsynced, because a name is the folder's content, not the file's. A reader sees the old file or
 * the new one, never a part. A crash can leave the temporary file behind (`<path>.<16 hex digits>.tmp`), and
 * nothing worse. Failures are the system's own errors; who calls knows what to say about them.
 */
import { randomBytes } from 'node:crypto';
import { link, mkdir, open, rename, unlink } from 'node:fs/promises';
import { dirname, join, relative, resolve, sep } from 'node:path';

export interface DurableFileOptions {
  /** Permissions of the file, from which the umask takes away. */
  readonly mode: number;
  /** Fail with `EEXIST` where the name is taken; of many at once, one succeeds. @default false */
  readonly exclusive?: boolean;
}

/** Writes a file of exactly `content` to `path`, in place of what may be there, in a folder that exists. */
export async function writeFileDurably(
  path: string,
  content: string | Uint8Array,
  options: DurableFileOptions,
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
    const file = await open(temporary, 'wx', options.mode);
    try {
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
