/**
 * Lets what handlers wait for come in the order in which it came when it was recorded.
 *
 * Handlers run as far as they can by themselves; then, of all that is waited for, the records of the earliest flush come,
 * together, as they did. So handlers that ran side by side, and steps that raced, end in their old order and not by luck.
 */
import { setImmediate as whenIdle } from '../base/real-timers.ts';

/** Which of the log's records it was. */
export interface Turn {
  /** Counted over all its files. */
  readonly order: number;
  /** The `order` of the first record of its flush. */
  readonly flush: number;
}

/** The turn of what is on no record: once nothing else is waited for. */
export const afterAll: Turn = { order: Number.MAX_SAFE_INTEGER, flush: Number.MAX_SAFE_INTEGER };

export class Pace {
  #waiting: { readonly turn: Turn; readonly go: () => void }[] = [];
  #isTurning = false;

  /** Resolves when it is the turn of a record. */
  turn(turn: Turn): Promise<void> {
    return new Promise((go) => {
      this.#waiting.push({ turn, go });
      this.#next();
    });
  }

  #next(): void {
    if (this.#isTurning || this.#waiting.length === 0) return;
    this.#isTurning = true;
    whenIdle(() => {
      this.#isTurning = false;
      const flush = Math.min(...this.#waiting.map(({ turn }) => turn.flush));
      const together = this.#waiting.filter(({ turn }) => turn.flush === flush);
      this.#waiting = this.#waiting.filter(({ turn }) => turn.flush !== flush);
      together.sort((one, other) => one.turn.order - other.turn.order);
      for (const { go } of together) go();
      this.#next();
    });
  }
}
