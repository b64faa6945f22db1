/**
 * Two sides, measured in turn: A B A B …, so that a machine whose speed drifts slows both alike.
 *
 * Quoted are the median of each side and the median of the rounds' ratios; the spread says how far to trust them.
 */
import { Session } from 'node:inspector/promises';

export interface Side {
  readonly name: string;
  /** Does the work of one round and returns how many things it did. */
  round(): Promise<number>;
}

export interface Comparison {
  readonly what: string;
  /** Things a second, by side. */
  readonly rates: Readonly<Record<string, Spread>>;
  /** The first side's rate over the second's, round by round. */
  readonly ratio: Spread;
  /** Where the first side spent its time, in a round of its own. */
  readonly profile: readonly string[];
}

export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** Measures `ours` against `theirs`, after a round of each that does not count. */
export async function compare(what: string, ours: Side, theirs: Side, rounds: number): Promise<Comparison> {
  const rates = new Map<Side, number[]>([
    [ours, []],
    [theirs, []],
  ]);
  for (let round = -1; round < rounds; round += 1) {
    for (const [side, measured] of rates) {
      const started = performance.now();
      const count = await side.round();
      if (round >= 0) measured.push(count / ((performance.now() - started) / 1000));
    }
  }
  const [our = [], their = []] = rates.values();
  return {
    what,
    rates: { [ours.name]: spreadOf(our), [theirs.name]: spreadOf(their) },
    ratio: spreadOf(our.map((rate, round) => rate / (their[round] ?? Number.NaN))),
    profile: await profileOf(ours),
  };
}

export function spreadOf(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = (sorted.length - 1) / 2;
  const median = ((sorted[Math.floor(middle)] ?? Number.NaN) + (sorted[Math.ceil(middle)] ?? Number.NaN)) / 2;
  return { median, min: sorted[0] ?? Number.NaN, max: sorted.at(-1) ?? Number.NaN };
}

const entries = 12;

/** Returns the functions in which a round of `side` spends its time, the most first, without what it calls. */
async function profileOf(side: Side): Promise<string[]> {
  const session = new Session();
  session.connect();
  await session.post('Profiler.enable');
  await session.post('Profiler.start');
  await side.round();
  const { profile } = await session.post('Profiler.stop');
  session.disconnect();
  const names = new Map(profile.nodes.map(({ id, callFrame }) => [id, callFrame]));
  const spent = new Map<string, number>();
  for (const [index, id] of (profile.samples ?? []).entries()) {
    const frame = names.get(id);
    const file = frame?.url.split('/').slice(-2).join('/') ?? '';
    const name = `${frame?.functionName.slice(0, 40) || '(anonymous)'}${file && ` ${file}:${(frame?.lineNumber ?? 0) + 1}`}`;
    spent.set(name, (spent.get(name) ?? 0) + (profile.timeDeltas?.[index] ?? 0));
  }
  const total = [...spent.values()].reduce((sum, time) => sum + time, 0);
  return [...spent]
    .toSorted(([, a], [, b]) => b - a)
    .slice(0, entries)
    .map(([name, time]) => `${((time / total) * 100).toFixed(1).padStart(5)} %  ${name}`);
}
