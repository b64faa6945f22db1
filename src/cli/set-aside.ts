/**
 * Moves a log out of the way, whole: its segments, its tree and all, under their own names in a folder of its own,
 * where it verifies as it did before.
 */
import { existsSync, mkdirSync, renameSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { messageOf, SwarmError } from '../base/errors.ts';
import { closedSegments, treeFolderOf } from '../log/files.ts';
import { LogLock } from '../log/lock.ts';

/**
 * Moves the log at `path` to a new folder beside it, with the time in its name, and returns its path there;
 * `undefined` if there was none. A writer that has it open goes on in a new file. Throws `LOG_OPEN`.
 */
export async function setLogAside(path: string, now: Date = new Date()): Promise<string | undefined> {
  if (filesOf(path).length === 0) return undefined;
  const lock = LogLock.open(path);
  const treeLock = LogLock.open(treeFolderOf(path));
  try {
    return await treeLock.hold(() =>
      lock.hold(() => {
        const files = filesOf(path);
        if (files.length === 0) return undefined;
        const folder = newFolder(join(dirname(path), `before-demo-${printTime(now)}`));
        for (const file of files) renameSync(file, join(folder, basename(file)));
        return join(folder, basename(path));
      }),
    );
  } catch (cause) {
    throw new SwarmError('LOG_OPEN', `cannot move the log ${path} out of the way: ${messageOf(cause)}`, {
      cause,
    });
  } finally {
    treeLock.close();
    lock.close();
  }
}

/** Returns what there is of the log: segments, the one that grows, and the tree beside each. */
function filesOf(path: string): string[] {
  if (!existsSync(dirname(path))) return [];
  return [...closedSegments(path), path].flatMap((file) => [file, treeFolderOf(file)]).filter(existsSync);
}

function newFolder(wanted: string): string {
  for (let attempt = 1; ; attempt += 1) {
    const folder = attempt === 1 ? wanted : `${wanted}-${attempt}`;
    try {
      mkdirSync(folder);
      return folder;
    } catch (failure) {
      if ((failure as NodeJS.ErrnoException).code !== 'EEXIST') throw failure;
    }
  }
}

function printTime(time: Date): string {
  return `${time.toISOString().slice(0, 19).replaceAll(':', '-')}Z`;
}
