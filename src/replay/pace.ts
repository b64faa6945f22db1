/**
 * Lets what handlers wait for come in the order in which it came when it was recorded.
 *
 * Handlers run as far as they can by themselves; then, of all that is waited for, what was recorded first comes. So
 * handlers that ran side by side, and steps that raced, end in their old order and not by luck.
 */
import { setImmediate as afterAll } from '../base/real-timers.ts';

export class Pace {
  readonly #waiting: { readonly order: number; readonly go: () => void }[] = [];
  #isTurning = false;

  /** Resolves when it is the turn of what was recorded as number `order` of its session. */
  turn(order: number): Promise<void> {
    return new Promise((go) => {
      this.#waiting.push({ order, go });
      this.#next();
    });
  }

  #next(): void {
    if (this.#isTurning || this.#waiting.length === 0) return;
    this.#isTurning = true;
    afterAll(() => {
      this.#isTurning = false;
      this.#waiting.sort((one, other) => one.order - other.order);
      this.#waiting.shift()?.go();
      this.#next();
    });
  }
}
