/**
 * Seals a log as its writer goes: every few seconds or thousand records, and when it closes.
 *
 * One seal at a time, beside the writing, which never waits for it. A seal that fails for want of room or a disk is
 * tried again with the next records; one that is refused is not, because the log is not what it was: that is for a
 * person. Either is told on the channel `sealFailed`.
 */
import { messageOf, SwarmError } from '../base/errors.ts';
import { logSealed, sealFailed } from '../base/events.ts';
import type { OwnLines } from './file-tree.ts';
import type { SealOptions } from './last-seal.ts';
import type { Seal } from './seal-file.ts';
import { Sealer } from './sealer.ts';

export interface SealingOptions extends SealOptions {
  /** Seal so many milliseconds after the first record that is not sealed. @default 2000 */
  readonly everyMs?: number;
  /** Seal once so many records are not sealed. @default 1000 */
  readonly everyRecords?: number;
  /** Called with each new checkpoint, which is worth keeping elsewhere. */
  readonly onSealed?: ((seal: Seal) => void) | undefined;
}

/** Leaves kept for a seal that is late; what is beyond is read again. */
const leavesKept = 65_536;

export class Sealing {
  readonly #path: string;
  readonly #options: SealingOptions;
  readonly #sealer: Sealer;
  /** Lines that we wrote and that are not sealed, by the inode of their file. */
  readonly #own = new Map<bigint, OwnLines[]>();
  #unsealed = 0;
  #timer: NodeJS.Timeout | undefined;
  #turn: Promise<void> = Promise.resolve();
  /** Whether enough is waiting for the next seal not to be put off further. */
  #isDue = false;
  /** Why nothing more is sealed. */
  #refusal: SwarmError | undefined;
  /** A seal rests for as long as it took: others, too, write to the disk and wait for the tree. */
  #restUntil = 0;

  private constructor(path: string, options: SealingOptions) {
    this.#path = path;
    this.#options = options;
    this.#sealer = new Sealer(path, options);
  }

  /** Starts sealing the log at `path`; throws what `Sealer.check` throws. */
  static async start(path: string, options: SealingOptions): Promise<Sealing> {
    const sealing = new Sealing(path, options);
    try {
      await sealing.#sealer.check();
      return sealing;
    } catch (cause) {
      await sealing.#sealer.close();
      throw cause;
    }
  }

  /** Takes note of `records` that were flushed, and of where their lines are, if nothing else was written with them. */
  flushed(records: number, inode: bigint, own: OwnLines | undefined): void {
    if (this.#refusal !== undefined) return;
    this.#unsealed += records;
    if (own !== undefined && this.#unsealed <= leavesKept) {
      const before = this.#own.get(inode);
      if (before === undefined) this.#own.set(inode, [own]);
      else before.push(own);
    }
    const { everyMs = 2_000, everyRecords = 1_000 } = this.#options;
    const restMs = this.#restUntil - performance.now();
    if (this.#unsealed < everyRecords) this.#beginIn(Math.max(everyMs, restMs));
    else if (!this.#isDue) {
      this.#isDue = true;
      clearTimeout(this.#timer);
      this.#timer = undefined;
      this.#beginIn(Math.max(0, restMs));
    }
  }

  /** Seals what there is now; throws what `Sealer.seal` throws, and again what it refused before. */
  seal(): Promise<void> {
    const sealed = this.#turn.then(() => this.#seal());
    this.#turn = sealed.catch(() => undefined); // who asked hears of it
    return sealed;
  }

  /** Seals nothing more, because of `refusal`. */
  giveUp(refusal: SwarmError): void {
    this.#refusal = refusal;
    this.#unsealed = 0;
    clearTimeout(this.#timer);
  }

  /** Seals the rest, and ends. Never throws: a seal that fails is told. */
  async close(): Promise<void> {
    await this.#turn;
    if (this.#unsealed > 0) await this.#begin();
    clearTimeout(this.#timer);
    await this.#sealer.close();
  }

  #beginIn(ms: number): void {
    this.#timer ??= setTimeout(() => void this.#begin(), ms).unref(); // tells of its failure
  }

  async #begin(): Promise<void> {
    await this.seal().catch((cause: unknown) => {
      if (cause !== this.#refusal) this.#tell(cause);
    });
  }

  async #seal(): Promise<void> {
    if (this.#refusal !== undefined) throw this.#refusal;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#isDue = false;
    const unsealed = this.#unsealed;
    this.#unsealed = 0;
    const startedAt = performance.now();
    try {
      for (const seal of await this.#sealer.seal(this.#own)) {
        logSealed.publish({ file: seal.file, size: seal.checkpoint.size, checkpoint: seal.text });
        this.#options.onSealed?.(seal);
      }
    } catch (cause) {
      this.#own.clear(); // to be read again, whatever was taken of it
      this.#unsealed += unsealed;
      throw cause;
    } finally {
      const endedAt = performance.now();
      this.#restUntil = endedAt + (endedAt - startedAt);
    }
  }

  #tell(cause: unknown): void {
    const error =
      cause instanceof SwarmError ? cause : new SwarmError('SEAL_FAILED', messageOf(cause), { cause });
    if (error.code === 'SEAL_REFUSED' || error.code === 'SEAL_STATE') this.giveUp(error);
    sealFailed.publish({ log: this.#path, error });
  }
}
