/**
 * What an AGENT.STEP holds: what a handler asked of the world, with what, and what came of it.
 *
 *     {"args":[…],"result":…}                        it returned; no `result` where it returned nothing
 *     {"args":[…],"error":{"name":…,"message":…}}    it threw, and the record's reason is `error`
 *
 * A handler gets what the record says, not what the function returned: the same when it runs live and when it is run
 * again. That the handler itself has ended is recorded likewise, as the step `handler`, and that a publish threw as the
 * step `context.publish`:
 *
 *     {}                                             the handler returned
 *     {"error":{…}}                                  it threw
 *     {"args":[subject,{"payload_hash":…,"refs":[…],"meta":{…},"trace":…}],"error":{…}}    a publish threw
 */
import type { Sha256Hex } from '../base/encoding.ts';
import { type ErrorCode, errorCodes, messageOf, SwarmError } from '../base/errors.ts';
import type { Draft } from '../record/draft.ts';
import { exactly } from '../record/grammar.ts';
import { decodePayload, encodePayload } from './payload.ts';

/** The step that says that the handler returned, or threw: what came of its message before that is all that did. */
export const handlerStep = 'handler';

/** The step that says that a publish threw. */
export const publishStep = 'context.publish';

/** The meta pair that says which of a handling's steps it was, or of its publishes, counted from 0 as they were begun. */
export const callKey = 'call';

/** The meta pair that says of which run of the agent it is: the log may begin a new session while one goes on. */
export const runKey = 'run';

/** What was thrown, as a record has it. */
export interface Thrown {
  readonly name: string;
  readonly message: string;
  /** As Node's own errors and ours have one. */
  readonly code?: string;
}

export interface StepContent {
  readonly args?: readonly unknown[];
  readonly result?: unknown;
  readonly error?: Thrown;
}

const stepName = exactly('step');

/** Throws `USAGE` if a handler cannot give a step that name. */
export function requireStepName(name: string): void {
  if (name === handlerStep || name === publishStep) {
    throw new SwarmError('USAGE', `the step name ${name} is taken; choose another`);
  }
  if (stepName.test(name)) return;
  throw new SwarmError(
    'USAGE',
    `not a step name: ${JSON.stringify(name)} (1 to 64 letters, digits, "_", ".", ":" and "-")`,
  );
}

/** Returns `value` as a record will have it; throws `PAYLOAD_INVALID` where it has no JSON. */
export function recorded<Value>(value: Value): Value {
  if (value === undefined) return value;
  if (value instanceof Uint8Array) {
    throw new SwarmError(
      'PAYLOAD_INVALID',
      'what a step is given and returns is JSON: encode bytes, in base64',
    );
  }
  return decodePayload(encodePayload(value)) as Value;
}

/** Returns anything thrown as a record has it. */
export function describeThrown(thrown: unknown): Thrown {
  const name = thrown instanceof Error ? String(thrown.name) : typeof thrown;
  const code = (thrown as { code?: unknown } | null | undefined)?.code;
  return { name, message: messageOf(thrown), ...(typeof code === 'string' && { code }) };
}

/** Returns the draft of an AGENT.STEP, but for where it stands; throws `PAYLOAD_INVALID` where `content` has no JSON. */
export function stepDraft(
  step: string,
  content: StepContent,
): Pick<Draft, 'kind' | 'step' | 'payload' | 'reason'> {
  const { error } = content;
  return {
    kind: 'AGENT.STEP',
    step,
    payload: encodePayload(content),
    ...(error !== undefined && { reason: 'error' }),
  };
}

/** Returns what an AGENT.STEP's payload says; `undefined` if it is not one of ours. */
export function parseStep(payload: Uint8Array): StepContent | undefined {
  const content = decodePayload(payload);
  if (typeof content !== 'object' || content === null || content instanceof Uint8Array) return undefined;
  const { args, error } = content as StepContent;
  if (args !== undefined && !Array.isArray(args)) return undefined;
  if (error === undefined) return content;
  return typeof error.name === 'string' && typeof error.message === 'string' ? content : undefined;
}

/** What a publish was to say, but for the payload itself, which may be too large for anybody. */
export interface Unsaid {
  readonly payload_hash: Sha256Hex;
  readonly refs: readonly Sha256Hex[];
  readonly meta: Readonly<Record<string, string>>;
  readonly trace?: string;
}

/** Returns what a publish that threw was given; `undefined` if `content` says something else. */
export function parseUnsaid({ args = [] }: StepContent): (Unsaid & { readonly subject: string }) | undefined {
  const [subject, unsaid] = args as readonly [unknown, Partial<Unsaid> | null | undefined];
  const { payload_hash, refs, meta } = unsaid ?? {};
  const isWhole = typeof payload_hash === 'string' && Array.isArray(refs) && typeof meta === 'object';
  return isWhole && typeof subject === 'string' ? { ...(unsaid as Unsaid), subject } : undefined;
}

/** Returns what was thrown as a handler gets it: the same live and when it is run again. Live, `cause` is what was thrown. */
export function thrownAgain({ name, message, code }: Thrown, cause?: unknown): Error {
  if (code !== undefined && Object.hasOwn(errorCodes, code)) {
    return new SwarmError(code as ErrorCode, message, { cause });
  }
  return Object.assign(new Error(message, { cause }), { name, ...(code !== undefined && { code }) });
}

/** What a handler sees of a step that failed: the same live and when it is run again. Live, `cause` is what was thrown. */
export class StepError extends Error {
  /** The name of the step. */
  readonly step: string;
  /** What was thrown, as the record has it. */
  readonly thrown: Thrown;

  constructor(step: string, thrown: Thrown, options?: ErrorOptions) {
    super(thrown.message, options);
    this.name = 'StepError';
    this.step = step;
    this.thrown = thrown;
  }
}

/** Returns what the handler gets of step `name`; throws `StepError` where the step threw. */
export function outcomeOf(name: string, { result, error }: StepContent, cause?: unknown): unknown {
  if (error === undefined) return result;
  throw new StepError(name, error, { cause });
}

/** Throws `USAGE` where a handler that has returned goes on: nobody would hear of it when it is run again. */
export function requireRunning(hasEnded: boolean): void {
  if (!hasEnded) return;
  throw new SwarmError('USAGE', 'the handler has returned already: await what it begins');
}
