/**
 * The streams that a swarm needs, as data, and how what exists is held against it.
 *
 * A stream is created once and never changed from here: where the one that exists differs in a way that
 * would break a promise (messages dropped, deleted, changed, unacknowledged, or repeats let through), the
 * differences are named and nothing goes on. A limit that nobody asked for is named where it drops messages: an age
 * always does, a number of messages or bytes only where the stream discards old ones to take new ones.
 */
import {
  DiscardPolicy,
  JetStreamApiError,
  RetentionPolicy,
  StorageType,
  type StreamConfig,
  type StreamInfo,
} from '@nats-io/jetstream';
import { type Clock, systemClock } from '../base/clock.ts';
import { messageOf, SwarmError } from '../base/errors.ts';
import { type ClockOffset, measureClockOffset } from './clock.ts';
import type { Bus } from './connection.ts';
import { throughElection } from './election.ts';
import { isPermissionRefused } from './requirements.ts';
import { parseTime, spokenDuration } from './time.ts';

/** A stream as a swarm wants it. */
export interface StreamWanted {
  readonly name: string;
  readonly subjects: readonly string[];
  /** How long the broker remembers ids. @default 30000 */
  readonly duplicateWindowMs?: number;
  /** Copies in a cluster, at least. @default 1 */
  readonly replicas?: number;
  /** Full streams refuse new messages; they never drop old ones. @default whatever the stream has */
  readonly maxMessages?: number;
  /** @default whatever the stream has */
  readonly maxBytes?: number;
  /** Messages older than this are removed. @default none are */
  readonly maxAgeMs?: number;
}

/** What the agents say to each other. */
export const threadsStream: StreamWanted = { name: 'THREADS', subjects: ['thread.>'] };

/** Where agents keep the checkpoints of their logs for each other: docs/format.md, section 8. */
export const checkpointsStream: StreamWanted = { name: 'CHECKPOINTS', subjects: ['checkpoint.>'] };

/** Copies of messages that no handler could deal with: docs/format.md, section 5. */
export const deadStream: StreamWanted = { name: 'DEAD', subjects: ['dead.>'] };

export interface StreamFacts {
  readonly name: string;
  readonly created: boolean;
  readonly duplicateWindowNs: bigint;
  readonly messages: number;
  readonly firstSeq: number;
  readonly lastSeq: number;
  /** See `requireClock`. */
  readonly clock: ClockOffset;
}

/**
 * Creates the stream unless it exists, and returns its facts. Throws `BUS_STREAM_DIFFERS` naming each
 * difference, `BUS_STREAM` where it cannot be created or read, `BUS_PERMISSION`.
 */
export async function ensureStream(
  bus: Bus,
  options: StreamWanted & { readonly clock?: Clock },
): Promise<StreamFacts> {
  const { clock = systemClock(), ...wanted } = options;
  const { info, created } = await throughElection(bus.patience, async () => {
    const found = await readStream(bus, wanted.name);
    return found === undefined ? createStream(bus, wanted) : { info: found, created: false };
  });
  const differences = streamDifferences(wanted, info.config);
  if (differences.length > 0) {
    throw new SwarmError(
      'BUS_STREAM_DIFFERS',
      `stream ${wanted.name} is not as the swarm needs it: ${differences.join('; ')}. Change it (nats stream edit ${wanted.name}), or use one of another name`,
    );
  }
  return {
    name: wanted.name,
    created,
    duplicateWindowNs: BigInt(info.config.duplicate_window),
    messages: info.state.messages,
    firstSeq: info.state.first_seq,
    lastSeq: info.state.last_seq,
    clock: await measureClockOffset(() => brokerTime(bus, wanted.name), { clock }),
  };
}

type Settings = Partial<StreamConfig>;

/** Returns what nats-server is asked for. Pure. */
export function streamConfig(wanted: StreamWanted): Settings & { readonly name: string } {
  const {
    name,
    subjects,
    duplicateWindowMs = 30_000,
    replicas = 1,
    maxMessages,
    maxBytes,
    maxAgeMs,
  } = wanted;
  return {
    name,
    subjects: [...subjects],
    storage: StorageType.File,
    retention: RetentionPolicy.Limits,
    discard: DiscardPolicy.New,
    deny_delete: true,
    deny_purge: true,
    duplicate_window: duplicateWindowMs * 1e6,
    num_replicas: replicas,
    ...(maxMessages === undefined ? {} : { max_msgs: maxMessages }),
    ...(maxBytes === undefined ? {} : { max_bytes: maxBytes }),
    ...(maxAgeMs === undefined ? {} : { max_age: maxAgeMs * 1e6 }),
  };
}

/** Returns each difference that matters, as `duplicate_window: 120s, wanted 30s`. Pure. */
export function streamDifferences(wanted: StreamWanted, found: Settings): readonly string[] {
  const config = streamConfig(wanted);
  const differences: string[] = [];
  const differ = (field: string, is: string, want: string): void => {
    if (is !== want) differences.push(`${field}: ${is}, wanted ${want}`);
  };
  const same = (field: keyof Settings, print: (value: unknown) => string = String): void =>
    differ(field, print(found[field] ?? false), print(config[field] ?? false));
  const off = (field: keyof Settings, value: unknown): void => differ(field, value ? 'on' : 'off', 'off');
  const duration = (value: unknown): string => (value ? spokenDuration(Number(value)) : 'unlimited');
  const limit = (value: unknown): string => (Number(value) > 0 ? String(value) : 'unlimited');

  differ('subjects', (found.subjects ?? []).toSorted().join(' '), wanted.subjects.toSorted().join(' '));
  same('storage');
  same('retention');
  same('discard');
  same('deny_delete');
  same('deny_purge');
  same('duplicate_window', duration);
  if ((found.num_replicas ?? 1) < (wanted.replicas ?? 1)) same('num_replicas');
  const drops = found.discard !== config.discard;
  if (drops || wanted.maxMessages !== undefined) same('max_msgs', limit);
  if (drops || wanted.maxBytes !== undefined) same('max_bytes', limit);
  same('max_age', duration);
  differ('max_msgs_per_subject', limit(found.max_msgs_per_subject), 'unlimited');
  off('no_ack', found.no_ack);
  off('sealed', found.sealed);
  off('allow_msg_ttl', found.allow_msg_ttl);
  off('allow_msg_counter', found.allow_msg_counter);
  off('allow_msg_schedules', found.allow_msg_schedules);
  off('mirror', found.mirror);
  off('sources', (found.sources ?? []).length > 0);
  off('subject_transform', found.subject_transform);
  return differences;
}

/** Returns the broker's clock; throws `BUS_STREAM` or `BUS_PERMISSION`. */
export async function brokerTime(bus: Bus, stream: string): Promise<bigint> {
  const info = await readStream(bus, stream);
  const time = parseTime(info?.ts ?? '');
  if (time === undefined)
    throw new SwarmError('BUS_STREAM', `the broker does not say its time with stream ${stream}`);
  return time;
}

/** Returns the stream, or `undefined` where there is none; throws `BUS_STREAM` or `BUS_PERMISSION`. */
export async function readStream(bus: Bus, name: string): Promise<StreamInfo | undefined> {
  try {
    return await bus.manager.streams.info(name);
  } catch (thrown) {
    if (isStreamMissing(thrown)) return undefined;
    throw streamFailure(`cannot read stream ${name}`, thrown);
  }
}

interface Created {
  readonly info: StreamInfo;
  readonly created: boolean;
}

async function createStream(bus: Bus, wanted: StreamWanted): Promise<Created> {
  try {
    return { info: await bus.manager.streams.add(streamConfig(wanted)), created: true };
  } catch (thrown) {
    const code = brokerCode(thrown);
    if (code === nameInUse) {
      // Another process created it in this moment.
      const info = await readStream(bus, wanted.name);
      if (info !== undefined) return { info, created: false };
    }
    if (code === subjectsOverlap) {
      const others = await streamsOn(bus, wanted.subjects);
      throw new SwarmError(
        'BUS_STREAM',
        `cannot create stream ${wanted.name} on ${wanted.subjects.join(', ')}: ${others} already holds messages of these subjects; use that one (SWARM_STREAM), or remove it`,
        { cause: thrown },
      );
    }
    throw streamFailure(`cannot create stream ${wanted.name}`, thrown);
  }
}

async function streamsOn(bus: Bus, subjects: readonly string[]): Promise<string> {
  const names = new Set<string>();
  for (const subject of subjects) {
    for await (const name of bus.manager.streams.names(subject)) names.add(name);
  }
  return names.size === 0 ? 'another stream' : `stream ${[...names].join(', ')}`;
}

const streamNotFound = 10059;
const nameInUse = 10058;
const subjectsOverlap = 10065;

/** Reports whether the broker said that there is no such stream. */
export function isStreamMissing(thrown: unknown): boolean {
  return brokerCode(thrown) === streamNotFound;
}

/** Returns the `err_code` with which the broker refused, if it did. */
export function brokerCode(thrown: unknown): number | undefined {
  return thrown instanceof JetStreamApiError ? thrown.code : undefined;
}

function streamFailure(what: string, cause: unknown): SwarmError {
  const code = isPermissionRefused(cause) ? 'BUS_PERMISSION' : 'BUS_STREAM';
  return new SwarmError(code, `${what}: ${messageOf(cause)}`, { cause });
}
