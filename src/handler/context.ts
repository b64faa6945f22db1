/**
 * What a handler is given beside its message: everything that is not a function of the message goes through here, so
 * that the handler can be run again from the log.
 *
 * What it asks of the world is recorded (`step`); time and chance are derived (`now`, `random`, `uuid`); what it says is
 * linked to the message that it handles (`publish`).
 */
import type { Sha256Hex } from '../base/encoding.ts';

/** A record that others can name: a message received, or one just published. */
export interface Named {
  readonly leaf: Sha256Hex;
}

export interface SayOptions {
  /** Up to 16 messages that this one also draws on. */
  readonly refs?: readonly Named[];
  /** A W3C traceparent of version 00. @default that of the message being handled, if it has one */
  readonly trace?: string;
  /** 1 to 7 short facts, signed with the message: content type, model, tenant. */
  readonly meta?: Readonly<Record<string, string>>;
}

export interface Context {
  /**
   * Runs `act(...args)`, an LLM or tool call, and records as AGENT.STEP what it was given and what it returned, or threw.
   * When the handler is run again the record answers and `act` is not called. `args` and result are JSON; the handler gets
   * the result as the record has it.
   *
   * Throws `StepError` where `act` threw, or returned what has no JSON; `USAGE` for a name that is none, or once the handler
   * has returned; `PAYLOAD_INVALID` for `args` that have no JSON.
   */
  step<Args extends readonly unknown[], Result>(
    name: string,
    act: (...args: Args) => Result | Promise<Result>,
    ...args: Args
  ): Promise<Result>;

  /**
   * Signs, logs and sends `payload`, caused by the message being handled. Throws as `Swarm.publish` does; that it threw is
   * recorded, so that it throws again when the handler is run again.
   */
  publish(subject: string, payload: unknown, options?: SayOptions): Promise<Named>;

  /** Returns when the message was delivered, in ms since the Unix epoch: use it for `Date.now()`. */
  now(): number;

  /** Returns a number from 0 to below 1, for `Math.random()`. Not for secrets: who has the log can compute it. */
  random(): number;

  /** Returns a UUID, for `crypto.randomUUID()`. Not for secrets. */
  uuid(): string;
}

/** A context whose handler is at work. */
export interface OpenContext extends Context {
  /** Records that the handler has returned, or what it threw. Nothing more is asked or said here. */
  end(thrown?: { readonly error: unknown }): Promise<void>;
}

/** How many calls a handler has made. */
export interface Calls {
  readonly steps: number;
  readonly publishes: number;
}
