/**
 * What a handler throws where trying again is pointless: the message is dead-lettered at once.
 */
import { SwarmError } from '../base/errors.ts';
import { exactly } from '../record/grammar.ts';

const grammar = exactly('reason');

export interface UnrecoverableOptions extends ErrorOptions {
  /** Goes on the log: `[a-z][a-z0-9-]{0,63}`. @default 'unrecoverable' */
  readonly reason?: string;
}

/** Says that a message can never be handled: it is dead-lettered without a further attempt. */
export class UnrecoverableError extends Error {
  /** Why, for the BUS.DEAD record. */
  readonly reason: string;

  /** Throws `USAGE` for a reason that is none. */
  constructor(message: string, { reason = 'unrecoverable', ...options }: UnrecoverableOptions = {}) {
    super(message, options);
    this.name = 'UnrecoverableError';
    this.reason = requireReason(reason);
  }
}

/** Returns `reason`; throws `USAGE` if no record can give it. */
export function requireReason(reason: string): string {
  if (grammar.test(reason)) return reason;
  throw new SwarmError(
    'USAGE',
    `not a reason: ${JSON.stringify(reason)} (a lowercase letter, then up to 63 of a-z, 0-9 and -)`,
  );
}
