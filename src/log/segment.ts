/**
 * The files of a log: one that grows, `swarm.jsonl`, and closed ones before it, `swarm.000001.jsonl` on.
 *
 * A closed segment never changes again. Names and order are decided here; what is written, in `writer.ts`.
 * Every function that changes a file is called under the log's lock.
 */
import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  fsyncSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  statfsSync,
  statSync,
} from 'node:fs';
import { basename, dirname, extname, join } from 'node:path';
import { type Sha256Hex, zeroHash } from '../base/encoding.ts';
import { messageOf, SwarmError } from '../base/errors.ts';
import { leafOfLine } from '../record/entry.ts';

const LF = 0x0a;
const networkFileSystems = new Set([0x6969, 0x517b, 0xff534d42, 0xfe534d42]); // nfs, smb, cifs, smb2: statfs(2)

/** The end of a segment, as whoever writes next must know it. */
export interface Tail {
  /** Bytes in the file. */
  readonly size: number;
  /** What stands after the last LF, if anything: a writer died while writing it. */
  readonly torn: Buffer | undefined;
}

/** The segment that grows, open for appending. */
export class ActiveSegment {
  readonly path: string;
  readonly fd: number;
  readonly #inode: bigint;

  private constructor(path: string, fd: number) {
    this.path = path;
    this.fd = fd;
    this.#inode = fstatSync(fd, { bigint: true }).ino;
  }

  /** Opens the segment at `path`, making it if need be, in a folder that exists; throws `LOG_OPEN`. */
  static open(path: string): ActiveSegment {
    try {
      if (networkFileSystems.has(statfsSync(dirname(path)).type)) {
        throw new SwarmError(
          'LOG_OPEN',
          `${path} is on a network file system, where appends of several writers can overwrite each other; put the log on a local disk`,
        );
      }
      const fd = openSync(path, constants.O_RDWR | constants.O_APPEND | constants.O_CREAT, 0o666);
      syncFolderOf(path);
      return new ActiveSegment(path, fd);
    } catch (cause) {
      if (cause instanceof SwarmError) throw cause;
      throw new SwarmError('LOG_OPEN', `cannot open the log ${path}: ${messageOf(cause)}`, { cause });
    }
  }

  /** Reports whether the log's path still leads to this file: another writer may have closed the segment. */
  isCurrent(): boolean {
    return statSync(this.path, { bigint: true, throwIfNoEntry: false })?.ino === this.#inode;
  }

  tail(): Tail {
    return tailOf(this.fd);
  }

  /** Returns what a session that begins here names as `prev`: the leaf of the log's last line, or zeros. */
  lastLeaf(): Sha256Hex {
    const here = lastLineOf(this.fd);
    if (here !== undefined) return leafOfLine(here);
    const before = closedSegments(this.path).at(-1);
    if (before === undefined) return zeroHash;
    const fd = openSync(before, 'r');
    try {
      const line = lastLineOf(fd);
      return line === undefined ? zeroHash : leafOfLine(line);
    } finally {
      closeSync(fd);
    }
  }

  /** Closes the segment under the next number and returns a new one in its place. The old file stays as it is. */
  rotate(): ActiveSegment {
    const number = (closedSegments(this.path).map(numberOf).at(-1) ?? 0) + 1;
    renameSync(this.path, closedPath(this.path, number));
    return ActiveSegment.open(this.path);
  }

  close(): void {
    closeSync(this.fd);
  }
}

/** Returns the paths of the closed segments of the log at `path`, oldest first. */
export function closedSegments(path: string): string[] {
  const { stem, extension } = partsOf(path);
  const name = new RegExp(`^${escapeRegExp(stem)}\\.(\\d{6,})${escapeRegExp(extension)}$`);
  if (!existsSync(dirname(path))) return [];
  return readdirSync(dirname(path))
    .filter((entry) => name.test(entry))
    .map((entry) => join(dirname(path), entry))
    .sort((a, b) => numberOf(a) - numberOf(b));
}

/** Returns the paths of all files of the log at `path`, oldest first; throws `LOG_OPEN` if there is none. */
export function logFiles(path: string): string[] {
  try {
    const files = existsSync(path) ? [...closedSegments(path), path] : closedSegments(path);
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

function closedPath(path: string, number: number): string {
  const { stem, extension } = partsOf(path);
  return join(dirname(path), `${stem}.${String(number).padStart(6, '0')}${extension}`);
}

function numberOf(segmentPath: string): number {
  return Number(/\.(\d{6,})(?:\.[^.]*)?$/.exec(segmentPath)?.[1]);
}

function partsOf(path: string): { stem: string; extension: string } {
  const extension = extname(path);
  return { stem: basename(path, extension), extension };
}

function escapeRegExp(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}

/** Returns the file's size and what stands after its last LF. */
export function tailOf(fd: number): Tail {
  const size = fstatSync(fd).size;
  if (size === 0) return { size, torn: undefined };
  const last = Buffer.allocUnsafe(1);
  readSync(fd, last, 0, 1, size - 1);
  return { size, torn: last[0] === LF ? undefined : readBackwards(fd, size) };
}

/** Returns the file's last line that is not blank, terminated or not, or `undefined` if there is none. */
function lastLineOf(fd: number): Buffer | undefined {
  let end = fstatSync(fd).size;
  const byte = Buffer.allocUnsafe(1);
  while (end > 0 && readSync(fd, byte, 0, 1, end - 1) === 1 && byte[0] === LF) end -= 1;
  return end === 0 ? undefined : readBackwards(fd, end);
}

/** Returns the bytes from after the last LF before `end`, to `end`. */
function readBackwards(fd: number, end: number): Buffer {
  for (let span = 64 * 1024; ; span *= 8) {
    const start = Math.max(0, end - span);
    const bytes = Buffer.allocUnsafe(end - start);
    readSync(fd, bytes, 0, bytes.length, start);
    const lf = bytes.lastIndexOf(LF);
    if (lf !== -1) return bytes.subarray(lf + 1);
    if (start === 0) return bytes;
  }
}

function syncFolderOf(path: string): void {
  if (process.platform === 'win32') return; // folders cannot be opened there, and NTFS journals names
  const fd = openSync(dirname(path), 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
