/**
 * Why a nats-server did not start, in its own last words, and what to do about it. Pure.
 */

export interface FailedStart {
  /** The last lines that the server wrote. */
  readonly lines: readonly string[];
  /** What to say of a server that still ran when its time was up. */
  readonly late: string | undefined;
  readonly path: string;
  readonly storeDir: string;
  readonly configFile: string | undefined;
}

/** Returns the message for `SERVER_START`: the fatal line, the way out, and below them whatever else it said. */
export function describeFailedStart(failure: FailedStart): string {
  const said = failure.lines
    .map((line) => line.replace(/^\[\d+\] \S+ \S+ /, '').trimEnd())
    .filter((line) => line !== '');
  const fatal = said.findLast((line) => line.startsWith('[FTL] '))?.slice('[FTL] '.length);
  const problem = failure.late ?? fatal ?? said[0] ?? 'it ended without a word';
  const advice = waysOut.find(([pattern]) => pattern.test(problem))?.[1](failure);
  const rest = said.filter((line) => !line.includes(problem)).map((line) => `\n  ${line}`);
  return `nats-server did not start: ${problem}${advice === undefined ? '' : `; ${advice}`}${rest.join('')}`;
}

const waysOut: readonly [RegExp, (failure: FailedStart) => string][] = [
  [/address already in use/, () => 'stop what listens there, or choose another port'],
  [/start JetStream|storage directory/, ({ storeDir }) => `JetStream must be able to write to ${storeDir}`],
  [/\bexec: /, ({ path }) => `${path} is not a program that runs here`],
  [/^flag provided/, () => 'correct the additional arguments'],
  [
    /^nats-server: /,
    ({ configFile }) =>
      `correct ${configFile === undefined ? 'the arguments' : `${configFile} or the arguments`}`,
  ],
];
