/**
 * What an agent is: a name, and a handler for each of the filters whose messages it takes.
 *
 * The same definition runs live in a swarm (`run`) and again from a log (`rerun`). All its filters are one durable
 * consumer, so that it hears everything in one order, the stream's.
 */
import { SwarmError } from '../base/errors.ts';
import {
  matchesPattern,
  nameGrammar,
  parsePattern,
  patternsOverlap,
  type SubjectPattern,
} from '../base/subject.ts';
import type { Calls, Context, Named, OpenContext } from './context.ts';
import type { Received } from './received.ts';

/**
 * Handles one message: when it returns the message is acked, when it throws the message comes again, later each time, until
 * it is given up.
 */
export type MessageHandler = (message: Received, context: Context) => Promise<void> | void;

/** Handlers by the filter whose messages they take. No two filters may take the same message. */
export type Handlers = Readonly<Record<string, MessageHandler>>;

export interface AgentDefinition {
  /** The agent's name in the keyring: `[A-Za-z0-9_-]`, 1 to 64. */
  readonly name: string;
  /**
   * The handlers; or a function that makes them, with whatever they remember between messages. It is called once for each
   * run of the agent, so that what is remembered begins anew, as in a new process.
   */
  readonly on: Handlers | (() => Handlers);
  /** The name under which the broker remembers what was handled. @default the agent's */
  readonly durable?: string;
  /** How many messages are handled at once, 1 or more. @default 1: one after another, in the stream's order */
  readonly concurrency?: number;
}

/** Where agents run. */
export interface AgentHost<Options, Running> {
  run(agent: DefinedAgent, options?: Options): Promise<Running>;
}

/** Where the handling of a recorded message goes on live. */
export interface BranchHost {
  readonly name: string | undefined;
  /** Returns the context in which what follows the record `from` is done, in the thread `thread`, after `calls`. */
  branch(message: Received, from: Named, thread: string, calls: Calls): OpenContext;
}

/**
 * Returns the agent so defined. Throws `USAGE` for a name that is none, for no handlers, and for two filters that take the
 * same message; `SUBJECT_INVALID` for a filter that is none.
 */
export function defineAgent(definition: AgentDefinition): DefinedAgent {
  return new DefinedAgent(definition);
}

export class DefinedAgent {
  readonly name: string;
  readonly durable: string;
  readonly concurrency: number;
  readonly #make: () => Handlers;

  /** @internal Use `defineAgent`. */
  constructor({ name, on, durable = name, concurrency = 1 }: AgentDefinition) {
    for (const [what, text] of Object.entries({ name, durable })) {
      if (nameGrammar.test(text)) continue;
      throw new SwarmError(
        'USAGE',
        `not an agent's ${what}: ${JSON.stringify(text)} (1 to 64 letters, digits, _ and -)`,
      );
    }
    if (!Number.isSafeInteger(concurrency) || concurrency < 1) {
      throw new SwarmError('USAGE', `concurrency is a whole number from 1 on, not ${concurrency}`);
    }
    this.name = name;
    this.durable = durable;
    this.concurrency = concurrency;
    if (typeof on === 'function') {
      this.#make = on;
    } else {
      new HandlerTable(name, on); // what is wrong with them is said where they are defined
      this.#make = () => on;
    }
  }

  /** Returns the agent's handlers, which remember nothing yet. Throws what `defineAgent` throws. */
  begin(): HandlerTable {
    return new HandlerTable(this.name, this.#make());
  }

  /** Runs the agent at `host`, a swarm that was joined with the agent's key. Resolves once it hears. */
  run<Options, Running>(host: AgentHost<Options, Running>, options?: Options): Promise<Running> {
    return host.run(this, options);
  }
}

/** The handlers of one run of an agent. */
export class HandlerTable {
  readonly filters: readonly SubjectPattern[];
  readonly #handlers: readonly (readonly [SubjectPattern, MessageHandler])[];

  constructor(agent: string, handlers: Handlers) {
    this.#handlers = Object.entries(handlers).map(([filter, handler]) => [parsePattern(filter), handler]);
    this.filters = this.#handlers.map(([filter]) => filter);
    if (this.filters.length === 0) throw new SwarmError('USAGE', `the agent ${agent} has no handler`);
    for (const [at, one] of this.filters.entries()) {
      const other = this.filters.slice(at + 1).find((filter) => patternsOverlap(one, filter));
      if (other === undefined) continue;
      throw new SwarmError(
        'USAGE',
        `the filters ${one} and ${other} of the agent ${agent} take the same messages: make them one, and tell apart in the handler`,
      );
    }
  }

  /** Returns the handlers, with what they remember, for the messages of one thread; without those that are of another. */
  inThread(thread: string): Handlers {
    const inIt = this.#handlers.flatMap(([filter, handler]) => {
      const [first = '', second, ...rest] = filter.split('.');
      if (second === undefined) return first === '>' ? [[`thread.${thread}.>`, handler] as const] : [];
      const isOfThreads = first === 'thread' || first === '*';
      if (!isOfThreads || (second !== '*' && second !== '>' && second !== thread)) return [];
      return [[['thread', thread, ...(second === '>' ? ['>'] : rest)].join('.'), handler] as const];
    });
    return Object.fromEntries(inIt);
  }

  /** Returns the handler that takes messages on `subject`, if any does. */
  handlerOf(subject: string): MessageHandler | undefined {
    return this.#handlers.find(([filter]) => matchesPattern(filter, subject))?.[1];
  }
}
