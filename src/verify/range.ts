/**
 * The lines that begin in a range of a file, each examined by itself. Ranges can be taken in any order, by any thread:
 * a line belongs to the range in which its first byte stands, however far it goes.
 */
import { createHash } from 'node:crypto';
import { readSync } from 'node:fs';
import { sha256Hex } from '../base/encoding.ts';
import { entryOfLine } from '../record/entry.ts';
import { type Batch, BatchWriter } from './batch.ts';
import { type ExamineOptions, examineLine } from './examine.ts';

export interface Range {
  /** The file, open for reading in this process. */
  readonly fd: number;
  readonly start: number;
  readonly end: number;
  /** How much of the file counts; what is written behind it does not. */
  readonly fileEnd: number;
}

const LF = 0x0a;
const chunkBytes = 1 << 20;
/** More than the longest record takes: a payload of 64 MiB in base64. */
const lineBytes = 96 << 20;

/** Examines the lines that begin in `range`. Throws the system's own errors. */
export function examineRange({ fd, start, end, fileEnd }: Range, options: ExamineOptions): Batch {
  const batch = new BatchWriter();
  const first = start === 0 ? 0 : start - 1; // the byte before says whether a line begins at `start`
  let bytes = readInto(fd, first, end);
  let at = 0;
  if (start > 0) at = bytes.length === 0 ? 0 : bytes.indexOf(LF) + 1;
  let lines = 0;
  let openAt: number | undefined;
  if (start > 0 && at === 0) return batch.end({ lines, bytes: end - start, openAt }); // no line begins here
  while (first + at < end) {
    let lf = bytes.indexOf(LF, at);
    if (lf === -1) {
      const rest = restOfLine(fd, { lineStart: first + at, from: first + bytes.length }, fileEnd);
      if (rest === undefined) {
        openAt = first + at;
        break;
      }
      if (rest === 'too long') {
        const lineEnd = examineLongLine(fd, { line: lines, offset: first + at }, fileEnd, batch);
        if (lineEnd === undefined) openAt = first + at;
        else lines += 1;
        break; // whatever follows begins behind the range
      }
      bytes = Buffer.concat([bytes, rest]);
      lf = bytes.length - 1;
    }
    if (lf > at) {
      examineLine(bytes.subarray(at, lf), { line: lines, offset: first + at }, batch, options);
    }
    lines += 1;
    at = lf + 1;
  }
  return batch.end({ lines, bytes: end - start, openAt });
}

/** Returns what follows `from` up to and with the next LF, or `undefined` if none comes before `fileEnd`. */
function restOfLine(
  fd: number,
  { lineStart, from }: { readonly lineStart: number; readonly from: number },
  fileEnd: number,
): Buffer | 'too long' | undefined {
  const chunks: Buffer[] = [];
  for (let at = from; at < fileEnd; ) {
    if (at - lineStart > lineBytes) return 'too long';
    const chunk = readBytes(fd, at, Math.min(fileEnd, at + chunkBytes));
    const lf = chunk.indexOf(LF);
    if (lf !== -1) return Buffer.concat([...chunks, chunk.subarray(0, lf + 1)]);
    chunks.push(chunk);
    at += chunk.length;
  }
  return undefined;
}

/**
 * Examines a line that is longer than any record's, without keeping it; returns where it ends, after its LF, or
 * `undefined` if it has none before `fileEnd`.
 */
function examineLongLine(
  fd: number,
  place: { readonly line: number; readonly offset: number },
  fileEnd: number,
  batch: BatchWriter,
): number | undefined {
  const hash = createHash('sha256');
  for (let at = place.offset; at < fileEnd; ) {
    const chunk = readBytes(fd, at, Math.min(fileEnd, at + chunkBytes));
    const lf = chunk.indexOf(LF);
    hash.update(lf === -1 ? chunk : chunk.subarray(0, lf));
    at += chunk.length;
    if (lf === -1) continue;
    const whole = hash.digest();
    const head = entryOfLine(readBytes(fd, place.offset, place.offset + chunkBytes));
    // A header that is whole is the entry, as of any line; else the hash of all of it is.
    const entry = head.length === whole.length ? whole : head;
    batch.begin(sha256Hex(Buffer.concat([Buffer.of(0), entry])), place);
    batch.setKind('malformed');
    batch.fault('malformed', `the line is longer than any record's, over ${lineBytes >> 20} MiB`);
    batch.setBytesHash(whole.toString('hex'));
    return at - chunk.length + lf + 1;
  }
  return undefined;
}

/** What a range is read into. Nothing of one is needed when the next is read: a batch holds no views of it. */
let space = Buffer.alloc(0);

function readInto(fd: number, start: number, end: number): Buffer {
  if (space.length < end - start) space = Buffer.allocUnsafeSlow(end - start);
  return fill(space.subarray(0, end - start), fd, start);
}

function readBytes(fd: number, start: number, end: number): Buffer {
  return fill(Buffer.allocUnsafe(end - start), fd, start);
}

/** Fills `bytes` with those of the file from `start` on. */
function fill(bytes: Buffer, fd: number, start: number): Buffer {
  for (let read = 0; read < bytes.length; ) {
    const count = readSync(fd, bytes, read, bytes.length - read, start + read);
    if (count === 0) throw new Error('the file became shorter while it was read');
    read += count;
  }
  return bytes;
}
