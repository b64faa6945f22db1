/**
 * Handlers at work: each is called once its message is on the log, the ack goes when it returns, and when it throws
 * the message comes again, later each time, until it has failed often enough to be given up: then it is dead-lettered.
 * A handler that settles its message itself is taken at its word.
 *
 * Stopping waits for the handlers at work, but not for ever, and never for one that is waiting itself: what is not
 * finished in time is given back. While a handler is at work its message is kept from being delivered again.
 */
import { messageOf } from '../base/errors.ts';
import { UnrecoverableError } from '../handler/unrecoverable.ts';
import type { Attempts } from './attempts.ts';
import { causedBy, currentWork, Work } from './causality.ts';
import type { Message } from './message.ts';
import type { Subscription } from './subscription.ts';

export type Handler = (message: Message) => Promise<void> | void;

export interface HandlingOptions {
  /** How many messages are handled at once, 1 or more. @default 1: one after another, in the stream's order */
  readonly concurrency?: number;
  /**
   * How many attempts a message has: after so many that failed, or in which the process died, it is dead-lettered (`swarm
   * dead`), and no handler is called for it again. 0 is without limit. Deliveries of which no handler heard, because a
   * process died before their turn, do not count, up to ten for each attempt. @default 10
   */
  readonly maxDeliver?: number;
  /** Called when a handler throws. What it throws itself ends the handling. @default a process warning */
  readonly onError?: (error: unknown, message: Message) => void;
  /** How long `stop` and `close` wait for handlers at work before their messages are given back, in ms. @default 30000 */
  readonly finishWithinMs?: number;
}

export interface HandlingParts {
  readonly subscription: Subscription;
  readonly attempts: Attempts;
}

const longestWaitMs = 60_000;

/** How long a handling that ends waits for the broker to confirm its answers. */
const confirmedWithinMs = 2_000;

/** Returns how long to wait before a message that failed for the `attempt`th time is handled again. */
export function backOffMs(attempt: number): number {
  return Math.min(1_000 * 2 ** Math.min(attempt - 1, 10), longestWaitMs);
}

export class Handling implements AsyncDisposable {
  readonly #subscription: Subscription;
  readonly #attempts: Attempts;
  readonly #handler: Handler;
  readonly #onError: (error: unknown, message: Message) => void;
  readonly #finishWithinMs: number;
  readonly #maxDeliver: number;
  readonly #atWork = new Map<Work, Message>();
  /**
   * Answers are not awaited before the next message. One that the broker does not hear of changes nothing: the message
   * comes again after the ack wait.
   */
  readonly #answers = new Set<Promise<void>>();
  /** Resolves when those still at work are not waited for any more. */
  readonly #abandoned: Promise<void>;
  #abandon: () => void = () => undefined;
  #stopped: Promise<void> | undefined;
  /**
   * Resolves after `stop`; rejects with what ended the subscription, or what `onError` threw. That is a process warning
   * too, so that handlers which have ended do not go unnoticed where nobody awaits this.
   */
  readonly finished: Promise<void>;

  /** @internal Use `Swarm.handle`. */
  constructor({ subscription, attempts }: HandlingParts, handler: Handler, options: HandlingOptions = {}) {
    const { concurrency = 1, finishWithinMs = 30_000, maxDeliver = 10 } = options;
    this.#subscription = subscription;
    this.#attempts = attempts;
    this.#handler = handler;
    this.#maxDeliver = maxDeliver === 0 ? Number.POSITIVE_INFINITY : maxDeliver;
    this.#onError = options.onError ?? warn;
    this.#finishWithinMs = finishWithinMs;
    this.#abandoned = new Promise((resolve) => {
      this.#abandon = resolve;
    });
    this.finished = this.#run(concurrency);
    this.finished.catch((error: unknown) => warnOfEnd(subscription.durable, error));
  }

  /**
   * Takes no more messages, and resolves when those at work are handled and acked. Called by a handler, it resolves
   * when the others are.
   */
  async stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    const own = currentWork();
    if (own === undefined) return await this.#stopped;
    own.leave();
    await this.#subscription.stop();
    await Promise.race([Promise.all([...this.#atWork.keys()].map(({ left }) => left)), this.#abandoned]);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async #stop(): Promise<void> {
    const limit = setTimeout(() => this.#giveBack(), this.#finishWithinMs);
    await this.#subscription.stop();
    await this.finished.catch(() => undefined); // told of already
    clearTimeout(limit);
  }

  #giveBack(): void {
    for (const message of this.#atWork.values()) this.#answer(message.settled ?? message.nak());
    this.#abandon();
  }

  async #run(concurrency: number): Promise<void> {
    try {
      const workers = Array.from({ length: concurrency }, () => this.#work());
      await Promise.race([Promise.all(workers), this.#abandoned]);
    } catch (error) {
      await this.#subscription.stop(); // what is held here would wait for a handler that never comes
      throw error;
    } finally {
      await within(confirmedWithinMs, Promise.all(this.#answers));
    }
  }

  async #work(): Promise<void> {
    const subscription = this.#subscription;
    for (let next = await subscription.next(); next !== undefined; next = await subscription.next()) {
      await this.#handle(next);
    }
  }

  async #handle(message: Message): Promise<void> {
    const work = new Work(message.delivery);
    const release = message.keep();
    this.#atWork.set(work, message);
    try {
      if (message.attempt > this.#maxDeliver && (await this.#areSpent(message))) {
        await this.#giveUp(message, 'max-deliver'); // its last handler did not live to say so
        return;
      }
      await this.#attempts.begin(message, this.#maxDeliver);
      await causedBy(work, () => this.#handler(message));
      this.#answer(message.settled ?? message.ack());
    } catch (error) {
      const reason = message.settled === undefined ? await this.#whyHopeless(error, message) : undefined;
      if (reason !== undefined) await this.#giveUp(message, reason);
      this.#answer(message.settled ?? message.nak(backOffMs(message.attempt)));
      this.#onError(error, message);
    } finally {
      if (!message.isGivenBack) this.#attempts.forget(message);
      release();
      this.#atWork.delete(work);
      work.finish();
    }
  }

  /** What cannot be known, since the log cannot be read, is tried again. */
  #areSpent(message: Message): Promise<boolean> {
    return this.#attempts.areSpent(message, this.#maxDeliver).catch(() => false);
  }

  /** Returns the reason for which a message whose handler threw does not come again, if there is one. */
  async #whyHopeless(error: unknown, message: Message): Promise<string | undefined> {
    if (error instanceof UnrecoverableError) return error.reason;
    return (await this.#areSpent(message)) ? 'max-deliver' : undefined;
  }

  /** Dead-letters a message. Where that fails it comes again, and this is tried again. */
  async #giveUp(message: Message, reason: string): Promise<void> {
    try {
      await message.dead(reason);
    } catch (error) {
      this.#answer(message.settled ?? message.nak(backOffMs(message.attempt)));
      warnOfDead(message, error);
    }
  }

  #answer(sent: Promise<void>): void {
    const settled: Promise<void> = sent.catch(() => undefined).finally(() => this.#answers.delete(settled));
    this.#answers.add(settled);
  }
}

/** Waits for `work`, which rejects nothing, at most `ms`. */
async function within(ms: number, work: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([work, limit]);
  clearTimeout(timer);
}

function warn(error: unknown, { subject, attempt, isDead }: Message): void {
  const then = isDead ? 'dead-lettered: see `swarm dead list`' : `again in ${backOffMs(attempt) / 1000} s`;
  process.emitWarning(`the handler of ${subject} failed (attempt ${attempt}, ${then}): ${messageOf(error)}`, {
    type: 'SwarmWarning',
  });
}

function warnOfDead({ subject, seq }: Message, error: unknown): void {
  process.emitWarning(`message ${seq} on ${subject} could not be dead-lettered: ${messageOf(error)}`, {
    type: 'SwarmWarning',
  });
}

function warnOfEnd(durable: string, error: unknown): void {
  process.emitWarning(`the handlers of ${durable} take no more messages: ${messageOf(error)}`, {
    type: 'SwarmWarning',
  });
}
