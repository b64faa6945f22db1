/** A large log, told in one order, in little memory. REPLAY_RECORDS=1000000 takes a million records. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { writeLargeLog } from '../support/large-log.ts';
import { temporaryFolder } from '../support/log.ts';

const run = promisify(execFile);
const records = Number(process.env.REPLAY_RECORDS ?? 200_000);
const program = join(import.meta.dirname, '../fixtures/replayer.mjs');

test.runIf(process.platform === 'linux')(
  'records by the hundred thousand are told, in order and thread by thread, in under 400 MB',
  async () => {
    const folder = temporaryFolder();
    const path = join(folder, 'swarm.jsonl');
    await writeLargeLog(path, records);
    const { stdout } = await run(process.execPath, [program, path, join(folder, 'swarm.keys.json')]);
    const replayed = JSON.parse(stdout) as Record<string, number | string>;
    console.log(`${records} records:`, replayed);
    expect(replayed).toMatchObject({ records, effectsBeforeCauses: 0, lines: records + 1 });
    expect(replayed.mebibytes).toBeLessThan(400e6 / 2 ** 20);
    expect(replayed.commandMebibytes).toBeLessThan(400e6 / 2 ** 20);
    expect(replayed.commandDigest).toBe(replayed.digest);
  },
);
