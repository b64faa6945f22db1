/**
 * How a record is told on a line: by whom, what, when and how long after.
 */
import type { PublicKey } from '../identity/key.ts';
import type { Keyring } from '../identity/keyring.ts';
import { shownPayload } from './payload.ts';

/** Returns the agent's name, or enough of the key to tell it from others. */
export function nameOf(key: PublicKey, keyring: Keyring | undefined): string {
  return keyring?.find(key)?.agent.name ?? `${key.slice(0, 8)}…`;
}

/** Returns a payload for a person, or that it is withheld. */
export function payloadOf({ payload }: { readonly payload: Buffer | undefined }): string {
  return payload === undefined ? '(withheld)' : shownPayload(payload);
}

/** Returns a time as ISO 8601 has it, to the millisecond, in UTC. */
export function timeOf(tsNs: bigint): string {
  return new Date(Number(tsNs / 1_000_000n)).toISOString();
}

const units = [
  ['d', 86_400],
  ['h', 3_600],
  ['min', 60],
] as const;

/** Returns the time between two moments as a person says it: `+40 µs`, `+2.3 s`, `+3 min 20 s`, `+2 d 4 h`. */
export function spokenGap(ns: bigint): string {
  const sign = ns < 0n ? '-' : '+';
  const seconds = Math.abs(Number(ns)) / 1e9;
  if (seconds < 0.00095) return `${sign}${Math.round(seconds * 1e6)} µs`;
  if (seconds < 0.0095) return `${sign}${(seconds * 1e3).toFixed(1)} ms`;
  if (seconds < 0.9995) return `${sign}${Math.round(seconds * 1e3)} ms`;
  if (seconds < 59.95) return `${sign}${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  for (const [index, [unit, size]] of units.entries()) {
    if (whole < size) continue;
    const [lesserUnit, lesserSize] = units[index + 1] ?? ['s', 1];
    const rest = Math.floor((whole % size) / lesserSize);
    return `${sign}${Math.floor(whole / size)} ${unit}${rest === 0 ? '' : ` ${rest} ${lesserUnit}`}`;
  }
  return `${sign}${whole} s`;
}
