/**
 * What the broker's clock says now, as far as we can know.
 *
 * The offset is measured, and holds for as long as nothing moves: it is measured again on every new connection, once
 * a minute while it is asked for, and as soon as the system's clock and the monotonic one disagree, which is how a
 * step (NTP, a suspended machine) shows. Until a new measurement is in, both are believed a little: the answer is a
 * span that holds what either says, and is not sure.
 */
import type { Clock } from '../base/clock.ts';
import { type AskTime, type ClockOffset, measureClockOffset } from './clock.ts';
import type { Bus } from './connection.ts';

/** Where the broker's clock stands. */
export interface BrokerNow {
  readonly earliestNs: bigint;
  /** Never before our own clock: what a publisher may do ends by whichever is ahead. */
  readonly latestNs: bigint;
  /** Whether the span was measured on this connection, and no clock has moved since. */
  readonly isSure: boolean;
}

export interface BrokerClockOptions {
  readonly clock: Clock;
  readonly ask: AskTime;
  /** Measured just now. @default it is measured at once */
  readonly offset?: ClockOffset | undefined;
}

const driftAllowedNs = 200_000_000n;
const measureEveryMs = 60_000;
const askAgainMs = 1_000;
const samples = 3;

interface Measurement extends ClockOffset {
  readonly session: number;
  /** Our two clocks when it was begun. */
  readonly wallNs: bigint;
  readonly monotonicMs: number;
}

export class BrokerClock {
  readonly #bus: Bus;
  readonly #clock: Clock;
  readonly #ask: AskTime;
  #measured: Measurement;
  #isMeasured: boolean;
  #measuring: Promise<ClockOffset> | undefined;
  #askedAt = Number.NEGATIVE_INFINITY;
  #latest: { readonly atMs: number; readonly now: BrokerNow } | undefined;

  constructor(bus: Bus, { clock, ask, offset }: BrokerClockOptions) {
    this.#bus = bus;
    this.#clock = clock;
    this.#ask = ask;
    this.#isMeasured = offset !== undefined;
    this.#measured = this.#begin(offset ?? { offsetNs: 0n, uncertaintyNs: 0n });
  }

  /** Cheap enough to ask for each message: what it said stays for a millisecond. */
  now(): BrokerNow {
    const atMs = performance.now();
    if (this.#latest !== undefined && atMs - this.#latest.atMs < 1) return this.#latest.now;
    const now = this.#look(atMs);
    this.#latest = { atMs, now };
    return now;
  }

  /** Returns the offset, measured anew. Throws what the client throws. */
  measure(): Promise<ClockOffset> {
    this.#measuring ??= this.#measure().finally(() => {
      this.#measuring = undefined;
    });
    return this.#measuring;
  }

  #look(atMs: number): BrokerNow {
    const { offsetNs, uncertaintyNs, session, wallNs, monotonicMs } = this.#measured;
    const wall = this.#clock();
    const byWall = wall + offsetNs;
    const byMonotonic = wallNs + offsetNs + BigInt(Math.round((atMs - monotonicMs) * 1e6));
    const drift = byWall - byMonotonic;
    const isSure =
      this.#isMeasured &&
      session === this.#bus.session &&
      drift <= driftAllowedNs &&
      drift >= -driftAllowedNs;
    if (!isSure || atMs - monotonicMs > measureEveryMs) this.#measureSoon(atMs);
    return {
      earliestNs: least(byWall, byMonotonic) - uncertaintyNs,
      latestNs: most(wall, most(byWall, byMonotonic) + uncertaintyNs),
      isSure,
    };
  }

  #measureSoon(atMs: number): void {
    if (!this.#bus.isConnected || atMs - this.#askedAt < askAgainMs) return;
    this.#askedAt = atMs;
    this.measure().catch(() => undefined); // unsure as before, and asked again
  }

  async #measure(): Promise<ClockOffset> {
    const begun = this.#begin({ offsetNs: 0n, uncertaintyNs: 0n });
    const offset = await measureClockOffset(this.#ask, { clock: this.#clock, samples });
    this.#measured = { ...begun, ...offset };
    this.#isMeasured = true;
    this.#latest = undefined;
    return offset;
  }

  #begin(offset: ClockOffset): Measurement {
    return {
      ...offset,
      session: this.#bus.session,
      wallNs: this.#clock(),
      monotonicMs: performance.now(),
    };
  }
}

function least(one: bigint, other: bigint): bigint {
  return one < other ? one : other;
}

function most(one: bigint, other: bigint): bigint {
  return one > other ? one : other;
}
