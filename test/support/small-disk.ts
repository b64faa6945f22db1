/**
 * A real disk that is small, and can be filled to the last byte: a tmpfs in a mount namespace of its own, without root.
 *
 * Others reach it through /proc, as long as the process that holds the namespace runs.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';

export interface SmallDisk extends AsyncDisposable {
  readonly path: string;
  /** Leaves no byte free. */
  fill(): void;
  /** Leaves free again what `fill` took. */
  clear(): void;
}

const namespace = ['--mount', '--map-root-user'];
const mount = (mib: number): string => `mount -t tmpfs -o size=${mib}m tmpfs /mnt`;

/** Reports whether this machine lets us have one. */
export const canMount: boolean = spawnSync('unshare', [...namespace, 'sh', '-c', mount(1)]).status === 0;

/** Returns a disk of so many MiB. */
export async function smallDisk(mib: number): Promise<SmallDisk> {
  const script = `${mount(mib)} && echo mounted && read -r line`;
  const holder = spawn('unshare', [...namespace, 'sh', '-c', script], { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = once(holder, 'close');
  await Promise.race([once(holder.stdout, 'data'), ended]);
  if (holder.exitCode !== null) throw new Error('no disk could be mounted');
  const path = `/proc/${holder.pid}/root/mnt`;
  const ballast = join(path, 'ballast');
  return {
    path,
    fill: () => {
      const file = openSync(ballast, 'a');
      try {
        for (let bytes = 1 << 20; bytes >= 1; ) {
          try {
            writeSync(file, Buffer.alloc(bytes));
          } catch {
            bytes >>= 1;
          }
        }
      } finally {
        closeSync(file);
      }
    },
    clear: () => rmSync(ballast, { force: true }),
    [Symbol.asyncDispose]: async () => {
      holder.stdin.end();
      await ended;
    },
  };
}
