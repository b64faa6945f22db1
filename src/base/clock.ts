/**
 * The wall clock in nanoseconds since the Unix epoch.
 *
 * `Date.now()` follows the system's clock, steps included, but only to the millisecond; `hrtime` is fine
 * but does not know the date. This clock takes the date from the first and the fraction from the second,
 * and takes its bearings anew whenever the two have drifted apart.
 */

/** Returns nanoseconds since the Unix epoch. Another may be passed wherever time matters to a test. */
export type Clock = () => bigint;

const driftAllowedNs = 2_000_000n;

/** Returns a clock that follows the system's. */
export function systemClock(): Clock {
  let wall = 0n;
  let monotonic = 0n;
  return () => {
    const now = process.hrtime.bigint();
    const date = BigInt(Date.now()) * 1_000_000n;
    const estimate = wall + (now - monotonic);
    const drift = estimate - date;
    if (drift >= -driftAllowedNs && drift <= driftAllowedNs) return estimate;
    wall = date;
    monotonic = now;
    return date;
  };
}
