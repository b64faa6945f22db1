/**
 * How far a log is known to be complete: up to which record a checkpoint shows that none is missing.
 *
 * A checkpoint is of one file. What stands before that file is complete only if each file there is sealed to its last
 * line, which the first line of the next one names; behind a gap, and from a fork on, nothing is known: of two checkpoints
 * that contradict each other either may be the forger's.
 */
import type { Verdict } from './verdict.ts';

/** What the checkpoints of a file cover: sizes of its tree, 0 where none does. */
export interface Covered {
  /** The largest that any checkpoint agrees with, and none of a smaller one contradicts. */
  readonly byAny: number;
  /** The same of checkpoints kept elsewhere. */
  readonly byAnchor: number;
}

export class Coverage {
  #records = 0;
  #isWhole = true;
  #byAny = 0;
  #byAnchor = 0;

  /** Goes on to the next file, of `size` records. */
  addFile(size: number, { byAny, byAnchor }: Covered): void {
    if (this.#isWhole) {
      this.#byAny = this.#records + byAny;
      if (byAnchor > 0) this.#byAnchor = this.#records + byAnchor;
    }
    this.#isWhole &&= byAny === size;
    this.#records += size;
  }

  /** Returns the record, counted from 1 over all files, up to which the log is complete; never past `firstBad`. */
  completeTo(verdict: Verdict, firstBad: number | undefined): number {
    const covered = verdict === 'ANCHORED' ? this.#byAnchor : this.#byAny;
    return Math.min(covered, (firstBad ?? Number.POSITIVE_INFINITY) - 1);
  }
}
