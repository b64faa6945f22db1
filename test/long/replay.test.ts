/** A log of a million records, told in one order, in little memory. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { writeLargeLog } from '../support/large-log.ts';
import { temporaryFolder } from '../support/log.ts';

const run = promisify(execFile);
const program = join(import.meta.dirname, '../fixtures/replayer.mjs');

test.runIf(process.platform === 'linux')(
  'a million records are told, in order and thread by thread, in under 400 MB',
  async () => {
    const folder = temporaryFolder();
    const path = join(folder, 'swarm.jsonl');
    await writeLargeLog(path, 1_000_000);
    const { stdout } = await run(process.execPath, [program, path, join(folder, 'swarm.keys.json')]);
    const replayed = JSON.parse(stdout) as Record<string, number | string>;
    console.log('a million records:', replayed);
    expect(replayed).toMatchObject({ records: 1_000_000, effectsBeforeCauses: 0, lines: 1_000_001 });
    expect(replayed.mebibytes).toBeLessThan(400e6 / 2 ** 20);
    expect(replayed.commandMebibytes).toBeLessThan(400e6 / 2 ** 20);
    expect(replayed.commandDigest).toBe(replayed.digest);
  },
);
