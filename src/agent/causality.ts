/**
 * Which delivery led to what happens now, carried by itself through everything a handler awaits.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import type { SignedRecord } from '../record/signed.ts';

const handled = new AsyncLocalStorage<SignedRecord>();

/** Runs `act` so that what it publishes is caused by `delivery`. */
export function causedBy<Result>(delivery: SignedRecord, act: () => Result): Result {
  return handled.run(delivery, act);
}

/** Returns the BUS.DELIVER that is being handled here, if any. */
export function currentDelivery(): SignedRecord | undefined {
  return handled.getStore();
}
