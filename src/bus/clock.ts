/**
 * How far this machine's clock is from the broker's.
 *
 * A receiver refuses a message whose `ts_ns` is further from the broker's timestamp than half the duplicate
 * window (docs/format.md, section 5). With a wrong clock every message would be refused everywhere, one by
 * one; it is kinder to say so before the first.
 */
import { type Clock, systemClock } from '../base/clock.ts';
import { SwarmError } from '../base/errors.ts';
import type { Bus } from './connection.ts';
import { spokenDuration } from './time.ts';

export interface ClockOffset {
  /** The broker's clock minus ours. */
  readonly offsetNs: bigint;
  /** The truth is within this of `offsetNs`: half the round trip. */
  readonly uncertaintyNs: bigint;
}

export type ClockVerdict = 'fine' | 'doubtful' | 'hopeless';

/**
 * Returns `hopeless` if every message would be stale: the clocks differ, at the least, by half the duplicate
 * window; `doubtful` from a quarter of it on.
 */
export function clockVerdict(offset: ClockOffset, duplicateWindowNs: bigint): ClockVerdict {
  const { offsetNs, uncertaintyNs } = offset;
  const atLeast = (offsetNs < 0n ? -offsetNs : offsetNs) - uncertaintyNs;
  if (atLeast * 2n >= duplicateWindowNs) return 'hopeless';
  return atLeast * 4n >= duplicateWindowNs ? 'doubtful' : 'fine';
}

/** Asks the broker for its time. Throws what the client throws. */
export type AskTime = () => Promise<bigint>;

/** Returns the offset by the sample with the least round trip, out of `samples`. */
export async function measureClockOffset(
  ask: AskTime,
  options: { readonly samples?: number; readonly clock?: Clock } = {},
): Promise<ClockOffset> {
  const { samples = 5, clock = systemClock() } = options;
  let best: ClockOffset | undefined;
  for (let sample = 0; sample < samples; sample++) {
    const asked = clock();
    const broker = await ask();
    const answered = clock();
    const uncertaintyNs = (answered - asked) / 2n;
    if (uncertaintyNs < 0n) continue; // our clock was set back in between
    if (best === undefined || uncertaintyNs < best.uncertaintyNs) {
      best = { offsetNs: broker - (asked + uncertaintyNs), uncertaintyNs };
    }
  }
  return best ?? { offsetNs: 0n, uncertaintyNs: 0n };
}

/** Judges the facts of a stream: throws `BUS_CLOCK` if publishing is hopeless; warns on `busStatus` if it is doubtful. */
export function requireClock(
  bus: Bus,
  { clock, duplicateWindowNs }: { readonly clock: ClockOffset; readonly duplicateWindowNs: bigint },
): void {
  const verdict = clockVerdict(clock, duplicateWindowNs);
  if (verdict === 'fine') return;
  const words = `this machine's clock is ${spokenDuration(Math.abs(Number(clock.offsetNs)))} ${clock.offsetNs > 0n ? 'behind' : 'ahead of'} the broker's`;
  if (verdict === 'doubtful') {
    bus.warn(
      `${words}; from ${spokenDuration(Number(duplicateWindowNs) / 2)} on, every message would be stale`,
    );
    return;
  }
  throw new SwarmError(
    'BUS_CLOCK',
    `${words}, so every message would be stale; set the clock (NTP), or widen the stream's duplicate window of ${spokenDuration(Number(duplicateWindowNs))}`,
  );
}
