/** Times as the broker writes them (RFC 3339, up to nanoseconds) and nanoseconds since the Unix epoch. Pure. */

const grammar = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/;

/** Returns the nanoseconds that `text` stands for, or `undefined` if it is no such time. */
export function parseTime(text: string): bigint | undefined {
  const parts = grammar.exec(text);
  if (parts === null) return undefined;
  const [, seconds = '', fraction = '', zone = ''] = parts;
  const ms = Date.parse(`${seconds}${zone}`);
  return Number.isNaN(ms) ? undefined : BigInt(ms) * 1_000_000n + BigInt(fraction.padEnd(9, '0'));
}

/** Returns `ns` (0 or later) as text that `parseTime` reads back. */
export function printTime(ns: bigint): string {
  const seconds = new Date(Number(ns / 1_000_000_000n) * 1_000).toISOString().slice(0, 19);
  return `${seconds}.${String(ns % 1_000_000_000n).padStart(9, '0')}Z`;
}

/** Returns nanoseconds as a person says them: `30s`, `1.5s`, `250ms`. */
export function spokenDuration(ns: number): string {
  return Math.abs(ns) >= 1e9 ? `${Number((ns / 1e9).toFixed(3))}s` : `${Number((ns / 1e6).toFixed(3))}ms`;
}
