/**
 * The context of a handler that is run again: the record answers what it asks, and what it says is held against what it
 * said.
 *
 * A call that nothing on the record answers is where it ends: its promise never comes, and what would follow is not
 * compared. Of a handling that broke off when it was recorded that is as it was. Where somebody answers beyond the record
 * it goes on once nothing else is left to come, but only if all was as recorded until there.
 */
import { type Sha256Hex, sha256Hex } from '../base/encoding.ts';
import { type ErrorCode, SwarmError } from '../base/errors.ts';
import { parseSubject } from '../base/subject.ts';
import { Chance } from '../handler/chance.ts';
import type { Context, Named, SayOptions } from '../handler/context.ts';
import { encodePayload } from '../handler/payload.ts';
import { firstSaidAs, type Received } from '../handler/received.ts';
import { outcomeOf, recorded, requireRunning, requireStepName, type StepContent } from '../handler/step.ts';
import type { SignedRecord } from '../record/signed.ts';
import { changedFields, compareSaid, type Pair, type PayloadRule, type Said } from './compare.ts';
import { type Change, changesBetween } from './divergence.ts';
import { afterAll, type Pace } from './pace.ts';
import { unnoticed } from './purity.ts';
import type { Place, RecordedPublish } from './recorded.ts';

export interface KnownPublish {
  readonly place: RecordedPublish;
  readonly said: Said;
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
  readonly isCut: boolean;
}

export interface ReplayParts {
  readonly message: Received;
  readonly known: Known;
  readonly pace: Pace;
  /** Throws where the agent may not publish on a subject. */
  readonly requirePermission: (subject: string) => void;
  readonly rule: PayloadRule | undefined;
  /** Returns who answers, after so many steps, what the record of a handling that broke off does not. @default nobody does */
  readonly beyond?: ((calls: number) => Context) | undefined;
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
    };

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
  readonly #stepDivergences: StepDivergence[] = [];
  #steps = 0;
  #ended = false;
  #live: Context | undefined;
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

  /** Whether it went on beyond its record. */
  get isLive(): boolean {
    return this.#live !== undefined;
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
    const { known, pace, beyond } = this.#parts;
    const given = recorded(args);
    const call = this.#steps;
    this.#steps += 1;
    const ofName = [...this.#stepsLeft].filter((step) => step.name === name);
    const step = ofName.find(({ content }) => changesBetween(content.args, given).length === 0) ?? ofName[0];
    if (step === undefined) {
      if (known.isCut && beyond !== undefined && (await this.#isToldToItsEnd())) {
        return await unnoticed(() => this.#goOn(beyond, call).step(name, act, ...args));
      }
      if (!known.isCut || beyond !== undefined) {
        const inPlaceOf = [...this.#stepsLeft].find((left) => left.call === call)?.name;
        this.#stepDivergences.push({ kind: 'unrecorded', name, args: given, inPlaceOf });
      }
      return await this.#stopHere(call);
    }
    this.#stepsLeft.delete(step);
    const expected = step.content.args;
    const changes = changesBetween(expected, given);
    if (changes.length > 0) {
      this.#stepDivergences.push({ kind: 'changed', step, change: { expected, actual: given, changes } });
      if (beyond !== undefined) return await this.#stopHere(call);
    }
    await pace.turn(step.place);
    return outcomeOf(name, step.content) as Result;
  }

  async publish(subject: string, payload: unknown, options: SayOptions = {}): Promise<Named> {
    requireRunning(this.#ended);
    const { message: received, known, pace, rule, beyond, requirePermission } = this.#parts;
    const bytes = encodePayload(payload);
    const message: Said = {
      subject: parseSubject(subject),
      payload: bytes,
      payloadHash: sha256Hex(bytes),
      refs: options.refs?.map(({ leaf }) => leaf) ?? [],
      meta: options.meta ?? {},
      trace: options.trace ?? received.delivery.header.trace,
    };
    requirePermission(subject);
    const left = [...this.#publishesLeft];
    const match = left.find(({ said }) => changedFields(said, message, rule).length === 0);
    if (match === undefined && left.length === 0 && known.isCut) {
      if (beyond === undefined) return await this.#stopHere(this.#steps);
      if (await this.#isToldToItsEnd()) {
        return await unnoticed(() => this.#goOn(beyond, this.#steps).publish(subject, payload, options));
      }
    }
    this.#saidSoFar.push({ message, match });
    if (match !== undefined) this.#publishesLeft.delete(match);
    else if (beyond !== undefined) return await this.#stopHere(this.#steps);
    // What is said otherwise goes on under the leaf of what it stands for, so that one change is one divergence.
    const other = left.find((one) => one.said.subject === subject && !this.#standIns.has(one));
    if (match === undefined && other !== undefined) this.#standIns.add(other);
    const { place } = match ?? other ?? {};
    await pace.turn(place ?? known.delivery);
    if (match?.place.unsent !== undefined) throw refusal(subject, match.place.unsent);
    return { leaf: place?.said ?? leafOfExtra(received, this.#saidSoFar.length) };
  }

  /** Says that the handler has returned, or is waited for no longer. */
  end(): void {
    this.#ended = true;
  }

  /** Returns where the steps were not as recorded. */
  stepDivergences(): readonly StepDivergence[] {
    const until = this.#stoppedAt ?? Number.POSITIVE_INFINITY;
    const untaken = [...this.#stepsLeft].filter(({ call }) => call < until);
    return [...this.#stepDivergences, ...untaken.map((step) => ({ kind: 'untaken' as const, step }))];
  }

  /** Returns where the messages were not as recorded. */
  publishDivergences(): readonly Pair<KnownPublish>[] {
    const pairs = compareSaid(this.#parts.known.publishes, this.#saidSoFar, this.#parts.rule);
    return this.isStopped ? pairs.filter(({ said }) => said !== undefined) : pairs;
  }

  /** Waits until nothing on the record is left to come; reports whether all of it has come, as it was. */
  async #isToldToItsEnd(): Promise<boolean> {
    await this.#parts.pace.turn(afterAll);
    const isLeft = this.#publishesLeft.size + this.#stepsLeft.size > 0;
    return !isLeft && this.stepDivergences().length + this.publishDivergences().length === 0;
  }

  #goOn(beyond: (calls: number) => Context, calls: number): Context {
    this.#live ??= beyond(calls);
    return this.#live;
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

/** Returns how the broker's refusal was told to the handler. */
function refusal(subject: string, reason: string): SwarmError {
  const codes: Readonly<Record<string, ErrorCode>> = {
    'not-permitted': 'BUS_PERMISSION',
    clock: 'BUS_CLOCK',
    closed: 'BUS_CLOSED',
  };
  const code = codes[reason] ?? 'BUS_REFUSED';
  return new SwarmError(code, `${subject} was not taken when this was recorded: ${reason}`);
}

/** Returns a leaf for a message that was never recorded, the same each time. */
function leafOfExtra({ delivery }: Received, at: number): Sha256Hex {
  return sha256Hex(`${delivery.leaf}\n${at}`);
}
