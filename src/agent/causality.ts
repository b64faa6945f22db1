/**
 * Which handler, at work on which delivery, led to what happens now: carried by itself through everything it awaits.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import type { SignedRecord } from '../record/signed.ts';

/** One run of a handler. */
export class Work {
  /** The BUS.DELIVER that it handles. */
  readonly delivery: SignedRecord;
  /**
   * Resolves when it is finished, or when it waits itself for others to finish: whoever waited for it then could wait
   * for ever.
   */
  readonly left: Promise<void>;
  #leave: () => void = () => undefined;
  #isFinished = false;

  constructor(delivery: SignedRecord) {
    this.delivery = delivery;
    this.left = new Promise((resolve) => {
      this.#leave = resolve;
    });
  }

  get isFinished(): boolean {
    return this.#isFinished;
  }

  leave(): void {
    this.#leave();
  }

  finish(): void {
    this.#isFinished = true;
    this.#leave();
  }
}

const current = new AsyncLocalStorage<Work | undefined>();

/** Runs `act` so that what it publishes is caused by the delivery that `work` is about. */
export function causedBy<Result>(work: Work, act: () => Result): Result {
  return current.run(work, act);
}

/** Runs `act` as if no handler had asked for it. */
export function causedByNobody<Result>(act: () => Result): Result {
  return current.run(undefined, act);
}

/** Returns the BUS.DELIVER that is being handled here, if any. */
export function currentDelivery(): SignedRecord | undefined {
  return current.getStore()?.delivery;
}

/** Returns the handler that is at work here, if any. One that has returned is no longer. */
export function currentWork(): Work | undefined {
  const work = current.getStore();
  return work?.isFinished === false ? work : undefined;
}
