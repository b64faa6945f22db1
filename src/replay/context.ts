/**
 * The context of a handler that is run again: the record answers what it asks, and what it says is held against what it
 * said.
 *
 * A call that nothing on the record answers is where it ends: its promise never comes, and what would follow is not
 * compared. Of a handling that broke off when it was recorded that is as it was, once all that is on its record has come.
 * Where somebody answers beyond the record it goes on there, but only if all was as recorded until then.
 */
import { type Sha256Hex, sha256Hex } from '../base/encoding.ts';
import { parseSubject } from '../base/subject.ts';
import { Chance } from '../handler/chance.ts';
import type { Calls, Context, Named, OpenContext, SayOptions } from '../handler/context.ts';
import { encodePayload } from '../handler/payload.ts';
import { firstSaidAs, type Received } from '../handler/received.ts';
import {
  outcomeOf,
  recorded,
  requireRunning,
  requireStepName,
  type StepContent,
  type Thrown,
  thrownAgain,
} from '../handler/step.ts';
import type { SignedRecord } from '../record/signed.ts';
import { changedFields, compareSaid, type Pair, type PayloadRule, type Said } from './compare.ts';
import { type Change, changesBetween } from './divergence.ts';
import { afterAll, type Pace } from './pace.ts';
import { unnoticed } from './purity.ts';
import type { Place } from './recorded.ts';

/** What a handler said, or tried to. */
export interface KnownPublish {
  readonly place: Place;
  readonly said: Said;
  /** The record that the handler was told of. */
  readonly leaf: Sha256Hex;
  /** What it threw, if it did. */
  readonly failure: { readonly place: Place; readonly thrown: Thrown } | undefined;
}

export interface KnownStep {
  readonly place: Place;
  readonly name: string;
  /** Which of the handling's steps it was. */
  readonly call: number;
  readonly content: StepContent;
}

/** What is known of a handling. */
export interface Known {
  readonly delivery: Place;
  readonly publishes: readonly KnownPublish[];
  readonly steps: readonly KnownStep[];
  /** Whether the handler returned, or threw. */
  readonly hasEnded: boolean;
}

export interface ReplayParts {
  readonly message: Received;
  readonly known: Known;
  readonly pace: Pace;
  /** Throws where the agent may not publish on a subject. */
  readonly requirePermission: (subject: string) => void;
  readonly rule: PayloadRule | undefined;
  /** Returns who answers, after so many calls, what the record of a handling that broke off does not. @default nobody does */
  readonly beyond?: ((calls: Calls) => OpenContext) | undefined;
}

/** A step otherwise than it was. */
export type StepDivergence =
  | { readonly kind: 'changed'; readonly step: KnownStep; readonly change: StepChange }
  | { readonly kind: 'untaken'; readonly step: KnownStep }
  | {
      readonly kind: 'unrecorded';
      readonly name: string;
      readonly args: unknown;
      /** The step that was taken there, if any. */
      readonly inPlaceOf: string | undefined;
      /** What the step was given whose answer it got, if any. */
      readonly answeredAs: unknown;
    };

/** A step that was taken, given what none on the record was given. */
interface StepOtherwise {
  readonly name: string;
  readonly args: unknown;
  readonly inPlaceOf: string | undefined;
  /** One of its name that was not taken until then. */
  readonly other: KnownStep | undefined;
}

interface StepChange {
  readonly expected: unknown;
  readonly actual: unknown;
  readonly changes: readonly Change[];
}

export class ReplayContext extends Chance implements Context {
  readonly #parts: ReplayParts;
  readonly #saidSoFar: { readonly message: Said; readonly match: KnownPublish | undefined }[] = [];
  readonly #publishesLeft: Set<KnownPublish>;
  readonly #stepsLeft: Set<KnownStep>;
  /** What something said otherwise stands for already. */
  readonly #standIns = new Set<KnownPublish>();
  readonly #stepStandIns = new Set<KnownStep>();
  readonly #stepsOtherwise: StepOtherwise[] = [];
  #steps = 0;
  #ended = false;
  #live: OpenContext | undefined;
  /** The call that nothing answers, counted as steps are; it is waited for no longer. */
  #stoppedAt: number | undefined;
  #stop: () => void = () => undefined;
  /** Resolves where nothing on the record answers a call. */
  readonly stopped: Promise<void>;

  constructor(parts: ReplayParts) {
    super(parts.message.delivery);
    this.#parts = parts;
    this.#publishesLeft = new Set(parts.known.publishes);
    this.#stepsLeft = new Set(parts.known.steps);
    this.stopped = new Promise((resolve) => {
      this.#stop = resolve;
    });
  }

  get isStopped(): boolean {
    return this.#stoppedAt !== undefined;
  }

  /** Who answers beyond its record, where it went on there. */
  get live(): OpenContext | undefined {
    return this.#live;
  }

  /** Whether all that is on the record has come, be it otherwise. */
  get isTold(): boolean {
    return this.#isSaid && [...this.#stepsLeft].every((step) => this.#stepStandIns.has(step));
  }

  /** How many steps were taken. */
  get steps(): number {
    return this.#steps;
  }

  /** What was said, in its order. */
  get said(): readonly Said[] {
    return this.#saidSoFar.map(({ message }) => message);
  }

  async step<Args extends readonly unknown[], Result>(
    name: string,
    act: (...args: Args) => Result | Promise<Result>,
    ...args: Args
  ): Promise<Result> {
    requireRunning(this.#ended);
    requireStepName(name);
    const { pace, beyond } = this.#parts;
    const given = recorded(args);
    const call = this.#steps;
    this.#steps += 1;
    const step = [...this.#stepsLeft].find(
      (left) => left.name === name && changesBetween(left.content.args, given).length === 0,
    );
    if (step !== undefined) {
      this.#stepsLeft.delete(step);
      await pace.turn(step.place);
      return outcomeOf(name, step.content) as Result;
    }
    const live = await this.#beyondRecord(call);
    if (live !== undefined) return await unnoticed(() => live.step(name, act, ...args));
    // What is asked otherwise is answered as what it stands for, so that one change is one divergence.
    const left = [...this.#stepsLeft];
    const other = left.find((one) => one.name === name && !this.#stepStandIns.has(one));
    const inPlaceOf = left.find((one) => one.call === call)?.name;
    this.#stepsOtherwise.push({ name, args: given, inPlaceOf, other });
    if (other === undefined || beyond !== undefined) return await this.#stopHere(call);
    this.#stepStandIns.add(other);
    await pace.turn(other.place);
    return outcomeOf(name, other.content) as Result;
  }

  async publish(subject: string, payload: unknown, options: SayOptions = {}): Promise<Named> {
    requireRunning(this.#ended);
    const { message: received, known, pace, beyond, requirePermission } = this.#parts;
    const bytes = encodePayload(payload);
    const message: Said = {
      subject: parseSubject(subject),
      payload: bytes,
      payloadHash: sha256Hex(bytes),
      refs: options.refs?.map(({ leaf }) => leaf) ?? [],
      meta: options.meta ?? {},
      trace: options.trace ?? received.delivery.header.trace,
    };
    const match = this.#recordedAs(message);
    if (match === undefined) {
      const live = this.#isSaid ? await this.#beyondRecord(this.#steps) : undefined;
      if (live !== undefined) return await unnoticed(() => live.publish(subject, payload, options));
      requirePermission(subject);
    }
    const left = [...this.#publishesLeft];
    this.#saidSoFar.push({ message, match });
    if (match !== undefined) this.#publishesLeft.delete(match);
    else if (beyond !== undefined) return await this.#stopHere(this.#steps);
    // What is said otherwise goes on under the leaf of what it stands for, so that one change is one divergence.
    const other = left.find((one) => one.said.subject === subject && !this.#standIns.has(one));
    if (match === undefined && other !== undefined) this.#standIns.add(other);
    const { place, leaf, failure } = match ?? other ?? {};
    await pace.turn(failure?.place ?? place ?? known.delivery);
    if (failure !== undefined) throw thrownAgain(failure.thrown);
    return { leaf: leaf ?? leafOfExtra(received, this.#saidSoFar.length) };
  }

  /** Says that the handler has returned, or is waited for no longer. */
  end(): void {
    this.#ended = true;
  }

  /** Returns where the steps were not as recorded. */
  stepDivergences(): readonly StepDivergence[] {
    const until = this.#stoppedAt ?? Number.POSITIVE_INFINITY;
    const left = new Set(this.#stepsLeft);
    const divergences = this.#stepsOtherwise.map(({ name, args, inPlaceOf, other }): StepDivergence => {
      const inOrder = [...left].find((step) => step.name === name && step.call < until);
      const step = other !== undefined && left.has(other) ? other : inOrder;
      if (step === undefined) {
        const there = inPlaceOf === name ? undefined : inPlaceOf;
        return { kind: 'unrecorded', name, args, inPlaceOf: there, answeredAs: other?.content.args };
      }
      left.delete(step);
      const expected = step.content.args;
      const changes = changesBetween(expected, args);
      return { kind: 'changed', step, change: { expected, actual: args, changes } };
    });
    const untaken = [...left].filter(({ call }) => call < until);
    return [...divergences, ...untaken.map((step) => ({ kind: 'untaken' as const, step }))];
  }

  /** Returns where the messages were not as recorded. */
  publishDivergences(): readonly Pair<KnownPublish>[] {
    const pairs = compareSaid(this.#parts.known.publishes, this.#saidSoFar, this.#parts.rule);
    return this.isStopped ? pairs.filter(({ said }) => said !== undefined) : pairs;
  }

  get #isSaid(): boolean {
    return [...this.#publishesLeft].every((publish) => this.#standIns.has(publish));
  }

  /**
   * Waits, in a handling that broke off, until nothing else is left to come. Where all of its record has come then it goes no
   * further; or who answers beyond the record is returned, if all came as it was.
   */
  async #beyondRecord(call: number): Promise<Context | undefined> {
    const { known, pace, beyond } = this.#parts;
    if (known.hasEnded) return undefined;
    await pace.turn(afterAll);
    requireRunning(this.#ended);
    if (!this.isTold) return undefined;
    if (beyond === undefined) return await this.#stopHere(call);
    if (this.stepDivergences().length + this.publishDivergences().length > 0) return undefined;
    const publishes = this.#saidSoFar.length;
    this.#live ??= beyond({ steps: call, publishes });
    return this.#live;
  }

  /** Returns the recorded message that `message` is: one that is the same down to its bytes before one that is by the rule. */
  #recordedAs(message: Said): KnownPublish | undefined {
    const left = [...this.#publishesLeft];
    return (
      left.find(({ said }) => changedFields(said, message).length === 0) ??
      left.find(({ said }) => changedFields(said, message, this.#parts.rule).length === 0)
    );
  }

  #stopHere(call: number): Promise<never> {
    this.#stoppedAt = call;
    this.#stop();
    return new Promise<never>(() => undefined);
  }
}

/** Returns what a recorded PUBLISH said, as a handler would say it. */
export function saidIn({ header, payload }: SignedRecord): Said {
  const { [firstSaidAs]: _, ...meta } = header.meta ?? {};
  return {
    subject: header.subject,
    payload,
    payloadHash: header.payloadHash,
    refs: header.refs ?? [],
    meta,
    trace: header.trace,
  };
}

/** Returns a leaf for a message that was never recorded, the same each time. */
function leafOfExtra({ delivery }: Received, at: number): Sha256Hex {
  return sha256Hex(`${delivery.leaf}\n${at}`);
}
