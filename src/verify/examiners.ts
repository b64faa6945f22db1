/**
 * Examines the ranges of a file on all cores, and gives back what they say in the file's order.
 *
 * A small file is examined here, in this thread; of a large one each thread takes the next range when it is done with
 * one. However many there are, only so many ranges are in memory. A thread that dies is an error, never an answer.
 */
import { Worker } from 'node:worker_threads';
import { nextTurn } from '../base/real-timers.ts';
import type { Batch } from './batch.ts';
import type { ExamineOptions } from './examine.ts';
import { examineRange, type Range } from './range.ts';

const rangeBytes = 2 << 20;
const smallRangeBytes = 1 << 20;
/** What a thread makes of a range is short-lived: more room would only put off its collection. */
const resourceLimits = { maxYoungGenerationSizeMb: 4 };
/** Starting a thread costs as much as examining some megabytes. */
const smallLogBytes = 16 << 20;

interface Thread {
  readonly worker: Worker;
  busy: { resolve(batch: Batch): void; reject(cause: unknown): void } | undefined;
}

export class Examiners implements AsyncDisposable {
  readonly #options: ExamineOptions;
  readonly #threads: Thread[];
  #failure: unknown;

  /** Threads for a log of `totalBytes`: `jobs` of them, or none if that is 1 or the log small. */
  constructor(options: ExamineOptions, totalBytes: number, jobs: number) {
    this.#options = options;
    const count = jobs <= 1 || totalBytes < smallLogBytes ? 0 : jobs;
    this.#threads = Array.from({ length: count }, () => this.#start());
  }

  /** Yields what the lines of the open file say that begin between `start` and `fileEnd`, range by range. */
  async *examine(fd: number, start: number, fileEnd: number): AsyncGenerator<Batch> {
    const size = this.#threads.length === 0 ? smallRangeBytes : rangeBytes;
    const pending: Promise<Batch>[] = [];
    for (let at = start; at < fileEnd || pending.length > 0; ) {
      while (at < fileEnd && pending.length < Math.max(1, this.#threads.length)) {
        const end = Math.min(fileEnd, at + size);
        const batch = this.#examine({ fd, start: at, end, fileEnd });
        batch.catch(() => undefined); // whoever awaits it hears of it, if anybody still does
        pending.push(batch);
        at = end;
      }
      const batch = await pending.shift();
      if (batch !== undefined) yield batch;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#threads.map(({ worker }) => worker.terminate()));
  }

  async #examine(range: Range): Promise<Batch> {
    if (this.#failure !== undefined) throw this.#failure;
    const idle = this.#threads.find(({ busy }) => busy === undefined);
    if (idle === undefined) {
      await nextTurn(); // let others have theirs
      return examineRange(range, this.#options);
    }
    return new Promise((resolve, reject) => {
      idle.busy = { resolve, reject };
      idle.worker.postMessage(range);
    });
  }

  #start(): Thread {
    const worker = startWorker(this.#options);
    const thread: Thread = { worker, busy: undefined };
    const fail = (cause: unknown): void => {
      this.#failure ??= cause;
      thread.busy?.reject(cause);
      thread.busy = undefined;
    };
    worker.on('message', (batch: Batch) => {
      const done = thread.busy;
      thread.busy = undefined;
      const { buffer, byteOffset, byteLength } = batch.entries;
      done?.resolve({ ...batch, entries: Buffer.from(buffer, byteOffset, byteLength) });
    });
    worker.on('error', fail);
    worker.on('exit', () => fail(new Error('a thread that was verifying the log ended')));
    return thread;
  }
}

function startWorker(workerData: ExamineOptions): Worker {
  if (import.meta.url.endsWith('.js'))
    return new Worker(new URL('./worker.js', import.meta.url), { workerData, resourceLimits });
  // From the sources, as tests run them: a thread does not take over what reads TypeScript in this one.
  const source = JSON.stringify(new URL('./worker.ts', import.meta.url).href);
  const start = `import('tsx/esm/api').then(({ register }) => (register(), import(${source})))`;
  return new Worker(start, { eval: true, workerData, resourceLimits });
}
