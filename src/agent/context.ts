/**
 * The context of a handler that runs live: what it asks of the world is asked, and on the log before the handler has it.
 */
import { Chance } from '../handler/chance.ts';
import type { Context, Named, SayOptions } from '../handler/context.ts';
import type { Received } from '../handler/received.ts';
import {
  callKey,
  describeThrown,
  handlerStep,
  outcomeOf,
  recorded,
  requireRunning,
  requireStepName,
  type StepContent,
  stepDraft,
} from '../handler/step.ts';
import type { Draft } from '../record/draft.ts';

/** What a handling needs of the swarm that it happens in. */
export interface Surroundings {
  append(draft: Draft): Promise<unknown>;
  publish(subject: string, payload: unknown, options: SayOptions): Promise<Named>;
}

export class LiveContext extends Chance implements Context {
  readonly #message: Received;
  readonly #surroundings: Surroundings;
  #calls: number;
  #ended = false;

  /** `calls` is how many steps its handler took before, where it goes on from a log. */
  constructor(message: Received, surroundings: Surroundings, calls = 0) {
    super(message.delivery);
    this.#message = message;
    this.#surroundings = surroundings;
    this.#calls = calls;
  }

  async step<Args extends readonly unknown[], Result>(
    name: string,
    act: (...args: Args) => Result | Promise<Result>,
    ...args: Args
  ): Promise<Result> {
    requireRunning(this.#ended);
    requireStepName(name);
    const given = recorded(args);
    const call = this.#calls;
    this.#calls += 1;
    let content: StepContent;
    let cause: unknown;
    try {
      content = { args: given, result: recorded(await act(...args)) };
    } catch (thrown) {
      content = { args: given, error: describeThrown(thrown) };
      cause = thrown;
    }
    await this.#record(name, content, call);
    return outcomeOf(name, content, cause) as Result;
  }

  async publish(subject: string, payload: unknown, options: SayOptions = {}): Promise<Named> {
    requireRunning(this.#ended);
    return await this.#surroundings.publish(subject, payload, options);
  }

  /** Says that the handler has returned, or records that it threw. */
  async end(thrown?: { readonly error: unknown }): Promise<void> {
    this.#ended = true;
    if (thrown !== undefined) await this.#record(handlerStep, { error: describeThrown(thrown.error) });
  }

  async #record(name: string, content: StepContent, call?: number): Promise<void> {
    const { subject, trace } = this.#message.delivery.header;
    await this.#surroundings.append({
      ...stepDraft(name, content),
      subject,
      cause: this.#message.delivery.leaf,
      trace,
      ...(call !== undefined && { meta: { [callKey]: String(call) } }),
    });
  }
}
