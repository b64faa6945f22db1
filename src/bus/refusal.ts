/**
 * What a stream's refusal means: for people in the broker's words, for programs as a short reason that a
 * record may carry, and whether it is worth trying again. Pure. The codes are nats-server's errors.json.
 */
import { type ErrorCode, SwarmError } from '../base/errors.ts';

/** An `error` member of a JetStream reply. */
export interface BrokerError {
  readonly code: number;
  readonly err_code: number;
  readonly description: string;
}

/** A publish that did not happen, or may not have. */
export class PublishError extends SwarmError {
  /** Why, as a record's `reason`: `stream-full`, `not-permitted`, … */
  readonly reason: string;
  /** The broker's `err_code`, if it gave one. */
  readonly brokerCode: number | undefined;
  /** False if the message is certainly not in the stream; otherwise look (`findSent`). */
  readonly mayBeStored: boolean;

  constructor(
    code: ErrorCode,
    message: string,
    details: { readonly reason: string; readonly mayBeStored: boolean; readonly brokerCode?: number },
    options?: ErrorOptions,
  ) {
    super(code, message, options);
    this.reason = details.reason;
    this.mayBeStored = details.mayBeStored;
    this.brokerCode = details.brokerCode;
  }
}

/** Reports whether the refusal will pass: no leader yet, too many requests, the first copy still in process. */
export function isPassing(error: BrokerError): boolean {
  return passing.has(error.err_code);
}

/** Returns the reason for a refusal: `[a-z][a-z0-9-]{0,63}`. */
export function reasonOf(error: BrokerError): string {
  if (error.err_code === storeFailed && /^maximum .* exceeded$/.test(error.description)) return 'stream-full';
  return reasons.get(error.err_code) ?? `broker-${error.err_code}`;
}

const storeFailed = 10077;

const passing: ReadonlySet<number> = new Set([
  10008, // JetStream system temporarily unavailable
  10009, // JetStream cluster can not handle request
  10118, // stream is offline
  10158, // duplicate message id is in process
  10167, // too many requests
]);

const reasons: ReadonlyMap<number, string> = new Map([
  [10002, 'account-full'],
  [10023, 'server-full'],
  [10028, 'server-full'],
  [10047, 'server-full'],
  [10054, 'too-large'],
  [storeFailed, 'store-failed'],
  [10097, 'headers-too-large'],
  [10109, 'stream-sealed'],
]);
