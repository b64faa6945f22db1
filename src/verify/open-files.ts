/**
 * The files of a log in the order in which they were written, while writers may be closing segments.
 */
import { closeSync, fstatSync, openSync, statSync } from 'node:fs';
import { messageOf, SwarmError } from '../base/errors.ts';
import { closedSegments, logFiles } from '../log/files.ts';

export interface OpenFile {
  readonly file: string;
  readonly fd: number;
  readonly inode: bigint;
}

/**
 * Opens the oldest file of the log that is not yet done. Files are told apart by inode, since the growing one changes its
 * name when it is closed; and it counts only if no other was closed before we had it open.
 */
export function openNext(path: string, done: ReadonlySet<bigint>): OpenFile {
  for (;;) {
    for (const file of logFiles(path)) {
      const opened = openToRead(file);
      if (opened === undefined) continue; // closed meanwhile, under another name
      const isNext =
        !done.has(opened.inode) &&
        (file !== path || closedSegments(path).every((closed) => done.has(inodeOf(closed))));
      if (isNext) return opened;
      closeSync(opened.fd);
    }
    // All that was there is done, but for the growing one, which was closed before it was opened: once more.
  }
}

function openToRead(file: string): OpenFile | undefined {
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

function inodeOf(file: string): bigint {
  return statSync(file, { bigint: true }).ino;
}
