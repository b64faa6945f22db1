/**
 * A bar on stderr for what takes long, where a person watches it.
 */
import type { Output } from './output.ts';

export interface Progress extends Disposable {
  update(bytes: number): void;
}

const MiB = 1 << 20;
const longBytes = 32 * MiB;

/** Returns a bar of `totalBytes`, or something as silent where nobody watches or it would be over at once. */
export async function progressOf(totalBytes: number, out: Output): Promise<Progress> {
  if (!out.isWatched || totalBytes <= longBytes) return { update: () => {}, [Symbol.dispose]: () => {} };
  const { SingleBar } = await import('cli-progress');
  const bar = new SingleBar({
    format: '[{bar}] {percentage}%  {value} of {total} MiB  {eta_formatted} to go',
    stream: process.stderr,
    clearOnComplete: true,
    etaBuffer: 50,
  });
  bar.start(Math.round(totalBytes / MiB), 0);
  return {
    update: (bytes) => bar.update(Math.round(bytes / MiB)),
    [Symbol.dispose]: () => bar.stop(),
  };
}

export interface Count extends Disposable {
  update(count: number, total: number): void;
}

/** Returns a bar of so many `things`, or something as silent where nobody watches. */
export async function countOf(things: string, out: Output): Promise<Count> {
  if (!out.isWatched) return { update: () => {}, [Symbol.dispose]: () => {} };
  const { SingleBar } = await import('cli-progress');
  const bar = new SingleBar({
    format: `[{bar}] {percentage}%  {value} of {total} ${things}  {duration_formatted}`,
    stream: process.stderr,
    clearOnComplete: true,
  });
  let isStarted = false;
  return {
    update: (count, total) => {
      if (isStarted) bar.update(count);
      else bar.start(total, count);
      isStarted = true;
    },
    [Symbol.dispose]: () => bar.stop(),
  };
}
