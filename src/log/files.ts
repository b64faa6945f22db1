/**
 * The files of a log: one that grows, `swarm.jsonl`, and closed ones before it, `swarm.000001.jsonl` on, each with its
 * tree beside it, `swarm.tlog/` and `swarm.000001.tlog/`.
 *
 * A closed segment never changes again. Names and order are decided here, and nowhere else.
 */
import { readdirSync, statSync } from 'node:fs';
import { basename, dirname, extname, join } from 'node:path';
import { messageOf, SwarmError } from '../base/errors.ts';

const treeExtension = '.tlog';

/** Returns the paths of the closed segments of the log at `path`, oldest first. */
export function closedSegments(path: string): string[] {
  return numbered(path, extname(path)).map(({ file }) => file);
}

/** Returns the paths of all files of the log at `path`, oldest first; throws `LOG_OPEN` if there is none. */
export function logFiles(path: string): string[] {
  try {
    const files = isThere(path) ? [...closedSegments(path), path] : closedSegments(path);
    if (files.length > 0) return files;
  } catch (cause) {
    throw noLogAt(path, cause);
  }
  throw noLogAt(path);
}

/** Returns the error that there is no log at `path`, with what else the system says of it. */
export function noLogAt(path: string, cause?: unknown): SwarmError {
  const why = cause === undefined ? '' : ` (${messageOf(cause)})`;
  const wayOut =
    'name one that there is (LOG, or SWARM_LOG), or write one: `swarm demo` does, and every agent';
  return new SwarmError('LOG_OPEN', `there is no log at ${path}${why}; ${wayOut}`, { cause });
}

/**
 * Returns where the file of the log at `path` with that inode stands now, once found at `file`: a segment changes its name
 * when it is closed.
 */
export function fileOfInode(path: string, inode: bigint, file: string): string | undefined {
  const isIt = (there: string): boolean =>
    statSync(there, { bigint: true, throwIfNoEntry: false })?.ino === inode;
  return isIt(file) ? file : closedSegments(path).findLast(isIt);
}

/** Returns the folder of the tree of `file`, a segment that grows or is closed. */
export function treeFolderOf(file: string): string {
  const extension = extname(file);
  const isName = extension === treeExtension || /^\.\d{6,}$/.test(extension); // a log needs no extension
  return isName ? file + treeExtension : file.slice(0, file.length - extension.length) + treeExtension;
}

/** Returns the name of the log at `path` as its checkpoints have it: no space, no plus, no slash. */
export function logName(path: string): string {
  return stemOf(path).replace(/[^A-Za-z0-9_.-]/g, '_') || '_';
}

/** Returns the path under which the growing segment is closed next. Numbers of trees whose file is gone are not used again. */
export function nextClosedPath(path: string): string {
  const used = [...numbered(path, extname(path)), ...numbered(path, treeExtension)];
  const number = Math.max(0, ...used.map((file) => file.number)) + 1;
  return join(dirname(path), `${stemOf(path)}.${String(number).padStart(6, '0')}${extname(path)}`);
}

/**
 * Returns the folder of a tree without a file that a rotation of the log at `path` took for the next closed segment, and
 * died before it took the segment; `undefined` if none stands there. Whose tree it is its checkpoint says.
 */
export function takenTree(path: string): string | undefined {
  if (isThere(treeFolderOf(path)) || !isThere(path)) return undefined;
  const lastClosed = numbered(path, extname(path)).at(-1)?.number ?? 0;
  const taken = numbered(path, treeExtension).at(-1);
  return taken !== undefined && taken.number > lastClosed ? taken.file : undefined;
}

/** Reports whether anything stands at `path`; throws the system's own errors where it does not say, as a failing disk. */
export function isThere(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false }) !== undefined;
}

/** Returns what stands beside `path` under its name, a number and `extension`, by number. */
function numbered(path: string, extension: string): { readonly file: string; readonly number: number }[] {
  const folder = dirname(path);
  if (!isThere(folder)) return [];
  const name = new RegExp(`^${escapeRegExp(stemOf(path))}\\.(\\d{6,})${escapeRegExp(extension)}$`);
  return readdirSync(folder)
    .flatMap((entry) => {
      const number = name.exec(entry)?.[1];
      return number === undefined ? [] : [{ file: join(folder, entry), number: Number(number) }];
    })
    .sort((a, b) => a.number - b.number);
}

function stemOf(path: string): string {
  return basename(path, extname(path));
}

function escapeRegExp(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}
