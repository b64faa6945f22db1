/**
 * A consumer at the broker: its configuration as data, held against what exists, and created where missing.
 *
 * It hands out each message until it is acknowledged, without limit: a broker that gives up after some
 * attempts does so silently, so giving up is the agent's business. A durable consumer keeps its place while
 * nobody listens; one without a name is forgotten some minutes after its last listener.
 */
import { randomBytes } from 'node:crypto';
import {
  AckPolicy,
  type ConsumerConfig,
  type ConsumerInfo,
  DeliverPolicy,
  ReplayPolicy,
} from '@nats-io/jetstream';
import { messageOf, SwarmError } from '../base/errors.ts';
import { nameGrammar } from '../base/subject.ts';
import type { Bus } from './connection.ts';
import { Deliveries } from './deliveries.ts';
import { throughElection } from './election.ts';
import type { BusMessage } from './message.ts';
import { isPermissionRefused } from './requirements.ts';
import { readStreamState } from './stored.ts';
import { brokerCode, isStreamMissing } from './stream.ts';
import { spokenDuration } from './time.ts';

export interface ConsumerOptions {
  readonly stream: string;
  /** Its name, 1 to 64 of `[A-Za-z0-9_-]`; without one, the broker soon forgets it. */
  readonly durable?: string;
  /** Which subjects; several must not overlap. */
  readonly filter: string | readonly string[];
  /** From where a new consumer begins; one that exists goes on where it was. @default all */
  readonly deliver?: 'all' | 'new';
  /** A message not acknowledged for so long is handed out again. @default 30000 */
  readonly ackWaitMs?: number;
  /** Messages handed out and not acknowledged, at most, over all listeners. @default 1024 */
  readonly maxAckPending?: number;
  /**
   * Messages kept here before they are asked for. They wait for this listener even while others are idle, so
   * slow handlers that share a durable want 1. @default 256
   */
  readonly prefetch?: number;
  /** Messages asked for in all; each `Deliveries.oneMore` adds one. @default without end */
  readonly atMost?: number | undefined;
  /** Told of each message as it arrives, before it is read. */
  readonly onArrival?: (message: BusMessage) => void;
}

const forgottenAfterMs = 300_000;

/** Opens the consumer, creating it where missing; throws `BUS_CONSUMER`, `BUS_PERMISSION` or `USAGE`. */
export async function openConsumer(bus: Bus, options: ConsumerOptions): Promise<Deliveries> {
  const { stream, durable, prefetch = 256 } = options;
  const { config, info } = await ensureConsumer(bus, options);
  return new Deliveries(bus, {
    stream,
    name: config.name,
    isDurable: durable !== undefined,
    prefetch: Math.max(1, Math.min(prefetch, options.maxAckPending ?? 1_024)),
    atMost: options.atMost,
    ackWaitMs: (info.config.ack_wait ?? 30e9) / 1e6,
    ackFloor: ackFloorOf(info),
    onArrival: options.onArrival,
    read: () => readWithin(bus, stream, config.name),
    recreate: (ackFloor) => recreateConsumer(bus, stream, config, ackFloor),
  });
}

type NamedConfig = Partial<ConsumerConfig> & { readonly name: string };

/**
 * Creates the consumer where it is missing, and returns it with what was asked for. One that exists with another filter
 * is given ours only where `refilter` says so. Throws what `openConsumer` throws.
 */
export async function ensureConsumer(
  bus: Bus,
  options: ConsumerOptions & { readonly refilter?: boolean },
): Promise<{ config: NamedConfig; info: ConsumerInfo }> {
  const { stream, durable, refilter = false } = options;
  if (durable !== undefined && !nameGrammar.test(durable)) {
    throw new SwarmError(
      'USAGE',
      `not a consumer name: ${JSON.stringify(durable)} (1 to 64 letters, digits, _ and -)`,
    );
  }
  const config = consumerConfig(options);
  let info = await throughElection(
    bus.patience,
    async () => (await readWithin(bus, stream, config.name)) ?? createConsumer(bus, stream, config),
  );
  if (refilter && filtersOf(info.config) !== filtersOf(config)) {
    info = await changeFilter(bus, stream, config);
  }
  const differences = consumerDifferences(config, info.config);
  if (differences.length > 0) {
    throw new SwarmError(
      'BUS_CONSUMER',
      `consumer ${config.name} of stream ${stream} exists otherwise: ${differences.join('; ')}. Use another name, or delete it (nats consumer rm ${stream} ${config.name})`,
    );
  }
  return { config, info };
}

async function changeFilter(
  bus: Bus,
  stream: string,
  { name, filter_subject = '', filter_subjects = [] }: NamedConfig,
): Promise<ConsumerInfo> {
  try {
    return await bus.manager.consumers.update(stream, name, { filter_subject, filter_subjects });
  } catch (thrown) {
    throw consumerFailure(`cannot change the filter of consumer ${name} of stream ${stream}`, thrown);
  }
}

/** Returns what nats-server is asked for. */
function consumerConfig(options: ConsumerOptions): NamedConfig {
  const { durable, filter, deliver = 'all', ackWaitMs = 30_000, maxAckPending = 1_024 } = options;
  const filters = typeof filter === 'string' ? [filter] : filter;
  const [only] = filters;
  return {
    ...(durable === undefined
      ? { name: `swarm-${randomBytes(12).toString('hex')}`, inactive_threshold: forgottenAfterMs * 1e6 }
      : { name: durable, durable_name: durable }),
    ...(filters.length === 1 && only !== undefined
      ? { filter_subject: only }
      : { filter_subjects: [...filters] }),
    deliver_policy: deliver === 'new' ? DeliverPolicy.New : DeliverPolicy.All,
    ack_policy: AckPolicy.Explicit,
    ack_wait: ackWaitMs * 1e6,
    max_ack_pending: maxAckPending,
    max_deliver: -1,
    replay_policy: ReplayPolicy.Instant,
  };
}

/**
 * Returns each difference that matters, as `filter: thread.a.>, wanted thread.>`: what keeps messages back, gives them
 * up, or hands them out again before the ack wait is over. Another `max_ack_pending` only sets the pace. Pure.
 */
export function consumerDifferences(
  wanted: Partial<ConsumerConfig>,
  found: Partial<ConsumerConfig>,
  now: Date = new Date(),
): readonly string[] {
  const differences: string[] = [];
  const differ = (field: string, is: string, want: string): void => {
    if (is !== want) differences.push(`${field}: ${is}, wanted ${want}`);
  };
  const isLasting = wanted.durable_name !== undefined;
  differ('filter', filtersOf(found), filtersOf(wanted));
  differ('ack_policy', found.ack_policy ?? AckPolicy.None, AckPolicy.Explicit);
  differ('kind', found.deliver_subject === undefined ? 'pull' : 'push', 'pull');
  for (const limit of ['max_deliver', 'max_batch', 'max_expires', 'max_bytes'] as const) {
    const value = found[limit] ?? 0;
    differ(limit, value > 0 ? String(value) : 'unlimited', 'unlimited');
  }
  differ('headers_only', found.headers_only === true ? 'on' : 'off', 'off');
  differ('backoff', found.backoff?.map(spokenDuration).join(' ') || 'none', 'none');
  differ('replay_policy', found.replay_policy ?? ReplayPolicy.Instant, ReplayPolicy.Instant);
  const isPaused = found.pause_until !== undefined && Date.parse(found.pause_until) > now.getTime();
  differ('pause_until', isPaused ? String(found.pause_until) : 'none', 'none');
  if (isLasting) differ('inactive_threshold', spokenThreshold(found.inactive_threshold), 'none');
  return differences;
}

function filtersOf({ filter_subject: one, filter_subjects: several }: Partial<ConsumerConfig>): string {
  const filters = several ?? (one === undefined ? [] : [one]);
  return filters.length === 0 ? '>' : filters.toSorted().join(' ');
}

function spokenThreshold(ns: number | undefined): string {
  return ns === undefined || ns === 0 ? 'none' : spokenDuration(ns);
}

function ackFloorOf(info: ConsumerInfo): number {
  return info.ack_floor.stream_seq;
}

/** Returns the consumer, or `undefined` where there is none; throws `BUS_CONSUMER` or `BUS_PERMISSION`. */
export async function readConsumer(
  bus: Bus,
  stream: string,
  name: string,
): Promise<ConsumerInfo | undefined> {
  try {
    return await bus.manager.consumers.info(stream, name);
  } catch (thrown) {
    if (brokerCode(thrown) === consumerNotFound) return undefined;
    throw consumerFailure(`cannot read consumer ${name} of stream ${stream}`, thrown);
  }
}

const consumerNotFound = 10014;
const consumerExists: ReadonlySet<number | undefined> = new Set([10013, 10105, 10148]);

async function createConsumer(bus: Bus, stream: string, config: NamedConfig): Promise<ConsumerInfo> {
  try {
    return await bus.manager.consumers.add(stream, config);
  } catch (thrown) {
    // Another process may have created it in this moment.
    const info = consumerExists.has(brokerCode(thrown))
      ? await readConsumer(bus, stream, config.name)
      : undefined;
    if (info !== undefined) return info;
    throw consumerFailure(`cannot create consumer ${config.name} of stream ${stream}`, thrown);
  }
}

/**
 * Creates a lost consumer again, right after the last message of which everything before is known to be
 * acknowledged: some messages come twice, none is left out. A stream that ends earlier has been lost too.
 */
async function recreateConsumer(
  bus: Bus,
  stream: string,
  config: NamedConfig,
  ackFloor: number,
): Promise<ConsumerInfo> {
  const { state } = await bus.manager.streams.info(stream);
  const start =
    ackFloor === 0 || ackFloor > state.last_seq
      ? { deliver_policy: DeliverPolicy.All }
      : { deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: ackFloor + 1 };
  return createConsumer(bus, stream, { ...config, ...start });
}

/** Returns the consumer, if it is there, which hands out what comes next. */
async function readWithin(bus: Bus, stream: string, name: string): Promise<ConsumerInfo | undefined> {
  const found = await readConsumer(bus, stream, name);
  return found && (await withinStream(bus, stream, found));
}

/**
 * Returns `info` as it is, or as it is once the consumer was created anew: where it has delivered messages past the stream's
 * end, the broker has lost them, and it would hand out nothing until as many have come again. It begins right after the
 * last message of which all before are known to be acknowledged: some come twice, none that is left is left out. Where that is not
 * permitted, warns.
 */
async function withinStream(bus: Bus, stream: string, info: ConsumerInfo): Promise<ConsumerInfo> {
  const { name, config } = info;
  const delivered = info.delivered.stream_seq;
  if (delivered === 0) return info;
  const { lastSeq } = await readStreamState(bus, stream); // read after `info`, and streams only grow
  if (delivered <= lastSeq) return info;
  const words = `consumer ${name} has delivered message ${delivered} of stream ${stream}, which ends at ${lastSeq}: the broker has lost messages`;
  const start = {
    deliver_policy: DeliverPolicy.StartSequence,
    opt_start_seq: Math.min(ackFloorOf(info), lastSeq) + 1,
  };
  const { opt_start_time: _, ...rest } = config;
  try {
    await bus.manager.consumers.delete(stream, name).catch((thrown: unknown) => {
      if (brokerCode(thrown) !== consumerNotFound) throw thrown; // another listener was faster
    });
    const created = await createConsumer(bus, stream, { ...rest, ...start, name });
    bus.warn(
      `${words}; it is created anew after the last that was acked in order. \`swarm reconcile\` names what is missing`,
    );
    return created;
  } catch (thrown) {
    if (!isPermissionRefused(thrown) && !(thrown instanceof SwarmError && thrown.code === 'BUS_PERMISSION')) {
      throw consumerFailure(`cannot create consumer ${name} of stream ${stream} anew`, thrown);
    }
    bus.warn(
      `${words}, and it hands out nothing until as many have come again; whoever may change it mends that with \`swarm reconcile --resend\``,
    );
    return info;
  }
}

/**
 * Creates every consumer of the stream anew that has delivered messages past its end (see `withinStream`); returns their names.
 * Throws `BUS_CONSUMER` or `BUS_PERMISSION`.
 */
export async function mendConsumers(bus: Bus, stream: string): Promise<readonly string[]> {
  const mended: string[] = [];
  try {
    for await (const info of bus.manager.consumers.list(stream)) {
      if ((await withinStream(bus, stream, info)) !== info) mended.push(info.name);
    }
  } catch (thrown) {
    if (thrown instanceof SwarmError) throw thrown;
    throw consumerFailure(`cannot list the consumers of stream ${stream}`, thrown);
  }
  return mended;
}

function consumerFailure(what: string, cause: unknown): SwarmError {
  if (isPermissionRefused(cause)) {
    const wayOut = 'whoever keeps the keyring names the durables of each agent (`swarm keys add --durable`)';
    return new SwarmError('BUS_PERMISSION', `${what}: ${messageOf(cause)}; ${wayOut}`, { cause });
  }
  const why = isStreamMissing(cause) ? 'there is no such stream' : messageOf(cause);
  return new SwarmError('BUS_CONSUMER', `${what}: ${why}`, { cause });
}
