/**
 * The files of a log, opened one after the other, oldest first, while a writer may be closing segments.
 */
import { closeSync, existsSync, fstatSync, openSync, statSync } from 'node:fs';
import { messageOf, SwarmError } from '../base/errors.ts';
import { closedSegments, logFiles } from '../log/files.ts';

export interface OpenFile {
  readonly file: string;
  readonly fd: number;
  readonly inode: bigint;
  /** Whether no other file of the log comes after it. */
  readonly isLast: boolean;
}

/**
 * Opens the oldest file of the log at `path` that is not yet done. Files are told apart by inode, since the growing one
 * changes its name when it is closed; and it counts only if no other was closed before we had it open. Returns `undefined` where none
 * is left; throws `LOG_OPEN`.
 */
export function openNext(path: string, done: ReadonlySet<bigint>): OpenFile | undefined {
  for (;;) {
    for (const file of logFiles(path)) {
      const opened = openToRead(file);
      if (opened === undefined) continue; // closed meanwhile, under another name
      const isNext =
        !done.has(opened.inode) &&
        (file !== path || closedSegments(path).every((closed) => isDone(closed, done)));
      if (isNext) {
        const last = existsSync(path) ? path : closedSegments(path).at(-1);
        return { ...opened, isLast: file === last };
      }
      closeSync(opened.fd);
    }
    const growing = statSync(path, { bigint: true, throwIfNoEntry: false })?.ino;
    if (growing === undefined || done.has(growing)) return undefined; // moved away meanwhile: there is no more
    // The growing one was closed before it was opened: once more.
  }
}

function openToRead(file: string): Omit<OpenFile, 'isLast'> | undefined {
  let fd: number;
  try {
    fd = openSync(file, 'r');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new SwarmError('LOG_OPEN', `cannot read the log ${file}: ${messageOf(cause)}`, { cause });
  }
  const facts = fstatSync(fd, { bigint: true });
  if (facts.isFile()) return { file, fd, inode: facts.ino };
  closeSync(fd);
  throw new SwarmError('LOG_OPEN', `cannot read the log ${file}: it is not a file`);
}

function isDone(file: string, done: ReadonlySet<bigint>): boolean {
  const facts = statSync(file, { bigint: true, throwIfNoEntry: false });
  return facts === undefined || done.has(facts.ino); // what was put away meanwhile is not waited for
}
