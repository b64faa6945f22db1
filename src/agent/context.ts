/**
 * The context of a handler that runs live: what it asks of the world is asked, and on the log before the handler has it.
 * So is what its publishes throw, and in the end that it has returned, or thrown.
 */
import { sha256Hex } from '../base/encoding.ts';
import { parseSubject } from '../base/subject.ts';
import { Chance } from '../handler/chance.ts';
import type { Calls, Named, OpenContext, SayOptions } from '../handler/context.ts';
import { encodePayload } from '../handler/payload.ts';
import type { Received } from '../handler/received.ts';
import {
  callKey,
  describeThrown,
  handlerStep,
  outcomeOf,
  publishStep,
  recorded,
  requireRunning,
  requireStepName,
  type StepContent,
  stepDraft,
  thrownAgain,
  type Unsaid,
} from '../handler/step.ts';
import type { Draft } from '../record/draft.ts';

/** What a handling needs of the swarm that it happens in. */
export interface Surroundings {
  append(draft: Draft): Promise<unknown>;
  publish(subject: string, payload: unknown, options: SayOptions): Promise<Named>;
}

export class LiveContext extends Chance implements OpenContext {
  readonly #message: Received;
  readonly #surroundings: Surroundings;
  #steps: number;
  #publishes: number;
  #ended = false;

  /** `calls` are those that its handler made before, where it goes on from a log. */
  constructor(message: Received, surroundings: Surroundings, calls: Calls = { steps: 0, publishes: 0 }) {
    super(message.delivery);
    this.#message = message;
    this.#surroundings = surroundings;
    this.#steps = calls.steps;
    this.#publishes = calls.publishes;
  }

  async step<Args extends readonly unknown[], Result>(
    name: string,
    act: (...args: Args) => Result | Promise<Result>,
    ...args: Args
  ): Promise<Result> {
    requireRunning(this.#ended);
    requireStepName(name);
    const given = recorded(args);
    const call = this.#steps;
    this.#steps += 1;
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
    const to = parseSubject(subject);
    const bytes = encodePayload(payload); // what these throw they throw again
    const call = this.#publishes;
    this.#publishes += 1;
    try {
      return await this.#surroundings.publish(to, bytes, options);
    } catch (cause) {
      const unsaid: Unsaid = {
        payload_hash: sha256Hex(bytes),
        refs: options.refs?.map(({ leaf }) => leaf) ?? [],
        meta: options.meta ?? {},
        ...(options.trace !== undefined && { trace: options.trace }),
      };
      const error = describeThrown(cause);
      try {
        await this.#record(publishStep, { args: [to, unsaid], error }, call);
      } catch {
        throw cause; // the log takes nothing more, so that nothing which follows is on it
      }
      throw thrownAgain(error, cause);
    }
  }

  /** Resolves once it is on the log that the handler has returned, or threw: then its message may be answered. */
  async end(thrown?: { readonly error: unknown }): Promise<void> {
    this.#ended = true;
    await this.#record(handlerStep, thrown === undefined ? {} : { error: describeThrown(thrown.error) });
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
