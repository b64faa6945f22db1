/**
 * `joinSwarm`: an agent's place in the swarm, with the promises of docs/architecture.md.
 *
 * Nothing is sent that is not on disk; nothing is heard that is not on disk; what reaches a handler was signed by a
 * key that the keyring lets speak there. Opening order: keys, broker, log. Closing order: deliveries, publishes,
 * connection, log.
 */
import { randomBytes } from 'node:crypto';
import { type Clock, systemClock } from '../base/clock.ts';
import { messageOf, SwarmError } from '../base/errors.ts';
import { parsePattern, parseSubject } from '../base/subject.ts';
import { requireClock } from '../bus/clock.ts';
import { type Bus, connectBus } from '../bus/connection.ts';
import { openConsumer } from '../bus/consumer.ts';
import { openPublisher, type Publisher } from '../bus/publisher.ts';
import { ensureStream, threadsStream } from '../bus/stream.ts';
import type { Calls, Named, OpenContext, SayOptions } from '../handler/context.ts';
import type { AgentHost, BranchHost, DefinedAgent } from '../handler/definition.ts';
import { encodePayload } from '../handler/payload.ts';
import { firstSaidAs, type Received } from '../handler/received.ts';
import { runKey } from '../handler/step.ts';
import type { PublicKey, SigningKey } from '../identity/key.ts';
import type { Agent, Keyring } from '../identity/keyring.ts';
import type { Seal } from '../log/seal-file.ts';
import { type LogWriter, openLog } from '../log/writer.ts';
import type { Draft } from '../record/draft.ts';
import { limits } from '../record/grammar.ts';
import { receivedHashKey } from '../record/received.ts';
import { Anchoring } from './anchoring.ts';
import { Attempts } from './attempts.ts';
import { causedByNobody, currentDelivery, currentWork } from './causality.ts';
import { LiveContext } from './context.ts';
import { deadLetterBytesNever } from './dead-letter.ts';
import { DeadLetters } from './dead-letters.ts';
import { envelopeBytesAtMost, envelopeBytesNever } from './envelope.ts';
import { type Handler, Handling, type HandlingOptions } from './handling.ts';
import type { Message } from './message.ts';
import { Outbox, type Published } from './outbox.ts';
import { type Reconciliation, reconcile } from './reconcile.ts';
import { Resending, type Resent } from './resending.ts';
import { busOptionsOf, checkpointKeyOf, keyringOfOne, loadKey, loadKnownKeys } from './self.ts';
import { readSettings, type SettingSources } from './settings.ts';
import { Subscription } from './subscription.ts';

/** How long leaving waits for the last checkpoint to be kept elsewhere. */
const anchoredWithinMs = 2_000;

export interface SwarmOptions extends SettingSources {
  /** See `LogOptions`. @default 'fsync' */
  readonly durability?: 'fsync' | 'os';
  /** See `LogOptions`. @default 256 MiB */
  readonly rotateBytes?: number;
  /**
   * For how long the broker knows a message's id again, in ms. Messages count for half of it. Every agent of a
   * stream must say the same. @default 30000
   */
  readonly duplicateWindowMs?: number;
  /**
   * The age in ms at which the stream drops messages. A stream that drops any is refused unless this says so; every
   * agent of it must say the same. @default none are dropped
   */
  readonly maxAgeMs?: number;
  /**
   * Copies of each stream that we create, for a cluster: 1, 3 or 5. One that has fewer is refused; one that has more
   * is taken. @default 1
   */
  readonly replicas?: number;
  /** @default the system's */
  readonly clock?: Clock;
  /**
   * Seal the log as it grows, and keep each checkpoint in the stream CHECKPOINTS (docs/format.md, section 8).
   * @default where the keyring has our checkpoint key
   */
  readonly seal?: boolean;
  /**
   * Send again what earlier sessions of this agent on this log left unconfirmed, at most the last 1024 messages of each:
   * looked for once this has resolved, told on `messagesResent`. @default true
   */
  readonly resend?: boolean;
}

export interface ReconcileRun {
  /** Send again what of our own is missing. @default false */
  readonly resend?: boolean;
  /** See `ReconcileOptions`. */
  readonly onProgress?: (progress: { readonly bytes: number; readonly totalBytes: number }) => void;
  /** @default 0 */
  readonly logBytes?: number;
  /** Aborted, it throws the signal's reason; messages that are on their way are sent before that. */
  readonly signal?: AbortSignal;
  /** Called with how many messages were sent again. */
  readonly onResent?: (resent: number) => void;
}

export interface PublishOptions extends SayOptions {
  /** The message that led to this one. @default the one whose handler is running */
  readonly cause?: Received;
}

/** How an agent runs in a swarm; its durable, filters and concurrency are its own. */
export type RunOptions = Omit<SubscribeOptions, 'durable' | 'atMost'> & Omit<HandlingOptions, 'concurrency'>;

export interface SubscribeOptions {
  /** The name under which the broker remembers what was acked: `[A-Za-z0-9_-]`, 1 to 64. */
  readonly durable: string;
  /** Where a new durable begins. @default 'all' */
  readonly deliver?: 'all' | 'new';
  /** How long the broker waits for an ack before it delivers again, in ms. @default 30000 */
  readonly ackWaitMs?: number;
  /** How many messages may be on the log ahead of whoever takes them, 1 or more. @default 256 */
  readonly ahead?: number;
  /**
   * How many messages are asked for in all: the log then holds no more of them as heard. Refused ones do not count, and
   * after the last nothing comes. @default without end
   */
  readonly atMost?: number;
}

/** Joins the swarm: loads the keys, connects, sees to the stream, opens the log. Throws what each of them throws. */
export async function joinSwarm(options: SwarmOptions = {}): Promise<Swarm> {
  const { clock = systemClock(), duplicateWindowMs = 30_000 } = options;
  const settings = await readSettings(options);
  const { key, warnings } = await loadKey(settings);
  for (const warning of warnings) process.emitWarning(warning, { type: 'SwarmWarning' });
  const keyring = (await loadKnownKeys(settings))?.keyring ?? keyringOfOne(key);
  const agent = keyring.find(key.publicKey)?.agent;
  if (settings.swarm !== undefined && keyring.swarm !== undefined && settings.swarm !== keyring.swarm) {
    throw new SwarmError(
      'USAGE',
      `we are of swarm ${settings.swarm}, the keyring ${settings.keyring} of ${keyring.swarm}`,
    );
  }
  const swarm = settings.swarm ?? keyring.swarm;
  const bus = await connectBus(busOptionsOf(settings, key, agent?.name));
  try {
    const { maxAgeMs, replicas = 1 } = options;
    const wanted = {
      ...threadsStream,
      name: settings.stream,
      duplicateWindowMs,
      replicas,
      ...(maxAgeMs !== undefined && { maxAgeMs }),
    };
    const facts = await ensureStream(bus, { ...wanted, clock });
    requireClock(bus, facts);
    const checkpointKey = checkpointKeyOf(key);
    const isKnown = keyring.find(key.publicKey)?.key.checkpoint === checkpointKey.publicKey;
    const { seal = isKnown } = options;
    const anchoring = seal && agent !== undefined ? new Anchoring(bus, agent.name, replicas) : undefined;
    const sealing = {
      key: checkpointKey,
      keyring,
      state: settings.state,
      onSealed: ({ checkpoint, text }: Seal) => anchoring?.keep(checkpoint.origin, text),
    };
    const log = await openLog(settings.log, {
      key,
      clock,
      ...(swarm !== undefined && { swarm }),
      ...(options.durability !== undefined && { durability: options.durability }),
      ...(options.rotateBytes !== undefined && { rotateBytes: options.rotateBytes }),
      ...(seal && { seal: sealing }),
    });
    const publisher = openPublisher(bus, { stream: settings.stream, clock, offset: facts.clock });
    const freshForNs = facts.duplicateWindowNs / 2n;
    const joined = new Swarm({
      key,
      keyring,
      agent,
      swarm,
      bus,
      log,
      clock,
      anchoring,
      publisher,
      stream: settings.stream,
      replicas,
      freshForNs,
    });
    if (options.resend ?? true) joined.resendUnsaid();
    return joined;
  } catch (error) {
    await bus.close();
    throw error;
  }
}

interface SwarmParts {
  readonly key: SigningKey;
  readonly keyring: Keyring;
  /** Who we are by the keyring; `undefined` if it does not hold our key. */
  readonly agent: Agent | undefined;
  readonly swarm: string | undefined;
  readonly bus: Bus;
  readonly log: LogWriter;
  readonly clock: Clock;
  readonly anchoring: Anchoring | undefined;
  readonly publisher: Publisher;
  readonly stream: string;
  /** Copies of each stream that we create. */
  readonly replicas: number;
  readonly freshForNs: bigint;
}

export class Swarm implements AgentHost<RunOptions, Handling>, BranchHost, AsyncDisposable {
  readonly #parts: SwarmParts;
  readonly #outbox: Outbox;
  readonly #deadLetters: DeadLetters;
  readonly #resending: Resending;
  readonly #open = new Set<Subscription | Handling>();
  /** The durables of the agents that ran here. */
  readonly #ran = new Set<string>();
  /** The search for what earlier sessions left unconfirmed, and its sending. */
  #unsaid: Promise<void> | undefined;
  #closed: Promise<void> | undefined;
  /** Nothing more is said. Handlers that finish while the swarm closes may still speak. */
  #left = false;

  /** @internal Use `joinSwarm`. */
  constructor(parts: SwarmParts) {
    this.#parts = parts;
    this.#outbox = new Outbox(parts);
    this.#deadLetters = new DeadLetters(parts);
    this.#resending = new Resending({
      ...parts,
      outbox: this.#outbox,
      requirePermission: (subject) => this.#requirePermission(subject),
      requireOpen: () => this.#requireNotLeft(),
    });
  }

  /** Our name in the keyring; `undefined` if it does not hold our key. */
  get name(): string | undefined {
    return this.#parts.agent?.name;
  }

  /** Whose keys count here. */
  get keyring(): Keyring {
    return this.#parts.keyring;
  }

  get publicKey(): PublicKey {
    return this.#parts.key.publicKey;
  }

  /** The path of the log. */
  get log(): string {
    return this.#parts.log.path;
  }

  /**
   * Signs, logs and sends `payload`: any JSON value, or bytes. Resolves once the stream has it.
   *
   * Throws `SUBJECT_INVALID`, `PAYLOAD_INVALID`, `PUBLISH_NOT_PERMITTED` and `BUS_PAYLOAD_TOO_LARGE` before anything
   * is logged; `LOG_WRITE_FAILED`; and where the broker refuses, after a BUS.UNSENT record, `BUS_REFUSED` or
   * `BUS_PERMISSION`. `BUS_UNCONFIRMED` and `BUS_CLOSED` leave it open whether the stream has it.
   */
  async publish(subject: string, payload: unknown, options: PublishOptions = {}): Promise<Published> {
    this.#requireNotLeft();
    const to = parseSubject(subject);
    const bytes = encodePayload(payload);
    this.#requirePermission(to);
    if (options.meta !== undefined) checkMeta(options.meta);
    const cause = options.cause?.delivery ?? currentDelivery();
    const trace = options.trace ?? cause?.header.trace;
    const draft = {
      subject: to,
      kind: 'BUS.PUBLISH',
      payload: bytes,
      cause: cause?.leaf,
      refs: options.refs?.map(({ leaf }: Named) => leaf),
      trace,
      meta: options.meta,
    };
    this.#requireSize(draft);
    return await this.#outbox.send(draft);
  }

  /**
   * Subscribes to `filter`, or several that do not overlap, under a durable name. Iterate over what is returned: each message was verified, and its
   * BUS.DELIVER is on disk, before it is seen. Ack each; what is not acked comes again. Throws `SUBJECT_INVALID`, `USAGE`,
   * and `BUS_CLOSED` once the swarm is being left.
   */
  subscribe(filter: string | readonly string[], options: SubscribeOptions): Subscription {
    const { bus, keyring, swarm, freshForNs, log, stream } = this.#parts;
    const { durable, deliver = 'all', ackWaitMs = 30_000, ahead = 256, atMost } = options;
    this.#requireOpen();
    const patterns = (typeof filter === 'string' ? [filter] : filter).map(parsePattern);
    requireCounts({ ackWaitMs, ahead });
    const consumer = { stream, durable, filter: patterns, deliver, ackWaitMs, prefetch: ahead, atMost };
    const subscription = new Subscription({
      open: (onArrival) => openConsumer(bus, { ...consumer, onArrival }),
      receiver: { keyring, swarm, freshForNs },
      deadLetters: this.#deadLetters,
      log,
      stream,
      durable,
    });
    this.#keepOpen(subscription, subscription.ended);
    return subscription;
  }

  /**
   * Subscribes with a handler: acks when it returns, and when it throws lets the message come again, later each time, until
   * `maxDeliver` attempts have failed: then it is dead-lettered, and at once where the handler throws `UnrecoverableError`.
   * What the handler publishes names the message it handles as its cause. A handler that acks, naks or terms its message
   * itself has the say; while it is at work its message is kept from being delivered again. Resolves once the durable is
   * there. Throws what `subscribe` throws, and `BUS_CONSUMER`.
   */
  async handle(
    filter: string | readonly string[],
    options: SubscribeOptions & HandlingOptions,
    handler: Handler,
  ): Promise<Handling> {
    const { concurrency = 1, finishWithinMs = 30_000 } = options;
    requireCounts({ concurrency, finishWithinMs });
    if (options.maxDeliver !== 0) requireCounts({ maxDeliver: options.maxDeliver ?? 1 });
    const subscription = this.subscribe(filter, options);
    await subscription.ready();
    this.#requireOpen();
    const attempts = new Attempts(this.#parts.log);
    const handling = new Handling({ subscription, attempts }, handler, options);
    this.#open.delete(subscription);
    this.#keepOpen(handling, Promise.allSettled([handling.finished, subscription.ended]));
    return handling;
  }

  /**
   * Runs an agent here: its handlers hear what its filters take, and what they ask of the world is recorded. Resolves once
   * its durable is there. Throws `USAGE` where the swarm was joined with the key of another agent, or the agent ran here
   * before, and what `handle` throws.
   */
  async run(agent: DefinedAgent, options: RunOptions = {}): Promise<Handling> {
    if (agent.name !== this.name) {
      const us = this.name === undefined ? 'nobody in the keyring' : this.name;
      throw new SwarmError(
        'USAGE',
        `the agent ${agent.name} runs where the swarm was joined with its key; we are ${us}`,
      );
    }
    const { durable, concurrency } = agent;
    // What it remembers would begin anew in the middle of a session, where nobody who runs it again would know.
    if (this.#ran.has(durable)) {
      throw new SwarmError(
        'USAGE',
        `the agent ${agent.name} ran in this swarm already, under the durable ${durable}: join the swarm again`,
      );
    }
    const handlers = agent.begin();
    this.#ran.add(durable);
    const { log } = this.#parts;
    const inRun = { [runKey]: randomBytes(8).toString('hex') };
    const append = (draft: Draft): Promise<unknown> =>
      log.append({ ...draft, meta: { ...draft.meta, ...inRun } });
    const handler = async (message: Message): Promise<void> => {
      const publish = (subject: string, payload: unknown, said: SayOptions): Promise<Named> =>
        this.publish(subject, payload, { ...said, cause: message }).then(({ record }) => record);
      const context = new LiveContext(message, { append, publish });
      try {
        await handlers.handlerOf(message.subject)?.(message, context);
      } catch (error) {
        await context.end({ error });
        throw error;
      }
      const ended = context.end();
      // The next handler does not wait for that alone. Beside others it does: so it is on the log what came before it.
      if (concurrency === 1) message.ackAfter(ended);
      else await ended;
    };
    try {
      return await this.handle(handlers.filters, { ...options, durable, concurrency }, handler);
    } catch (error) {
      this.#ran.delete(durable); // it did not run
      throw error;
    }
  }

  /** @internal Use `branch`. */
  branch(message: Received, from: Named, thread: string, calls: Calls): OpenContext {
    const { log } = this.#parts;
    const there = (subject: string): string => subject.replace(/^thread\.[^.]+/, `thread.${thread}`);
    const append = (draft: Draft): Promise<unknown> =>
      log.append({ ...draft, subject: there(draft.subject), refs: [from.leaf] });
    const publish = async (subject: string, payload: unknown, said: SayOptions): Promise<Named> => {
      const refs = [from, ...(said.refs ?? []).filter(({ leaf }) => leaf !== from.leaf)];
      if (refs.length > limits.refs) {
        throw new SwarmError(
          'RECORD_INVALID',
          `${there(subject)}: in a branch a message has up to ${limits.refs - 1} refs, as one names the record that the branch left from`,
        );
      }
      const { record } = await this.publish(there(subject), payload, { ...said, refs, cause: message });
      return record;
    };
    return new LiveContext(message, { append, publish }, calls);
  }

  /**
   * Holds our log against the stream, record by record. The log is believed: verify it before. With `resend`, what is
   * missing of our own is sent again, once durables past the stream's end are mended; others' is for them. Throws what
   * `reconcile` throws, and `BUS_CLOSED` once the swarm was left. Another process that is sending again what is ours is waited for.
   */
  async reconcile(options: ReconcileRun = {}): Promise<Reconciliation & { readonly resent?: Resent }> {
    this.#requireNotLeft();
    const { bus, keyring, swarm, stream, clock, log } = this.#parts;
    const { resend: isResending = false, onResent, ...rest } = options;
    const look = (): Promise<Reconciliation> =>
      reconcile(bus, { ...rest, log: log.path, stream, keyring, swarm, clock });
    return isResending
      ? await this.#resending.sendMissing(look, { onProgress: onResent, signal: rest.signal })
      : await look();
  }

  /** @internal Sends again what earlier sessions left unconfirmed, while other work goes on; leaving waits for it. */
  resendUnsaid(): void {
    const { bus, agent } = this.#parts;
    if (agent === undefined) return;
    this.#unsaid = this.#resending.sendUnsaid();
    const done = this.#unsaid.catch((error: unknown) => {
      bus.warn(
        `it cannot be found out whether the stream has what this agent said before (${messageOf(error)}); \`swarm reconcile\` tells`,
      );
    });
    this.#outbox.waitFor(done);
  }

  /**
   * @internal Resolves once the stream has what earlier sessions left unconfirmed, by us or by another process of ours, or what
   * is not there was told of. Throws where that cannot be found out.
   */
  async caughtUp(): Promise<void> {
    await this.#unsaid;
    await this.#resending.idle();
  }

  /**
   * Stops taking, finishes what handlers are at, waits for what is being sent, and leaves. A handler that does not end
   * is waited for as long as its `finishWithinMs` says. Called by a handler, it resolves when the others are finished,
   * and the swarm is left once that handler has returned.
   */
  async close(): Promise<void> {
    this.#closed ??= causedByNobody(() => this.#close());
    const own = currentWork();
    if (own === undefined) return await this.#closed;
    own.leave();
    await this.#stopAll();
  }

  async #close(): Promise<void> {
    const { bus, log, anchoring } = this.#parts;
    await this.#stopAll();
    this.#left = true;
    await Promise.all([this.#outbox.close(), this.#deadLetters.close()]);
    await log.seal().catch(() => undefined); // closing the log tries again, and tells
    await anchoring?.close(anchoredWithinMs);
    await bus.close();
    await log.close();
  }

  async #stopAll(): Promise<void> {
    await Promise.all([...this.#open].map((open) => open.stop()));
  }

  /** Knows `opened` until it has `ended`, which rejects nothing. */
  #keepOpen(opened: Subscription | Handling, ended: Promise<unknown>): void {
    this.#open.add(opened);
    void ended.then(() => this.#open.delete(opened));
  }

  /** For what may still be done while the swarm closes. */
  #requireNotLeft(): void {
    if (this.#left) throw wasLeft();
  }

  #requireOpen(): void {
    if (this.#closed !== undefined) throw wasLeft();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Leaves room for headers as long as they can become, should the message be said anew, or become a dead letter. */
  #requireSize({ subject, payload, ...rest }: Draft & { readonly payload: Uint8Array }): void {
    const { bus, key, swarm } = this.#parts;
    const { maxPayload } = bus;
    if (payload.length + envelopeBytesNever <= maxPayload) return;
    const envelope = envelopeBytesAtMost({ subject, ...rest }, { signer: key.publicKey, swarm });
    const headers = envelope + deadLetterBytesNever;
    if (payload.length + headers <= maxPayload) return;
    throw new SwarmError(
      'BUS_PAYLOAD_TOO_LARGE',
      `${subject}: the payload is ${payload.length} bytes and its headers up to ${headers}, the server takes ${maxPayload}; send less, or raise the server's max_payload`,
    );
  }

  #requirePermission(subject: string): void {
    const { agent, keyring, key } = this.#parts;
    if (agent === undefined) {
      throw new SwarmError(
        'PUBLISH_NOT_PERMITTED',
        `the keyring does not hold this agent's key ${key.publicKey}, so nobody would take its messages; add it with \`swarm keys add\``,
      );
    }
    if (keyring.find(key.publicKey)?.key.revoked !== undefined) {
      throw new SwarmError(
        'PUBLISH_NOT_PERMITTED',
        `the keyring says that this agent's key ${key.publicKey} is revoked, so nobody would take its messages; make a new one with \`swarm keys new --force\``,
      );
    }
    if (keyring.mayPublish(agent, subject)) return;
    throw new SwarmError(
      'PUBLISH_NOT_PERMITTED',
      `the keyring does not let ${agent.name} publish on ${subject}, only on ${agent.publish.join(', ')}; \`swarm keys add LINE --publish PATTERN …\` names anew all that it may`,
    );
  }
}

/** Throws `USAGE` for a number that is not whole and at least 1. */
function requireCounts(numbers: Readonly<Record<string, number>>): void {
  for (const [name, value] of Object.entries(numbers)) {
    if (!Number.isSafeInteger(value) || value < 1) {
      throw new SwarmError('USAGE', `${name} is a whole number from 1 on, not ${value}`);
    }
  }
}

/** Leaves room for the pair that a message said anew carries, and keeps our own names for us. */
function checkMeta(meta: Readonly<Record<string, string>>): void {
  const reserved = [firstSaidAs, receivedHashKey].find((name) => Object.hasOwn(meta, name));
  if (reserved !== undefined) throw new SwarmError('RECORD_INVALID', `the meta name ${reserved} is taken`);
  if (Object.keys(meta).length > 7) throw new SwarmError('RECORD_INVALID', 'meta holds 1 to 7 pairs');
}

function wasLeft(): SwarmError {
  return new SwarmError('BUS_CLOSED', 'the swarm was left; join it again');
}
