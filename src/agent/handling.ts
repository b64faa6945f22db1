/**
 * A handler at work: it is called once its message is on the log, the ack goes when it returns, and when it throws
 * the message comes again, later each time.
 */
import { messageOf } from '../base/errors.ts';
import { causedBy } from './causality.ts';
import type { Message } from './message.ts';
import type { Subscription } from './subscription.ts';

export type Handler = (message: Message) => Promise<void> | void;

export interface HandlingOptions {
  /** How many messages are handled at once. @default 1: one after another, in the stream's order */
  readonly concurrency?: number;
  /** Called when a handler throws. @default a process warning */
  readonly onError?: (error: unknown, message: Message) => void;
}

const longestWaitMs = 60_000;

/** Returns how long to wait before a message that failed for the `attempt`th time is handled again. */
export function backOffMs(attempt: number): number {
  return Math.min(1_000 * 2 ** Math.min(attempt - 1, 10), longestWaitMs);
}

export class Handling implements AsyncDisposable {
  readonly #subscription: Subscription;
  /** Resolves after `stop`; rejects with what ended the subscription. */
  readonly finished: Promise<void>;

  /** @internal Use `Swarm.handle`. */
  constructor(subscription: Subscription, handler: Handler, options: HandlingOptions = {}) {
    const { concurrency = 1, onError = warn } = options;
    this.#subscription = subscription;
    // Answers are not awaited before the next message. One that the broker does not hear of changes nothing: the
    // message comes again after the ack wait.
    const answers = new Set<Promise<void>>();
    const answer = (sent: Promise<void>): void => {
      const settled: Promise<void> = sent.catch(() => undefined).finally(() => answers.delete(settled));
      answers.add(settled);
    };
    const work = async (): Promise<void> => {
      for (let next = await subscription.next(); next !== undefined; next = await subscription.next()) {
        const message = next;
        try {
          await causedBy(message.delivery, () => handler(message));
          answer(message.ack());
        } catch (error) {
          onError(error, message);
          answer(message.nak(backOffMs(message.attempt)));
        }
      }
    };
    this.finished = Promise.all(Array.from({ length: concurrency }, work)).then(
      async () => void (await Promise.all(answers)),
      async (error: unknown) => {
        await subscription.stop(); // what is held here would wait for a handler that never comes
        throw error;
      },
    );
  }

  /** Takes no more messages, and resolves when those at work are handled and acked. */
  async stop(): Promise<void> {
    await this.#subscription.stop();
    await this.finished.catch(() => undefined); // whoever awaits `finished` hears of it
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }
}

function warn(error: unknown, message: Message): void {
  const again = backOffMs(message.attempt) / 1000;
  process.emitWarning(
    `the handler of ${message.subject} failed (attempt ${message.attempt}, again in ${again} s): ${messageOf(error)}`,
    { type: 'SwarmWarning' },
  );
}
