/**
 * What a broker has of all that a swarm needs, looked at and not changed.
 */
import { type Clock, systemClock } from '../base/clock.ts';
import { SwarmError } from '../base/errors.ts';
import { type ClockOffset, type ClockVerdict, clockVerdict, measureClockOffset } from './clock.ts';
import type { Bus } from './connection.ts';
import { readConsumer } from './consumer.ts';
import {
  brokerTime,
  checkpointsStream,
  deadStream,
  readStream,
  type StreamWanted,
  streamDifferences,
  threadsStream,
} from './stream.ts';

export interface StreamFinding {
  readonly name: string;
  /** `undefined` where there is no such stream; else how it is not as the swarm needs it. */
  readonly differences: readonly string[] | undefined;
  readonly lastSeq: number;
  readonly replicas: number;
}

/** Returns how each stream of a swarm is. Throws `BUS_STREAM` or `BUS_PERMISSION`. */
export async function examineStreams(bus: Bus, stream: string): Promise<readonly StreamFinding[]> {
  const findings: StreamFinding[] = [];
  for (const wanted of [{ ...threadsStream, name: stream }, checkpointsStream, deadStream]) {
    findings.push(await examineStream(bus, wanted));
  }
  return findings;
}

async function examineStream(bus: Bus, wanted: StreamWanted): Promise<StreamFinding> {
  const info = await readStream(bus, wanted.name);
  return {
    name: wanted.name,
    differences: info && streamDifferences(wanted, info.config),
    lastSeq: info?.state.last_seq ?? 0,
    replicas: info?.config.num_replicas ?? 0,
  };
}

/** Returns how far our clock is from the broker's, by its answers about `stream`. Throws `BUS_STREAM`. */
export async function examineClock(
  bus: Bus,
  stream: string,
  clock: Clock = systemClock(),
): Promise<{ offset: ClockOffset; verdict: ClockVerdict }> {
  const info = await readStream(bus, stream);
  if (info === undefined) throw new SwarmError('BUS_STREAM', `there is no stream ${stream} to ask`);
  const offset = await measureClockOffset(() => brokerTime(bus, stream), { clock });
  return { offset, verdict: clockVerdict(offset, BigInt(info.config.duplicate_window)) };
}

export interface DurableFinding {
  /** Messages that it has not handed out yet. */
  readonly pending: number;
  /** Messages handed out and not acked. */
  readonly outstanding: number;
  /** The last message of the stream that it handed out. */
  readonly deliveredSeq: number;
}

/** Returns how far a durable is; `undefined` where there is none. Throws `BUS_CONSUMER` or `BUS_PERMISSION`. */
export async function examineDurable(
  bus: Bus,
  stream: string,
  durable: string,
): Promise<DurableFinding | undefined> {
  const info = await readConsumer(bus, stream, durable);
  return (
    info && {
      pending: info.num_pending,
      outstanding: info.num_ack_pending,
      deliveredSeq: info.delivered.stream_seq,
    }
  );
}

/** Deletes a durable, if we may: whoever made one for a moment does. */
export async function removeDurable(bus: Bus, stream: string, durable: string): Promise<void> {
  await bus.manager.consumers.delete(stream, durable).catch(() => false);
}
