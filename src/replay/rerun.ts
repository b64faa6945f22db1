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
import type { Context } from '../handler/context.ts';
import type { DefinedAgent, HandlerTable } from '../handler/definition.ts';
import { Received } from '../handler/received.ts';
import { callKey, describeThrown, parseStep, type Thrown } from '../handler/step.ts';
import type { Agent, Keyring } from '../identity/keyring.ts';
import type { SignedRecord } from '../record/signed.ts';
import type { Anchor } from '../verify/anchors.ts';
import type { PayloadRule } from './compare.ts';
import { type Known, type KnownPublish, type KnownStep, ReplayContext, saidIn } from './context.ts';
import type { Divergence } from './divergence.ts';
import { Findings, type Handled } from './findings.ts';
import { Pace } from './pace.ts';
import { type ImpureCall, ImpureCalls, noticed, watchPurity } from './purity.ts';
import {
  diedUnhandled,
  lastWithTrace,
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
  /** How many messages the handlers said. */
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
  return await withRecorded(agent, path, options, async (log, itself) => {
    const run = new Rerun(agent, itself, options);
    for (const { handlings } of log.sessions) await run.session(handlings, agent.begin());
    const report = run.report(log.sessions.length);
    if (report.deliveries > 0 || options.thread === undefined) return report;
    throw new SwarmError(
      'RECORD_MISSING',
      `the log ${path} has no delivery to ${agent.name} in the thread ${options.thread}`,
    );
  });
}

/** Verifies the log at `path`, and calls `use` with what of it is the agent's. Throws what `rerun` throws. */
export async function withRecorded<Result>(
  agent: DefinedAgent,
  path: string,
  { keyring, until, anchors }: RerunOptions,
  use: (log: RecordedLog, itself: Agent) => Promise<Result>,
): Promise<Result> {
  using verified = await soundLog(path, { keyring, ...(anchors && { anchors }) });
  const itself = agentIn(keyring, agent.name);
  const log = await readRecorded(verified, {
    keys: new Set(itself.keys.map(({ record }) => record)),
    durable: agent.durable,
    concurrency: agent.concurrency,
    until,
  });
  requireDeliveries(agent, path, log);
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
  readonly publishes: number;
  readonly steps: number;
  /** What goes into the digest. */
  readonly lines: readonly string[];
}

interface Surroundings {
  readonly handlers: HandlerTable;
  readonly pace: Pace;
  /** Whether the log has nothing but the deliveries of those after it, and perhaps of itself. */
  readonly isAtEnd: Handled['isAtEnd'];
  readonly beyond: ((message: Received, calls: number) => Context) | undefined;
}

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

  /** Handles a session's deliveries, as many at once as the agent does; the last one goes on `beyond` its record. */
  async session(
    handlings: readonly RecordedHandling[],
    handlers: HandlerTable,
    beyond?: (message: Received, calls: number) => Context,
  ): Promise<void> {
    const pace = new Pace();
    const queue = handlings.entries();
    const lastTraced = lastWithTrace(handlings);
    const work = async (): Promise<void> => {
      for (const [at, handling] of queue) {
        if (diedUnhandled(handling)) continue;
        await this.#handle(handling, {
          handlers,
          pace,
          isAtEnd: at < lastTraced ? undefined : at === lastTraced ? 'with-trace' : 'traceless',
          beyond: at === handlings.length - 1 ? beyond : undefined,
        });
      }
    };
    await Promise.all(Array.from({ length: this.#agent.concurrency }, work));
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
      publishes: sum(outcomes, ({ publishes }) => publishes),
      steps: sum(outcomes, ({ steps }) => steps),
      divergences: outcomes.flatMap(({ divergences }) => divergences),
      impure: this.#impure.list,
      digest: digest.digest('hex') as Sha256Hex,
    };
  }

  async #handle(
    handling: RecordedHandling,
    { handlers, pace, isAtEnd, beyond }: Surroundings,
  ): Promise<void> {
    const { thread, returnWithinMs = 10_000, payloads } = this.#options;
    const { record: delivery, received } = this.#deliveryOf(handling);
    const { threadId, subject } = delivery.header;
    if (thread !== undefined && thread !== threadId) return;
    const index = this.#outcomes.length;
    this.#outcomes.push(nothing);
    const findings = new Findings({ index, delivery: handling.delivery, threadId, subject, isAtEnd });
    const finish = (outcome: Omit<Outcome, 'divergences'>): void => {
      this.#outcomes[index] = { ...outcome, divergences: findings.list };
    };
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
    const known = this.#knownOf(handling, findings);
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
          () => ({ thrown: undefined }),
          (error: unknown) => {
            if (context.isLive) throw error;
            return { thrown: describeThrown(error) };
          },
        ),
        context.stopped,
        beyond === undefined ? returnWithinMs : undefined,
      ),
    );
    context.end();
    for (const divergence of context.stepDivergences()) findings.addStep(divergence);
    for (const pair of context.publishDivergences()) findings.addPublish(pair);
    if (ended === 'late') {
      const detail = `the handler did not return within ${returnWithinMs / 1000} s: it waits for something that is no step`;
      findings.add('no-return', { detail });
    } else if (ended !== 'stopped') {
      const expected = this.#thrownIn(handling);
      const isOpen = handling.isCut && handling.thrown === undefined;
      if (!isOpen) findings.addThrown(expected, ended.thrown, handling.thrown);
    }
    const thrown = typeof ended === 'string' ? ended : JSON.stringify(ended.thrown ?? null);
    finish({
      publishes: context.said.length,
      steps: context.steps,
      lines: [
        delivery.leaf,
        ...context.said.map((said) => [said.subject, said.payloadHash, ...said.refs].join(' ')),
        `${context.steps} ${thrown}`,
      ],
    });
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

  #knownOf(handling: RecordedHandling, findings: Findings): Known {
    const { delivery, isCut } = handling;
    const publishes: KnownPublish[] = [];
    for (const place of handling.publishes) {
      publishes.push({ place, said: saidIn(readRecord(place)) });
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
      steps.push({ place, name, call: Number(header.meta?.[callKey] ?? 0), content });
    }
    steps.sort((one, other) => one.call - other.call);
    return { delivery, publishes, steps, isCut };
  }

  #thrownIn({ thrown }: RecordedHandling): Thrown | undefined {
    const payload = thrown && readRecord(thrown).payload;
    return payload && parseStep(payload)?.error;
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
const nothing: Outcome = { divergences: [], publishes: 0, steps: 0, lines: [] };

/** Waits for `work`, but no longer than until `stopped`, or for `ms` where given. */
async function raced<Result>(
  work: Promise<Result>,
  stopped: Promise<void>,
  ms: number | undefined,
): Promise<Result | 'stopped' | 'late'> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<'late'>((resolve) => {
    if (ms !== undefined) timer = setTimeout(() => resolve('late'), ms);
  });
  try {
    return await Promise.race([work, stopped.then(() => 'stopped' as const), late]);
  } finally {
    clearTimeout(timer);
  }
}

function sum<One>(all: readonly One[], of: (one: One) => number): number {
  return all.reduce((total, one) => total + of(one), 0);
}
