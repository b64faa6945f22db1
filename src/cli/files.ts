/**
 * Files that a person named: read and written whole, and the error says which and why not; and how large a log is.
 */
import { statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { buffer } from 'node:stream/consumers';
import { writeFileDurably } from '../base/durable.ts';
import { messageOf, SwarmError } from '../base/errors.ts';
import { logFiles } from '../log/files.ts';

/** Returns the bytes of the file at `path`, or of stdin for `-`; throws `FILE_FAILED`. */
export async function readNamedFile(path: string): Promise<Buffer> {
  try {
    return path === '-' ? await buffer(process.stdin) : await readFile(path);
  } catch (cause) {
    throw new SwarmError('FILE_FAILED', `cannot read ${path}: ${messageOf(cause)}`, { cause });
  }
}

/** Writes `text` to the file at `path`, in a folder that exists; throws `FILE_FAILED`. */
export async function writeNamedFile(path: string, text: string): Promise<void> {
  try {
    await writeFileDurably(path, text);
  } catch (cause) {
    throw new SwarmError('FILE_FAILED', `cannot write ${path}: ${messageOf(cause)}`, { cause });
  }
}

/** Returns the size of the log at `path` in bytes; throws `LOG_OPEN` if there is none. */
export function sizeOf(path: string): number {
  const sizes = logFiles(path).map((file) => statSync(file, { throwIfNoEntry: false })?.size ?? 0);
  return sizes.reduce((sum, size) => sum + size, 0);
}
