/**
 * Which sessions of a log have a writer that lives.
 *
 * A writer holds, for each session that it began, a lock on one byte of `<log>.alive.lock`, by the session's name, until it is
 * closed or dies: the system frees it then (base/file-lock.ts). The file stays empty. What a session that is not alive
 * left unsaid nobody else says any more. A claim is the same for a task of one agent: one process is at it at a time.
 */
import { closeSync, openSync } from 'node:fs';
import { type Sha256Hex, sha256Hex } from '../base/encoding.ts';
import { messageOf, SwarmError } from '../base/errors.ts';
import { tryLockByte } from '../base/file-lock.ts';

/** Of the sessions; claims follow. */
const bytesOfSessions = 2 ** 47;

/** The sessions that one writer of a log holds. */
export class Alive {
  readonly #fd: number;
  #held: string | undefined;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** Opens that of the log at `path`, making its file if need be; throws `LOG_OPEN`. */
  static open(path: string): Alive {
    return new Alive(openShared(path));
  }

  /** Lets `session`, 32 lowercase hex digits, count as alive, besides those before. Throws the system's own errors. */
  hold(session: string): void {
    if (session === this.#held) return;
    tryLockByte(this.#fd, byteOf(session)); // taken by another, whose session is as good as this: 2^47 of them there are
    this.#held = session;
  }

  /** Never throws: what was held is free in any case. */
  close(): void {
    try {
      closeSync(this.#fd);
    } catch {}
  }
}

/** Returns those of `sessions` of the log at `path` whose writer lives, on this machine. Throws `LOG_OPEN`. */
export function aliveOf(path: string, sessions: Iterable<string>): ReadonlySet<string> {
  const alive = new Set<string>();
  let fd: number;
  try {
    fd = openSync(alivePathOf(path), 'r'); // sharing a lock asks for no right to write
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return alive; // nobody writes here, or ever did
    throw cannotOpen(path, cause);
  }
  try {
    for (const session of sessions) {
      if (!tryLockByte(fd, byteOf(session), { shared: true })) alive.add(session);
    }
  } finally {
    closeSync(fd);
  }
  return alive;
}

/**
 * Claims the task of that name at the log at `path`, for as long as what is returned is not closed; `undefined` if another
 * has it. Throws `LOG_OPEN`.
 */
export function claim(path: string, task: string): { close(): void } | undefined {
  const fd = openShared(path);
  if (tryLockByte(fd, bytesOfSessions + byteOf(sha256Hex(task)))) return { close: () => closeSync(fd) };
  closeSync(fd);
  return undefined;
}

function byteOf(session: string | Sha256Hex): number {
  return Number.parseInt(session.slice(0, 12), 16) % bytesOfSessions;
}

function alivePathOf(path: string): string {
  return `${path}.alive.lock`;
}

function openShared(path: string): number {
  try {
    return openSync(alivePathOf(path), 'a+');
  } catch (cause) {
    throw cannotOpen(path, cause);
  }
}

function cannotOpen(path: string, cause: unknown): SwarmError {
  return new SwarmError('LOG_OPEN', `cannot open ${alivePathOf(path)}: ${messageOf(cause)}`, { cause });
}
