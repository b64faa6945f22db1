/**
 * Appends signed records to a log. A resolved `append` is a fact: the record is on disk.
 *
 * Group commit: what is waiting when a flush ends is the next flush, and a flush is one signature, one turn
 * of the log's lock, one `write` and one `fdatasync`. Several writers, of one process or many, may share a log
 * (docs/format.md, section 1). Fail closed: after a failed or short write, or a failed fsync, nothing about the
 * file's end is known any more, so the writer refuses everything until the log is opened again.
 */
import { fdatasync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { type Clock, systemClock } from '../base/clock.ts';
import { makeFolderDurably } from '../base/durable.ts';
import { sha256Hex } from '../base/encoding.ts';
import { messageOf, SwarmError } from '../base/errors.ts';
import { logFlushed } from '../base/events.ts';
import type { SigningKey } from '../identity/key.ts';
import { checkDraft, checkSwarm, type Draft } from '../record/draft.ts';
import { flushRecords } from '../record/flush.ts';
import type { SignedRecord } from '../record/signed.ts';
import { Alive } from './alive.ts';
import type { OwnLines } from './file-tree.ts';
import { treeFolderOf } from './files.ts';
import { LogLock } from './lock.ts';
import { returnTree } from './returned-tree.ts';
import { Sealing, type SealingOptions } from './sealing.ts';
import { ActiveSegment } from './segment.ts';
import { type Author, beginSession, type Chain, composeFlush, type Flush } from './session.ts';

export interface LogOptions {
  /** Signs what is written. */
  readonly key: SigningKey;
  /** The swarm that every record is said in. @default none */
  readonly swarm?: string;
  /**
   * When an append counts as done: `fsync`, once the disk has it; `os`, once the operating system has it, which
   * survives a killed process but not a power cut. @default 'fsync'
   */
  readonly durability?: 'fsync' | 'os';
  /** Start a new segment where a flush would grow the file past this many bytes. @default 256 MiB */
  readonly rotateBytes?: number;
  /** @default the system's */
  readonly clock?: Clock;
  /** Seal the log as it grows (docs/format.md, section 8). @default not sealed by this writer */
  readonly seal?: SealingOptions | undefined;
}

const MiB = 1 << 20;
const flushBytes = MiB;
const LF = Buffer.from('\n');
const sync = promisify(fdatasync);

/**
 * Opens the log at `path` for appending, making it and its folder if need be. Throws `LOG_OPEN`; where it is to be
 * sealed and cannot be, `SEAL_REFUSED`, `SEAL_STATE` and `SEAL_FAILED`.
 */
export async function openLog(path: string, options: LogOptions): Promise<LogWriter> {
  const { key, swarm, clock = systemClock(), durability = 'fsync', rotateBytes = 256 * MiB } = options;
  if (swarm !== undefined) checkSwarm(swarm);
  await makeFolderDurably(dirname(path)).catch((cause: unknown) => {
    throw new SwarmError('LOG_OPEN', `cannot open the log ${path}: ${messageOf(cause)}`, { cause });
  });
  if (!(rotateBytes > 0) || (durability !== 'fsync' && durability !== 'os')) {
    throw new SwarmError(
      'USAGE',
      `a log rotates at 1 byte or more, not ${rotateBytes}, and its durability is "fsync" or "os", not ${JSON.stringify(durability)}`,
    );
  }
  const sealing = options.seal && (await Sealing.start(path, options.seal));
  let lock: LogLock | undefined;
  let alive: Alive | undefined;
  let segment: ActiveSegment | undefined;
  try {
    lock = LogLock.open(path);
    alive = Alive.open(path);
    segment = ActiveSegment.open(path);
    const prev = await lock.hold(() => {
      if (segment?.isCurrent() !== true) {
        const now = ActiveSegment.open(path);
        segment?.close();
        segment = now;
      }
      return segment.lastLeaf();
    });
    return new LogWriter(
      { segment, lock, alive, author: { key, clock, swarm }, durability, rotateBytes, sealing },
      beginSession(prev),
    );
  } catch (cause) {
    segment?.close();
    alive?.close();
    lock?.close();
    await sealing?.close();
    if (cause instanceof SwarmError) throw cause;
    throw new SwarmError('LOG_OPEN', `cannot open the log ${path}: ${messageOf(cause)}`, { cause });
  }
}

interface Waiting {
  readonly draft: Draft;
  resolve(record: SignedRecord): void;
  reject(error: SwarmError): void;
}

interface LogParts {
  segment: ActiveSegment;
  readonly lock: LogLock;
  readonly alive: Alive;
  readonly author: Author;
  readonly durability: 'fsync' | 'os';
  readonly rotateBytes: number;
  readonly sealing: Sealing | undefined;
}

/** A flush where it was written. */
interface Written extends Flush {
  readonly inode: bigint;
  /** Of the file, once it was written. */
  readonly end: number;
  /** Where its lines are; `undefined` where a recovery stands before them. */
  readonly lines: OwnLines | undefined;
}

export class LogWriter implements AsyncDisposable {
  readonly #parts: LogParts;
  #chain: Chain;
  /** Where the file ended when we wrote to it last. */
  #end = -1;
  #waiting: Waiting[] = [];
  #drained: Promise<void> | undefined;
  #failure: SwarmError | undefined;
  #closed: Promise<void> | undefined;

  /** @internal Use `openLog`. */
  constructor(parts: LogParts, chain: Chain) {
    this.#parts = parts;
    this.#chain = chain;
  }

  /** The path of the segment that grows. */
  get path(): string {
    return this.#parts.segment.path;
  }

  /**
   * Resolves with the signed record once it is on disk.
   *
   * Records are written in the order of the calls. Throws `RECORD_INVALID` for a draft that the format does not
   * allow, `LOG_WRITE_FAILED` where it or an earlier one could not be written, `LOG_CLOSED` after `close`.
   */
  append(draft: Draft): Promise<SignedRecord> {
    return new Promise((resolve, reject) => {
      checkDraft(draft);
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#closed !== undefined) throw new SwarmError('LOG_CLOSED', `the log ${this.path} is closed`);
      this.#waiting.push({ draft, resolve, reject });
      // Invariant: whenever #waiting is not empty, a drain is running. #drain therefore clears #drained in the
      // same turn as its last look at #waiting; clearing it in a `finally`, a microtask later, loses appends.
      this.#drained ??= this.#drain();
    });
  }

  /**
   * Seals what is on disk now, if this writer seals. Throws `SEAL_REFUSED`, `SEAL_STATE`, `SEAL_FAILED`, and after a
   * failed write that failure, `LOG_WRITE_FAILED`.
   */
  async seal(): Promise<void> {
    await this.#parts.sealing?.seal();
  }

  /** Writes what is waiting, seals it, then closes the files. Never throws: who waits for an append hears of its failure. */
  close(): Promise<void> {
    this.#closed ??= (async () => {
      await this.#drained;
      await this.#parts.sealing?.close();
      this.#parts.segment.close();
      this.#parts.alive.close();
      this.#parts.lock.close();
    })();
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #drain(): Promise<void> {
    await null; // appends of one turn share one flush
    while (this.#waiting.length > 0) {
      const batch = this.#takeBatch();
      try {
        const records = await this.#flush(batch.map(({ draft }) => draft));
        for (const [index, record] of records.entries()) batch[index]?.resolve(record);
      } catch (cause) {
        const reason = messageOf(cause);
        this.#failure = new SwarmError(
          'LOG_WRITE_FAILED',
          `cannot write the log ${this.path}: ${reason}; it accepts nothing more until it is opened again`,
          { cause },
        );
        for (const waiting of [...batch, ...this.#waiting.splice(0)]) waiting.reject(this.#failure);
        this.#parts.sealing?.giveUp(this.#failure); // of what may not be on disk nothing is sealed
      }
    }
    this.#drained = undefined;
  }

  /** Takes the oldest waiting, at least one, at most a flush's worth. */
  #takeBatch(): Waiting[] {
    let bytes = 0;
    let count = 0;
    for (const { draft } of this.#waiting) {
      bytes += draft.payload?.length ?? 0;
      if (count > 0 && (count === flushRecords || bytes > flushBytes)) break;
      count += 1;
    }
    return this.#waiting.splice(0, count);
  }

  async #flush(drafts: readonly Draft[]): Promise<readonly SignedRecord[]> {
    let written: Written | undefined;
    while (written === undefined) {
      const expected = composeFlush(drafts, this.#chain, this.#parts.author); // outside the lock, where it nearly always serves
      written = await this.#parts.lock.hold(() => this.#write(drafts, expected));
      if (written === undefined) await this.#rotate(expected.bytes.length);
    }
    if (this.#parts.durability === 'fsync') await sync(this.#parts.segment.fd);
    this.#chain = written.chain;
    this.#end = written.end;
    this.#parts.sealing?.flushed(written.records.length, written.inode, written.lines);
    logFlushed.publish({ records: written.records.length, bytes: written.bytes.length, file: this.path });
    return written.records;
  }

  /** Reports whether `bytes` more would make the segment too large. */
  #isFull(bytes: number): boolean {
    const { size } = this.#parts.segment.tail();
    return size > 0 && size + bytes > this.#parts.rotateBytes;
  }

  /**
   * Closes the segment for a flush of `bytes`, unless somebody did, or died at its end: what that left must be named in
   * the same file. No seal is at work meanwhile.
   */
  async #rotate(bytes: number): Promise<void> {
    const { segment, lock } = this.#parts;
    const treeLock = LogLock.open(treeFolderOf(this.path));
    try {
      await treeLock.hold(async () => {
        await returnTree(this.path);
        await lock.hold(() => {
          const isWhole = segment.isCurrent() && segment.brokenTail().length === 0;
          if (isWhole && this.#isFull(bytes)) segment.rotate().close();
        });
      });
    } finally {
      treeLock.close();
    }
  }

  /** Writes one flush where the log ends now, unless the segment is full. Called under the lock. */
  #write(drafts: readonly Draft[], expected: Flush): Written | undefined {
    const parts = this.#parts;
    let flush = expected;
    if (!parts.segment.isCurrent()) {
      const now = ActiveSegment.open(this.path); // first, for what is closed is not closed again
      parts.segment.close();
      parts.segment = now;
      this.#chain = beginSession(parts.segment.lastLeaf()); // a session lives in one file
      flush = composeFlush(drafts, this.#chain, parts.author);
    }
    const { inode, fd } = parts.segment;
    const { size, isTorn } = parts.segment.tail();
    // Where nobody else wrote, the file ends as we left it.
    const broken = isTorn || size !== this.#end ? parts.segment.brokenTail() : [];
    if (broken.length > 0) {
      const recoveries = composeFlush(broken.map(recoveryOf), this.#chain, parts.author);
      flush = composeFlush(drafts, recoveries.chain, parts.author);
      const bytes = Buffer.concat([isTorn ? LF : Buffer.alloc(0), recoveries.bytes, flush.bytes]);
      parts.alive.hold(flush.chain.session);
      writeWhole(fd, bytes);
      return { ...flush, inode, end: size + bytes.length, lines: undefined };
    }
    if (this.#isFull(flush.bytes.length)) return undefined;
    parts.alive.hold(flush.chain.session);
    writeWhole(fd, flush.bytes);
    const end = size + flush.bytes.length;
    return {
      ...flush,
      inode,
      end,
      lines: { start: size, end, leaves: flush.records.map(({ leaf }) => leaf) },
    };
  }
}

/** Writes `bytes` in one `write`. A short one, as a full disk makes them, is a failure: it tore the log. */
function writeWhole(fd: number, bytes: Buffer): void {
  const written = writeSync(fd, bytes);
  if (written !== bytes.length) {
    throw new Error(`only ${written} of ${bytes.length} bytes were written; is the disk full?`);
  }
}

/** Returns the record that names a line that a killed writer left: docs/format.md, sections 1 and 3. */
function recoveryOf(torn: Buffer): Draft {
  const payload = Buffer.from(JSON.stringify({ bytes: torn.length, sha256: sha256Hex(torn) }));
  return { subject: 'log.recover', kind: 'LOG.RECOVER', reason: 'torn', payload };
}
