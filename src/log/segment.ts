/**
 * The segment of a log that grows: opened, read at its end, and closed for good.
 *
 * What is written is decided in `writer.ts`. Every function that changes a file is called under the log's lock, and
 * rotation under that of the tree as well.
 */
import {
  closeSync,
  constants,
  fstatSync,
  openSync,
  readSync,
  renameSync,
  statfsSync,
  statSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { syncFolderSync } from '../base/durable.ts';
import { type Sha256Hex, zeroHash } from '../base/encoding.ts';
import { messageOf, SwarmError } from '../base/errors.ts';
import { leafOfLine } from '../record/entry.ts';
import { parseLine } from '../record/line.ts';
import { isVersion1 } from '../record/version1.ts';
import { closedSegments, isThere, nextClosedPath, treeFolderOf } from './files.ts';

const LF = 0x0a;
const brokenAtMost = 64;
const networkFileSystems = new Set([0x6969, 0x517b, 0xff534d42, 0xfe534d42]); // nfs, smb, cifs, smb2: statfs(2)

/** The end of a segment, as whoever writes next must know it. */
export interface Tail {
  /** Bytes in the file. */
  readonly size: number;
  /** Whether something stands after its last LF: a writer died while writing it. */
  readonly isTorn: boolean;
}

/** The segment that grows, open for appending. */
export class ActiveSegment {
  readonly path: string;
  readonly fd: number;
  readonly inode: bigint;

  private constructor(path: string, fd: number) {
    this.path = path;
    this.fd = fd;
    this.inode = fstatSync(fd, { bigint: true }).ino;
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
      syncFolderSync(dirname(path));
      return new ActiveSegment(path, fd);
    } catch (cause) {
      if (cause instanceof SwarmError) throw cause;
      throw new SwarmError('LOG_OPEN', `cannot open the log ${path}: ${messageOf(cause)}`, { cause });
    }
  }

  /** Reports whether the log's path still leads to this file: another writer may have closed the segment. */
  isCurrent(): boolean {
    return statSync(this.path, { bigint: true, throwIfNoEntry: false })?.ino === this.inode;
  }

  tail(): Tail {
    const { size } = fstatSync(this.fd);
    if (size === 0) return { size, isTorn: false };
    const last = Buffer.allocUnsafe(1);
    readSync(this.fd, last, 0, 1, size - 1);
    return { size, isTorn: last[0] !== LF };
  }

  /**
   * Returns what dead writers left at the end and no record names, oldest first, 64 at most: what no LF ends, and lines
   * that are no records. There is more than the one where a writer died in the middle of naming another's.
   */
  brokenTail(): Buffer[] {
    const { size, isTorn } = this.tail();
    const broken: Buffer[] = [];
    for (let end = size; broken.length < brokenAtMost; ) {
      const line = lineBefore(this.fd, end);
      if (line === undefined) break;
      const mayStand = !isTorn || end < size;
      if (mayStand && (parseLine(line.bytes).ok || isVersion1(line.bytes))) break;
      broken.unshift(line.bytes);
      end = line.start;
    }
    return broken;
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

  /**
   * Gives the segment the next number, and returns a new one in its place. The old file stays as it is. Its tree goes
   * first: a crash in between leaves a tree without a file, which `returnTree` finds.
   */
  rotate(): ActiveSegment {
    const closed = nextClosedPath(this.path);
    if (isThere(treeFolderOf(this.path))) renameSync(treeFolderOf(this.path), treeFolderOf(closed));
    renameSync(this.path, closed);
    return ActiveSegment.open(this.path);
  }

  /** Never throws: what was promised was synced before. */
  close(): void {
    try {
      closeSync(this.fd);
    } catch {}
  }
}

/** Returns the file's last line that is not blank, terminated or not, or `undefined` if there is none. */
export function lastLineOf(fd: number): Buffer | undefined {
  return lineBefore(fd, fstatSync(fd).size)?.bytes;
}

/** Returns the last line before `end` that is not blank, without its LF, and where it starts. */
export function lineBefore(
  fd: number,
  end: number,
): { readonly bytes: Buffer; readonly start: number } | undefined {
  const byte = Buffer.allocUnsafe(1);
  while (end > 0 && readSync(fd, byte, 0, 1, end - 1) === 1 && byte[0] === LF) end -= 1;
  if (end === 0) return undefined;
  for (let span = 16 * 1024; ; span *= 8) {
    const from = Math.max(0, end - span);
    const bytes = Buffer.allocUnsafe(end - from);
    if (readSync(fd, bytes, 0, bytes.length, from) < bytes.length) return undefined; // it became shorter
    const lf = bytes.lastIndexOf(LF);
    if (lf !== -1 || from === 0) return { bytes: bytes.subarray(lf + 1), start: from + lf + 1 };
  }
}
