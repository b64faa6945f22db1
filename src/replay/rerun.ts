/**
 * Runs an agent again from a log: the recorded deliveries in their recorded order, what its handlers ask answered from the
 * record, what they say held against what they said.
 *
 * No network, no clock, no model: whoever has the log, the keyring and the agent's code gets the same answer. A log that
 * does not prove itself is refused.
 */
import { createHash } from 'node:crypto';
import type { Sha256Hex } from '../base/encoding.ts';
import { SwarmError } from '../base/errors.ts';
import { clearTimeout, setTimeout } from '../base/real-timers.ts';
import type { Calls, OpenContext } from '../handler/context.ts';
import type { DefinedAgent, HandlerTable } from '../handler/definition.ts';
import { Received } from '../handler/received.ts';
import { callKey, describeThrown, parseStep, parseUnsaid, type Thrown } from '../handler/step.ts';
import type { Agent, Keyring } from '../identity/keyring.ts';
import type { Header } from '../record/header.ts';
import type { SignedRecord } from '../record/signed.ts';
import type { Anchor } from '../verify/anchors.ts';
import type { VerifiedFiles } from '../verify/verified-files.ts';
import { changedFields, type PayloadRule, type Said } from './compare.ts';
import { type Known, type KnownPublish, type KnownStep, ReplayContext, saidIn } from './context.ts';
import type { Divergence } from './divergence.ts';
import { Findings } from './findings.ts';
import { Pace } from './pace.ts';
import { type ImpureCall, ImpureCalls, noticed, watchPurity } from './purity.ts';
import {
  lastWithTrace,
  type Place,
  type RecordedHandling,
  type RecordedLog,
  readRecord,
  readRecorded,
} from './recorded.ts';
import { soundLog } from './sound.ts';

export interface RerunOptions {
  /** Whose keys are whose: the agent is looked up by its name, senders by their keys. */
  readonly keyring: Keyring;
  /** Handle only the deliveries of this thread. @default all */
  readonly thread?: string;
  /** The last record that counts; what was under way there is not told to its end. @default the log's last */
  readonly until?: Sha256Hex;
  /** How long a handler may take, in ms. @default 10000 */
  readonly returnWithinMs?: number;
  /** Checkpoints that were kept elsewhere, to hold the log against. @default none */
  readonly anchors?: readonly Anchor[];
  /** Says which differences of a payload count. @default all, down to its bytes */
  readonly payloads?: PayloadRule;
}

export interface RerunReport {
  readonly agent: string;
  /** How many runs of the agent the log holds. */
  readonly sessions: number;
  /** How many deliveries were handled again. */
  readonly deliveries: number;
  /** How many of these broke off when they were recorded, or at `until`: they were compared as far as their record goes. */
  readonly brokenOff: number;
  /** How many messages the handlers said, or tried to say. */
  readonly publishes: number;
  /** How many steps they took. */
  readonly steps: number;
  /** In the order of the deliveries. */
  readonly divergences: readonly Divergence[];
  /** Calls of the clock, of chance and of the network past the context. */
  readonly impure: readonly ImpureCall[];
  /**
   * SHA-256 over what the handlers did: the same for the same log and the same handlers. Over the lines of each delivery in
   * its order: its leaf, each message said (`subject payload_hash refs…`), the number of steps, and what was thrown.
   */
  readonly digest: Sha256Hex;
}

/**
 * Runs `agent` again from the log at `path`. Throws `LOG_REFUSED` for a log that does not verify, `KEYRING_INVALID` where
 * the keyring has no such agent, `RECORD_MISSING` where the log has nothing for it, `LOG_OPEN`.
 */
export async function rerun(agent: DefinedAgent, path: string, options: RerunOptions): Promise<RerunReport> {
  using verified = await verifiedBy(options, path);
  return await rerunFrom(verified, agent, options);
}

/** Verifies the log at `path`, by the keyring and checkpoints of `options`. Throws `LOG_REFUSED`, `LOG_OPEN`. */
export function verifiedBy({ keyring, anchors }: RerunOptions, path: string): Promise<VerifiedFiles> {
  return soundLog(path, { keyring, ...(anchors && { anchors }) });
}

/** Runs `agent` again from a log that was verified, as `rerun` does. */
export async function rerunFrom(
  verified: VerifiedFiles,
  agent: DefinedAgent,
  options: RerunOptions,
): Promise<RerunReport> {
  return await withRecorded(agent, verified, options, async (log, itself) => {
    const run = new Rerun(agent, itself, options);
    for (const { handlings } of log.sessions) await run.session(handlings, agent.begin());
    const report = run.report(log.sessions.length);
    if (report.deliveries > 0 || options.thread === undefined) return report;
    throw new SwarmError(
      'RECORD_MISSING',
      `the log ${verified.path} has no delivery to ${agent.name} in the thread ${options.thread}`,
    );
  });
}

/** Calls `use` with what of a verified log is the agent's. Throws what `rerun` throws. */
export async function withRecorded<Result>(
  agent: DefinedAgent,
  verified: VerifiedFiles,
  { keyring, until }: RerunOptions,
  use: (log: RecordedLog, itself: Agent) => Promise<Result>,
): Promise<Result> {
  const itself = agentIn(keyring, agent.name);
  const log = await readRecorded(verified, {
    keys: new Set(itself.keys.map(({ record }) => record)),
    durable: agent.durable,
    until,
  });
  requireDeliveries(agent, verified.path, log);
  const unwatch = watchPurity();
  try {
    return await use(log, itself);
  } finally {
    unwatch();
  }
}

function agentIn(keyring: Keyring, name: string): Agent {
  const agent = keyring.agents.find((one) => one.name === name);
  if (agent !== undefined) return agent;
  const others = keyring.agents.map((one) => one.name).join(', ');
  throw new SwarmError('KEYRING_INVALID', `the keyring has no agent ${name}, only ${others || 'none'}`);
}

function requireDeliveries(agent: DefinedAgent, path: string, { sessions, durables }: RecordedLog): void {
  if (sessions.length > 0) return;
  const others = [...durables].map(([name, count]) => `${count} under the durable ${name}`).join(', ');
  throw new SwarmError(
    'RECORD_MISSING',
    `the log ${path} has no delivery to ${agent.name} under the durable ${agent.durable}${others && `, but ${others}`}`,
  );
}

interface Outcome {
  readonly divergences: readonly Divergence[];
  readonly isBrokenOff: boolean;
  readonly publishes: number;
  readonly steps: number;
  /** What goes into the digest. */
  readonly lines: readonly string[];
}

interface Surroundings {
  readonly handlers: HandlerTable;
  readonly pace: Pace;
  readonly beyond: Beyond | undefined;
}

/** Returns who answers after the record of a message's handling, and so many calls. */
type Beyond = (message: Received, calls: Calls) => OpenContext;

/** An agent being run again. */
export class Rerun {
  readonly #agent: DefinedAgent;
  readonly #itself: Agent;
  readonly #options: RerunOptions;
  readonly #outcomes: Outcome[] = [];
  readonly #impure = new ImpureCalls();

  constructor(agent: DefinedAgent, itself: Agent, options: RerunOptions) {
    this.#agent = agent;
    this.#itself = itself;
    this.#options = options;
  }

  /**
   * Handles a session's deliveries, as many at once as the agent does; the last one goes on `beyond` its record. One that
   * broke off keeps its place, as it did then: when as many have as the agent does at once, no other was begun.
   */
  async session(
    handlings: readonly RecordedHandling[],
    handlers: HandlerTable,
    beyond?: Beyond,
  ): Promise<void> {
    const pace = new Pace();
    let begun = 0;
    const work = async (): Promise<void> => {
      for (let hasEnded = true; hasEnded; ) {
        const handling = handlings[begun];
        if (handling === undefined) return;
        begun += 1;
        const isLast = begun === handlings.length;
        await this.#handle(handling, { handlers, pace, beyond: isLast ? beyond : undefined });
        hasEnded = handling.ended !== undefined;
      }
    };
    const last = lastWithTrace(handlings);
    // It did more at once then than it does now, if the record has more.
    do await Promise.all(Array.from({ length: this.#agent.concurrency }, work));
    while (begun <= last);
  }

  /** Returns what was done until now, in so many sessions. */
  report(sessions: number): RerunReport {
    const outcomes = this.#outcomes;
    const digest = createHash('sha256');
    for (const { lines } of outcomes) for (const line of lines) digest.update(`${line}\n`);
    return {
      agent: this.#agent.name,
      sessions,
      deliveries: outcomes.length,
      brokenOff: outcomes.filter(({ isBrokenOff }) => isBrokenOff).length,
      publishes: sum(outcomes, ({ publishes }) => publishes),
      steps: sum(outcomes, ({ steps }) => steps),
      divergences: outcomes.flatMap(({ divergences }) => divergences),
      impure: this.#impure.list,
      digest: digest.digest('hex') as Sha256Hex,
    };
  }

  async #handle(handling: RecordedHandling, { handlers, pace, beyond }: Surroundings): Promise<void> {
    const { thread, returnWithinMs = 10_000, payloads } = this.#options;
    const { record: delivery, received } = this.#deliveryOf(handling);
    const { threadId, subject } = delivery.header;
    if (thread !== undefined && thread !== threadId) return;
    const index = this.#outcomes.length;
    this.#outcomes.push(nothing);
    const findings = new Findings({ index, delivery: handling.delivery, threadId, subject });
    const isBrokenOff = handling.ended === undefined;
    const finish = (outcome: Omit<Outcome, 'divergences' | 'isBrokenOff'>): void => {
      this.#outcomes[index] = { ...outcome, isBrokenOff, divergences: findings.list };
    };
    await pace.turn(handling.called ?? handling.delivery);
    if (received === undefined) {
      findings.add('withheld', {
        detail: `the payload of ${subject} is withheld: it cannot be handled again`,
      });
      finish(nothing);
      return;
    }
    const handler = handlers.handlerOf(subject);
    if (handler === undefined) {
      findings.add('no-handler', { detail: `no filter of ${this.#agent.name} takes ${subject}` });
      finish(nothing);
      return;
    }
    const known = this.#knownOf(handling, delivery.header.trace, findings);
    const context = new ReplayContext({
      message: received,
      known,
      pace,
      rule: payloads,
      requirePermission: (to) => this.#requirePermission(to),
      beyond: beyond && ((calls) => beyond(received, calls)),
    });
    const ended = await noticed(this.#impure, () =>
      raced(
        (async () => await handler(received, context))().then(
          () => ({}),
          (error: unknown) => ({ thrown: error }),
        ),
        context,
        returnWithinMs,
      ),
    );
    context.end();
    if (context.live !== undefined && typeof ended === 'object') {
      await context.live.end('thrown' in ended ? { error: ended.thrown } : undefined);
      if ('thrown' in ended) throw ended.thrown;
    }
    const thrown = typeof ended === 'object' && 'thrown' in ended ? describeThrown(ended.thrown) : undefined;
    for (const divergence of context.stepDivergences()) findings.addStep(divergence);
    for (const pair of context.publishDivergences()) findings.addPublish(pair);
    const wasNoLater = isBrokenOff && context.isTold && beyond === undefined;
    if (ended === 'late' && !wasNoLater) {
      const detail = `the handler did not return within ${returnWithinMs / 1000} s: it waits for something that is no step`;
      findings.add('no-return', { detail });
    } else if (typeof ended === 'object' && handling.ended !== undefined) {
      this.#compareEnd(handling.ended, thrown, findings);
    }
    const end = typeof ended === 'string' ? ended : JSON.stringify(thrown ?? null);
    finish({
      publishes: context.said.length,
      steps: context.steps,
      lines: [
        delivery.leaf,
        ...context.said.map((said) => [said.subject, said.payloadHash, ...said.refs].join(' ')),
        `${context.steps} ${end}`,
      ],
    });
    if (handling.ended !== undefined) await pace.turn(handling.ended);
  }

  /** Returns a delivery's record, and the message as its handler had it; `undefined` where its payload is withheld. */
  #deliveryOf({ delivery: place }: RecordedHandling): {
    readonly record: SignedRecord;
    readonly received: Received | undefined;
  } {
    const record = readRecord(place);
    const { received: said, payload } = record;
    if (said === undefined || payload === undefined) return { record, received: undefined };
    const sender = this.#options.keyring.find(said.header.signer)?.agent;
    if (sender === undefined) {
      throw new SwarmError(
        'KEYRING_INVALID',
        `the keyring does not have the key ${said.header.signer} of who said ${place.file}:${place.line}`,
      );
    }
    return { record, received: new Received({ record: said, delivery: record, sender, data: payload }) };
  }

  #knownOf(handling: RecordedHandling, trace: string | undefined, findings: Findings): Known {
    const { delivery, ended } = handling;
    const publishes: KnownPublish[] = handling.publishes.map((place) => {
      return { place, said: saidIn(readRecord(place)), leaf: place.said, failure: undefined };
    });
    for (const { call, ...failed } of this.#failuresOf(handling, trace, findings)) {
      // It threw once it was on the log, or before that.
      const logged = publishes[call];
      const isLogged =
        logged !== undefined &&
        logged.place.order < failed.place.order &&
        changedFields(logged.said, failed.said).length === 0;
      if (isLogged) publishes[call] = { ...logged, failure: failed.failure };
      else publishes.splice(call, 0, failed);
    }
    const steps: KnownStep[] = [];
    for (const place of handling.steps) {
      const { header, payload } = readRecord(place);
      const content = payload && parseStep(payload);
      const name = header.step ?? '';
      if (content === undefined) {
        findings.add('withheld', { detail: `what step ${name} returned is withheld` }, place);
        continue;
      }
      steps.push({ place, name, call: callOf(header), content });
    }
    steps.sort((one, other) => one.call - other.call);
    return { delivery, publishes, steps, hasEnded: ended !== undefined };
  }

  /** Returns the publishes that threw, in the order in which they were begun. */
  #failuresOf(
    { failures }: RecordedHandling,
    trace: string | undefined,
    findings: Findings,
  ): readonly (KnownPublish & { readonly call: number })[] {
    const failed: (KnownPublish & { readonly call: number })[] = [];
    for (const place of failures) {
      const { header, payload } = readRecord(place);
      const content = payload && parseStep(payload);
      const unsaid = content && parseUnsaid(content);
      if (content?.error === undefined || unsaid === undefined) {
        findings.add('withheld', { detail: 'what a publish threw is withheld' }, place);
        continue;
      }
      const { subject, payload_hash: payloadHash, refs, meta } = unsaid;
      const said: Said = {
        subject,
        payload: undefined,
        payloadHash,
        refs,
        meta,
        trace: unsaid.trace ?? trace,
      };
      failed.push({
        call: callOf(header),
        place,
        said,
        leaf: place.leaf,
        failure: { place, thrown: content.error },
      });
    }
    return failed.sort((one, other) => one.call - other.call);
  }

  /** Holds how the handler ended against how it did when it was recorded. */
  #compareEnd(place: Place, thrown: Thrown | undefined, findings: Findings): void {
    const { header, payload } = readRecord(place);
    const expected = payload && parseStep(payload)?.error;
    if (header.reason !== undefined && expected === undefined) {
      findings.add('withheld', { detail: 'what the handler threw is withheld' }, place);
    } else {
      findings.addThrown(expected, thrown, place);
    }
  }

  #requirePermission(subject: string): void {
    if (this.#options.keyring.mayPublish(this.#itself, subject)) return;
    throw new SwarmError(
      'PUBLISH_NOT_PERMITTED',
      `the keyring does not let ${this.#itself.name} publish on ${subject}`,
    );
  }
}

/** Nothing was done. */
const nothing: Outcome = { divergences: [], isBrokenOff: false, publishes: 0, steps: 0, lines: [] };

/** Returns which of its handling's steps, or publishes, a record is of. */
function callOf({ meta }: Header): number {
  return Number(meta?.[callKey] ?? 0);
}

/** Waits for `work`, but no longer than until `context` is stopped, or for `ms` where it does not go on live. */
async function raced<Result>(
  work: Promise<Result>,
  context: ReplayContext,
  ms: number,
): Promise<Result | 'stopped' | 'late'> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<'late'>((resolve) => {
    timer = setTimeout(() => context.live ?? resolve('late'), ms);
  });
  try {
    return await Promise.race([work, context.stopped.then(() => 'stopped' as const), late]);
  } finally {
    clearTimeout(timer);
  }
}

function sum<One>(all: readonly One[], of: (one: One) => number): number {
  return all.reduce((total, one) => total + of(one), 0);
}
