/** A log that is verified while it is written, sealed and closed segment by segment. */
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { sealFailed } from '../../src/base/events.ts';
import { SigningKey } from '../../src/identity/key.ts';
import { closedSegments } from '../../src/log/files.ts';
import { openLog } from '../../src/log/writer.ts';
import { verifyLog } from '../../src/verify/verify.ts';
import { keyringOf, sealOptions } from '../log/sealed.ts';
import { said, temporaryFolder } from '../support/log.ts';

test.each([
  ['all of it', false],
  ['what is new', true],
])(
  'verifying %s meanwhile finds nothing',
  async (_, isIncremental) => {
    const path = join(temporaryFolder(), 'swarm.jsonl');
    const [planner, listener] = [SigningKey.generate(), SigningKey.generate()];
    const keyring = keyringOf({ planner, listener });
    const failures: string[] = [];
    onTestFinished(
      sealFailed.subscribe(({ log, error }) => void (log === path && failures.push(error.message))),
    );
    const stop = new AbortController();
    const logs = await Promise.all(
      [planner, listener].map((key) =>
        openLog(path, {
          key,
          durability: 'os',
          rotateBytes: 20_000,
          seal: { ...sealOptions(path, key), keyring, everyMs: 5, everyRecords: 20 },
        }),
      ),
    );
    let written = 0;
    const writing = logs.map(async (log) => {
      while (!stop.signal.aborted) {
        await Promise.all([1, 2, 3].map((n) => log.append(said(`number ${n}`))));
        written += 3;
        await new Promise((resolve) => setTimeout(resolve, 2));
      }
      await log.close();
    });
    const state = isIncremental ? join(path, '../verified.json') : undefined;
    onTestFinished(async () => {
      stop.abort();
      await Promise.allSettled(writing);
    });
    let runs = 0;
    const isEnough = (): boolean => runs > 3 && closedSegments(path).length > 2;
    for (const until = Date.now() + 3_000; Date.now() < until || !isEnough(); runs += 1) {
      const report = await verifyLog(path, { keyring, ...(state !== undefined && { state }) });
      expect(report.findings).toEqual([]);
      expect(report.verdict).toBe('CONSISTENT');
    }
    stop.abort();
    await Promise.all(writing);
    expect(failures).toEqual([]);
    const report = await verifyLog(path, { keyring, ...(state !== undefined && { state }) });
    expect(report).toMatchObject({ records: written, verified: written, completeTo: written, findings: [] });
    expect(runs).toBeGreaterThan(3);
    expect(closedSegments(path).length).toBeGreaterThan(2);
  },
  60_000,
);
