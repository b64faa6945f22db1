/** Clocks of single processes, set while they run: by libfaketime, fetched from the machine's own packages. */
import { readdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { unpacked } from './debian-package.ts';

export interface SetClock {
  /** What a process needs in its environment to live by this clock. */
  readonly env: Readonly<Record<string, string>>;
  /** Sets it so far from the real time, within a second. */
  set(offsetMs: number): void;
}

/** Returns a clock that is kept in `folder`, and right at first. Throws where libfaketime cannot be had. */
export async function clockIn(folder: string): Promise<SetClock> {
  const root = await unpacked('faketime', ['libfaketime']);
  const library = readdirSync(root, { recursive: true, encoding: 'utf8' }).find((name) =>
    name.endsWith('/libfaketimeMT.so.1'),
  );
  if (library === undefined) throw new Error(`no libfaketime in ${root}`);
  const file = join(folder, 'clock');
  const set = (offsetMs: number): void => {
    writeFileSync(`${file}.new`, `${offsetMs < 0 ? '' : '+'}${(offsetMs / 1000).toFixed(3)}\n`);
    renameSync(`${file}.new`, file);
  };
  set(0);
  return {
    set,
    env: {
      LD_PRELOAD: join(root, library),
      FAKETIME_TIMESTAMP_FILE: file,
      FAKETIME_CACHE_DURATION: '1',
      DONT_FAKE_MONOTONIC: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
      NO_FAKE_STAT: '1',
    },
  };
}
