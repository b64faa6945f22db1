/** A thread that examines ranges of a log, one after the other, until its port is closed. */
import { parentPort, workerData } from 'node:worker_threads';
import type { ExamineOptions } from './examine.ts';
import { examineRange, type Range } from './range.ts';

parentPort?.on('message', (range: Range) => {
  const batch = examineRange(range, workerData as ExamineOptions);
  // The entries are the buffer's own, and are given away with it.
  const entries = new Uint8Array(batch.entries);
  parentPort?.postMessage({ ...batch, entries }, [entries.buffer]);
});
