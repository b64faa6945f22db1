/** A thread that examines ranges of a log, one after the other, until its port is closed. */
import { parentPort, workerData } from 'node:worker_threads';
import type { ExamineOptions } from './examine.ts';
import { examineRange, type Range } from './range.ts';

parentPort?.on('message', (range: Range) => {
  const batch = examineRange(range, workerData as ExamineOptions);
  parentPort?.postMessage(batch, [batch.entries.buffer as ArrayBuffer]); // given away, not copied
});
