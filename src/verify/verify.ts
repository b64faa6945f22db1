/**
 * Verifies a log: every line for itself, every session's chain, what the lines say of each other, and what was sealed.
 *
 * Stands on docs/format.md, sections 4 to 8. The log, its keys and checkpoints kept elsewhere go in; findings, counts and
 * a verdict come out. Nothing of a network is imported here: proof must not need the system that is proved.
 */
import { SwarmError } from '../base/errors.ts';
import type { LogReport, VerifyOptions } from './report.ts';
import { readState } from './state.ts';
import { Verification } from './verification.ts';

export type { FileTree, LogReport, VerifyOptions } from './report.ts';

/**
 * Verifies the log at `path`, all its segments. Throws `LOG_OPEN` where it cannot be read, `STATE_INVALID`, and `USAGE`
 * for a state together with `quick`. A state that cannot be written costs nothing but the next run's time, and is told.
 */
export async function verifyLog(path: string, options: VerifyOptions = {}): Promise<LogReport> {
  const { quick = false, state: statePath } = options;
  if (statePath === undefined) return await run(new Verification(path, options));
  if (quick)
    throw new SwarmError('USAGE', 'a quick verification checks too little to be remembered in a state');
  const state = await readState(statePath);
  const report = await run(new Verification(path, options, state)).catch((cause: unknown) => {
    if (state === undefined) throw cause;
    return undefined; // tiles that are needed and gone, mostly; if it is the log, reading it will show
  });
  if (report !== undefined && (report.findingCounts.size === 0 || report.resumed?.records === 0))
    return report;
  // What is wrong may be older than what was read, and what was not read may be why it seems wrong.
  const whole = await run(new Verification(path, options));
  const reason =
    report === undefined
      ? 'its tiles cannot be read'
      : 'something is wrong with what is new, or with its tiles';
  return { ...whole, resumed: { ...whole.resumed, records: 0, reason } };
}

async function run(verification: Verification): Promise<LogReport> {
  await using running = verification;
  return await running.run();
}
