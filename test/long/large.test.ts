/** A log of a million records: verified in little memory, and the second time only what is new. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { writeLargeLog } from '../support/large-log.ts';
import { temporaryFolder } from '../support/log.ts';

const run = promisify(execFile);
const program = join(import.meta.dirname, '../fixtures/verifier.mjs');

interface Verified {
  readonly verdict: string;
  readonly records: number;
  readonly verified: number;
  readonly bad: number;
  readonly completeTo: number;
  readonly counted: { readonly unresolved: number };
  readonly resumed: { readonly records: number } | undefined;
  readonly ms: number;
  readonly mebibytes: number;
}

async function verify(path: string, ...more: string[]): Promise<Verified> {
  const { stdout } = await run(process.execPath, [program, path, join(path, '../swarm.keys.json'), ...more]);
  return JSON.parse(stdout) as Verified;
}

test.runIf(process.platform === 'linux')(
  'a million records verify in under 250 MB, and a thousand more in under a tenth of the time',
  async () => {
    const folder = temporaryFolder();
    const path = join(folder, 'swarm.jsonl');
    const state = join(folder, 'verified.json');
    await writeLargeLog(path, 1_000_000);
    const first = await verify(path, state);
    console.log('a million records:', first);
    expect(first).toMatchObject({
      verdict: 'CONSISTENT',
      verified: 1_000_000,
      bad: 0,
      completeTo: 1_000_000,
    });
    expect(first.counted.unresolved).toBe(0);
    expect(first.mebibytes).toBeLessThan(250e6 / 2 ** 20);
    const times: number[] = [];
    for (const before of [1_000_000, 1_001_000]) {
      await writeLargeLog(path, 1_000);
      const next = await verify(path, state);
      console.log('and a thousand more:', next);
      const records = before + 1_000;
      expect(next).toMatchObject({ verdict: 'CONSISTENT', verified: records, bad: 0, completeTo: records });
      expect(next.resumed).toEqual({ records: before });
      expect(next.counted.unresolved).toBe(0);
      times.push(next.ms);
    }
    expect(Math.min(...times)).toBeLessThan(first.ms / 10); // the better of two: the machine has other work, too
  },
);
