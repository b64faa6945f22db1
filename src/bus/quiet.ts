/**
 * Waits until a stream is quiet: its durables have taken all that is for them, and nobody is at work on any of it.
 *
 * What a handler says is in the stream before its message is acked. So where the durables, looked at one after another,
 * have nothing left, and the stream did not grow while they were looked at, nothing more comes by itself. What counts is
 * how far a durable was handed out, not the broker's count of what is pending, which may lag behind the stream.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf, SwarmError } from '../base/errors.ts';
import type { Bus } from './connection.ts';

export interface QuietOptions {
  readonly stream: string;
  readonly durables: readonly string[];
  readonly withinMs: number;
}

const lookEveryMs = 50;

/** Resolves once the stream is quiet. Throws `NOT_QUIET`, with what is left, and `BUS_STREAM` where the broker does not say. */
export async function awaitQuiet(bus: Bus, { stream, durables, withinMs }: QuietOptions): Promise<void> {
  const deadline = performance.now() + withinMs;
  for (;;) {
    const left = await leftIn(bus, stream, durables);
    if (left.length === 0) return;
    if (performance.now() > deadline) {
      throw new SwarmError(
        'NOT_QUIET',
        `the agents are still at work after ${withinMs / 1000} s: ${left.join('; ')}`,
      );
    }
    await sleep(lookEveryMs);
  }
}

/** Returns in words what is left to do; nothing where the stream is quiet. */
async function leftIn(bus: Bus, stream: string, durables: readonly string[]): Promise<readonly string[]> {
  try {
    const before = await lastSeq(bus, stream);
    const left: string[] = [];
    for (const durable of durables) {
      const { isBehind, unacked } = await backlogOf(bus, stream, durable);
      if (unacked > 0) left.push(`${durable} has not finished ${unacked}`);
      else if (isBehind) left.push(`${durable} has not been handed all`);
    }
    if (left.length === 0 && (await lastSeq(bus, stream)) !== before) left.push('more is said');
    return left;
  } catch (cause) {
    throw new SwarmError('BUS_STREAM', `cannot read what is left in stream ${stream}: ${messageOf(cause)}`, {
      cause,
    });
  }
}

async function lastSeq(bus: Bus, stream: string): Promise<number> {
  return (await bus.manager.streams.info(stream)).state.last_seq;
}

async function backlogOf(
  bus: Bus,
  stream: string,
  durable: string,
): Promise<{ readonly isBehind: boolean; readonly unacked: number }> {
  const { config, delivered, num_ack_pending: unacked } = await bus.manager.consumers.info(stream, durable);
  let isBehind = false;
  for (const filter of config.filter_subjects ?? [config.filter_subject ?? '>']) {
    const last = await bus.manager.streams.getMessage(stream, { last_by_subj: filter });
    if (last !== null && last.seq > delivered.stream_seq) isBehind = true;
  }
  return { isBehind, unacked };
}
