import { appendFileSync, copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SigningKey } from '../../src/identity/key.ts';
import { Keyring } from '../../src/identity/keyring.ts';
import { closedSegments } from '../../src/log/files.ts';
import { openLog } from '../../src/log/writer.ts';
import { leafOfLine } from '../../src/record/entry.ts';
import { parseLine, printLine } from '../../src/record/line.ts';
import { openTimeline, timeline } from '../../src/replay/timeline.ts';
import { histories, kahn, writeLogs } from '../support/histories.ts';
import { linesOf, logOf, said, temporaryFolder } from '../support/log.ts';

/** Runs spill to disk at once: 20 records are more than fits. */
const memoryBytes = 4_000;

async function leavesOf(logs: readonly string[], options = {}): Promise<string[]> {
  const leaves: string[] = [];
  for await (const { leaf } of timeline(logs, options)) leaves.push(leaf);
  return leaves;
}

async function inFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'can-swarm-test-'));
  try {
    await use(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

describe('the order', () => {
  test('is that of Kahn over causes, refs and sessions, by whichever files the records are in, in whichever order', async () => {
    const layouts = fc.record({
      /** Which log each session is in. */
      logOf: fc.array(fc.nat(4), { minLength: 5, maxLength: 5 }),
      /** In which order records of several sessions came into one log: shuffled, but for a session's own order. */
      shuffle: fc.array(fc.nat(4), { maxLength: 40 }),
      reversed: fc.boolean(),
      copied: fc.boolean(),
    });
    let waited = 0;
    await fc.assert(
      fc.asyncProperty(histories(), layouts, async ({ records, sessions }, layout) => {
        const wanted = kahn(records).map(({ leaf }) => leaf);
        const byTime = records.toSorted((a, b) => (a.header.tsNs < b.header.tsNs ? -1 : 1));
        if (byTime.some(({ leaf }, index) => leaf !== wanted[index])) waited += 1;
        await inFolder(async (folder) => {
          const logs = Array.from({ length: 5 }, (_, log) => {
            const left = sessions
              .filter((_, session) => layout.logOf[session] === log)
              .map((own) => [...own]);
            const lines = layout.shuffle.flatMap(
              (n) => left[n % Math.max(1, left.length)]?.splice(0, 1) ?? [],
            );
            return [...lines, ...left.flat()];
          });
          const paths = writeLogs(folder, logs);
          if (layout.reversed) paths.reverse();
          if (layout.copied && paths[0] !== undefined) {
            copyFileSync(paths[0], join(folder, 'copy.jsonl'));
            paths.push(join(folder, 'copy.jsonl'), paths[0]);
          }
          expect(await leavesOf(paths, { memoryBytes })).toEqual(wanted);
        });
      }),
      { numRuns: 150 },
    );
    expect(waited).toBeGreaterThan(20); // else the clocks never disagreed with the causes
  });

  test('names cause and refs by their places', async () => {
    await fc.assert(
      fc.asyncProperty(histories(20), async ({ records }) => {
        await inFolder(async (folder) => {
          const order = kahn(records);
          const placeOf = (leaf: string): number => order.findIndex((record) => record.leaf === leaf);
          const [path] = writeLogs(folder, [records]);
          if (path === undefined) return;
          using opened = await openTimeline([path], { memoryBytes });
          expect(opened.size).toBe(records.length);
          const places = Array.from(opened.places(), ({ index, cause, refs }) => ({ index, cause, refs }));
          expect(places).toEqual(
            order.map(({ header: { cause, refs = [] } }, index) => ({
              index,
              cause: cause === undefined ? undefined : placeOf(cause),
              refs: expect.toSatisfy((found: number[]) => found.join() === refs.map(placeOf).join()),
            })),
          );
        });
      }),
      { numRuns: 40 },
    );
  });
});
