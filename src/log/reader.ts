/**
 * Reads a log line by line, across its segments, and on as it grows.
 *
 * What is read was written by someone else: nothing here is parsed or believed. Lines are the bytes between
 * line feeds; blank ones are skipped but counted, so that numbers agree with an editor's. Memory is bounded by
 * the longest line.
 */
import { fstatSync, statSync } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { setTimeout as wait } from 'node:timers/promises';
import { messageOf, SwarmError } from '../base/errors.ts';
import { closedSegments, noLogAt } from './files.ts';
import { whileUnlocked } from './lock.ts';

/** Where a line stands. */
export interface Position {
  readonly file: string;
  /** Counted from 1, blank lines included. */
  readonly line: number;
  /** Bytes from the start of the file. */
  readonly offset: number;
}

export interface LogLine {
  readonly at: Position;
  /** Without the LF. */
  readonly bytes: Buffer;
  /** False for what stands after the last LF while nobody is writing: a writer died there. */
  readonly terminated: boolean;
}

export interface ReadOptions {
  /** Go on waiting for more until `signal` is aborted. @default false */
  readonly follow?: boolean;
  /** Start with the last `last` lines that the log holds now; 0 is after them. @default with the first */
  readonly last?: number;
  readonly signal?: AbortSignal;
}

const LF = 0x0a;
const chunkBytes = 1 << 20;
const pollMs = 100;

/**
 * Yields the lines of the log at `path`, one by one. Nothing is checked: `verifyRecord` takes a line's bytes,
 * `verifyLog` a whole log. See `readLines` for order, end and errors.
 */
export async function* readLog(path: string, options: ReadOptions = {}): AsyncGenerator<LogLine> {
  for await (const lines of readLines(path, options)) {
    for (const line of lines) {
      if (options.signal?.aborted === true) return;
      yield line;
    }
  }
}

/**
 * Yields the lines of the log at `path`, its closed segments first, in batches as they come off the disk.
 *
 * With `follow` the last batch is followed by what is written later. An aborted `signal` is the end in either case. Throws
 * `LOG_OPEN` if there is no log, or a file of it cannot be read.
 */
export async function* readLines(path: string, options: ReadOptions = {}): AsyncGenerator<LogLine[]> {
  const { follow = false, last, signal } = options;
  const done = new Set<bigint>();
  let start = last === undefined ? undefined : await startOfLast(path, last);
  for (;;) {
    const segment = await nextSegment(path, done);
    if (segment === undefined) {
      if (!follow && done.size === 0) throw noLogAt(path);
      start = undefined;
      if (!follow || !(await waited(signal))) return;
      continue;
    }
    try {
      const isLast = segment.file === path;
      const starts = segment.inode === start?.inode;
      if (start === undefined || starts || isLast) {
        const from = starts ? (start?.offset ?? 0) : 0;
        start = undefined;
        yield* readSegment(segment, { path, from, follow: follow && isLast, signal });
      }
      if (isLast && (!follow || signal?.aborted === true)) return;
      done.add(segment.inode);
    } catch (cause) {
      if (cause instanceof SwarmError) throw cause;
      throw new SwarmError('LOG_OPEN', `cannot read ${segment.file}: ${messageOf(cause)}`, { cause });
    } finally {
      await segment.handle.close();
    }
  }
}

/** A place in a segment that has, or had, that inode. */
interface Start {
  readonly inode: bigint;
  readonly offset: number;
}

/** Returns where the last `count` lines of the log begin; `undefined` where it has fewer. */
async function startOfLast(path: string, count: number): Promise<Start | undefined> {
  for (;;) {
    const files = [...listClosed(path), path];
    const start = await startIn(files, count);
    if (files.length === listClosed(path).length + 1) return start; // else a segment was closed meanwhile
  }
}

async function startIn(files: readonly string[], count: number): Promise<Start | undefined> {
  let missing = count;
  for (const file of files.toReversed()) {
    const segment = await openToRead(file);
    if (segment === undefined) continue;
    const { handle, inode } = segment;
    try {
      const { offset, lines } = await findLastLines(handle, missing);
      if (lines === missing) return { inode, offset };
      missing -= lines;
    } catch (cause) {
      throw new SwarmError('LOG_OPEN', `cannot read ${file}: ${messageOf(cause)}`, { cause });
    } finally {
      await handle.close();
    }
  }
  return undefined;
}

/** Reads a file backwards until it has seen `count` lines; returns how many it saw, and where the first begins. */
async function findLastLines(handle: FileHandle, count: number): Promise<{ offset: number; lines: number }> {
  let chunk = Buffer.allocUnsafe(64 * 1024); // and twice as much each time: few lines are near, many take few reads
  let position = (await handle.stat()).size;
  if (count === 0) return { offset: position, lines: 0 };
  let lines = 0;
  let inLine = false;
  while (position > 0) {
    const length = Math.min(chunk.length, position);
    position -= length;
    await handle.read(chunk, 0, length, position);
    for (let end = length; end > 0; ) {
      const lf = chunk.lastIndexOf(LF, end - 1);
      inLine ||= lf < end - 1;
      if (lf === -1) break;
      if (inLine) {
        lines += 1;
        if (lines === count) return { offset: position + lf + 1, lines };
        inLine = false;
      }
      end = lf;
    }
    if (chunk.length < chunkBytes) chunk = Buffer.allocUnsafe(2 * chunk.length);
  }
  return { offset: 0, lines: inLine ? lines + 1 : lines };
}

interface OpenSegment {
  readonly file: string;
  readonly handle: FileHandle;
  readonly inode: bigint;
}

/**
 * Opens the oldest segment that is not yet done. Segments are told apart by inode, since the growing one
 * changes its name when it is closed; and it counts only if no other was closed before we had it open.
 */
async function nextSegment(path: string, done: ReadonlySet<bigint>): Promise<OpenSegment | undefined> {
  for (;;) {
    for (const file of listClosed(path)) {
      const segment = await openToRead(file);
      if (segment !== undefined && !done.has(segment.inode)) return segment;
      await segment?.handle.close();
    }
    const growing = await openToRead(path);
    const closed = listClosed(path).map(
      (file) => statSync(file, { bigint: true, throwIfNoEntry: false })?.ino,
    );
    const isSeen = (inode: bigint | undefined): boolean =>
      inode === undefined || done.has(inode) || inode === growing?.inode; // or put away meanwhile
    if (closed.every(isSeen)) return growing;
    await growing?.handle.close();
  }
}

function listClosed(path: string): string[] {
  try {
    return closedSegments(path);
  } catch (cause) {
    throw noLogAt(path, cause);
  }
}

async function openToRead(file: string): Promise<OpenSegment | undefined> {
  try {
    const handle = await open(file, 'r');
    const facts = await handle.stat({ bigint: true });
    if (facts.isFile()) return { file, handle, inode: facts.ino };
    await handle.close();
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new SwarmError('LOG_OPEN', `cannot read the log ${file}: ${messageOf(cause)}`, { cause });
  }
  throw new SwarmError('LOG_OPEN', `cannot read the log ${file}: it is not a file`);
}

interface SegmentReading {
  /** The log's path, under which the growing segment stands. */
  readonly path: string;
  /** Lines that end before this offset are counted, not yielded. */
  readonly from: number;
  readonly follow: boolean;
  readonly signal: AbortSignal | undefined;
}

async function* readSegment(
  { file, handle }: OpenSegment,
  { path, from, follow, signal }: SegmentReading,
): AsyncGenerator<LogLine[]> {
  let line = 1;
  let offset = 0; // of the first byte of `rest`, which is what was read of a line so far
  let rest: Buffer[] = [];
  let restBytes = 0;
  let closed = false;
  while (signal?.aborted !== true) {
    const chunk = Buffer.allocUnsafe(chunkBytes); // a new one each time: the lines yielded are views of it
    const { bytesRead } = await handle.read(chunk, 0, chunkBytes, offset + restBytes);
    if (bytesRead > 0) {
      const end = chunk.lastIndexOf(LF, bytesRead - 1) + 1;
      if (end === 0) {
        rest.push(chunk.subarray(0, bytesRead));
        restBytes += bytesRead;
        continue;
      }
      const whole = Buffer.concat([...rest, chunk.subarray(0, end)]);
      const lines: LogLine[] = [];
      let start = 0;
      for (let lf = whole.indexOf(LF); lf !== -1; lf = whole.indexOf(LF, start)) {
        if (lf > start && offset + lf >= from) {
          lines.push({
            at: { file, line, offset: offset + start },
            bytes: whole.subarray(start, lf),
            terminated: true,
          });
        }
        line += 1;
        start = lf + 1;
      }
      if (lines.length > 0) yield lines;
      offset += whole.length;
      rest = end < bytesRead ? [chunk.subarray(end, bytesRead)] : [];
      restBytes = bytesRead - end;
    } else if (follow && !closed) {
      // Once another file stands at the path nothing more is written here; but a write may have come between
      // our last read and the closing, hence one more round.
      if ((await handle.stat()).size < offset + restBytes) {
        throw new SwarmError('LOG_OPEN', `${file} became shorter while it was read`);
      }
      closed = await isClosed(handle, path);
      if (!closed && !(await waited(signal))) return;
    } else if (restBytes === 0) {
      return;
    } else if (await whileUnlocked(path, () => fstatSync(handle.fd).size <= offset + restBytes)) {
      // A tail without LF may be a write in progress: it is one only while somebody holds the lock.
      yield [{ at: { file, line, offset }, bytes: Buffer.concat(rest), terminated: false }];
      return;
    }
  }
}

async function isClosed(handle: FileHandle, path: string): Promise<boolean> {
  const here = await handle.stat({ bigint: true });
  const there = await stat(path, { bigint: true }).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOENT') return undefined;
    throw cause;
  });
  return there?.ino !== here.ino;
}

/** Waits a moment; reports false if `signal` was aborted instead. */
async function waited(signal: AbortSignal | undefined): Promise<boolean> {
  try {
    await wait(pollMs, undefined, signal === undefined ? {} : { signal });
    return signal?.aborted !== true;
  } catch {
    return false;
  }
}
