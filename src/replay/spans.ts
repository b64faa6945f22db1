/**
 * Many parts of files read at once: those that stand near each other with one call.
 */
import { read } from 'node:fs';
import { promisify } from 'node:util';

const readAsync = promisify(read);

export interface Span {
  readonly fd: number;
  readonly offset: number;
  readonly length: number;
}

/** What is read for nothing between two parts, rather than asking twice. */
const gapBytes = 32 << 10;
const atOnceBytes = 4 << 20;

/** Returns the bytes of `spans`, in their order; one that its file does not reach is cut off. Throws the system's own errors. */
export async function readSpans(spans: readonly Span[]): Promise<Buffer[]> {
  const order = [...spans.keys()].sort((one, other) => {
    const [a, b] = [spans[one] as Span, spans[other] as Span];
    return a.fd - b.fd || a.offset - b.offset;
  });
  const parts = new Array<Buffer>(spans.length);
  for (let first = 0; first < order.length; ) {
    const { fd, offset: start, length } = spans[order[first] as number] as Span;
    let end = start + length;
    let next = first + 1;
    for (; next < order.length; next += 1) {
      const span = spans[order[next] as number] as Span;
      const newEnd = Math.max(end, span.offset + span.length);
      if (span.fd !== fd || span.offset > end + gapBytes || newEnd - start > atOnceBytes) break;
      end = newEnd;
    }
    const bytes = await readWhole(fd, start, end - start);
    for (; first < next; first += 1) {
      const index = order[first] as number;
      const { offset, length: size } = spans[index] as Span;
      parts[index] = bytes.subarray(offset - start, offset - start + size);
    }
  }
  return parts;
}

async function readWhole(fd: number, start: number, length: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(length);
  for (let filled = 0; filled < length; ) {
    const { bytesRead } = await readAsync(fd, bytes, filled, length - filled, start + filled);
    if (bytesRead === 0) return bytes.subarray(0, filled);
    filled += bytesRead;
  }
  return bytes;
}
