#!/usr/bin/env node
/**
 * The `swarm` command: runs what its arguments name and turns how that ended into an exit code, here and only here.
 *
 *     0  true                 1  findings: the log, or what was asked about, is not as it should be
 *     2  wrong usage          3  could not look, or could not do it
 *
 * An interrupted command exits as one that was killed by the signal: 128 and its number (130 for Ctrl-C).
 */
import { constants } from 'node:os';
import { CommanderError } from 'commander';
import { messageOf, SwarmError } from '../base/errors.ts';
import { Interruption } from './interruption.ts';
import type { Ending } from './invocation.ts';
import { Output } from './output.ts';
import { runProgram } from './program.ts';

const exitCodes = { true: 0, findings: 1, wrongUsage: 2, couldNotLook: 3 } as const;

const args = process.argv.slice(2);
const verbose = process.env.SWARM_DEBUG === '1' || args.includes('--verbose');
const out = new Output(process.stdout, process.stderr);
const interruption = new Interruption((by) => process.exit(codeOfSignal(by)));
let ending: Ending = 'true';

out.whenUnread(() => interruption.stopUnread());
process.removeAllListeners('warning'); // Node's own, which prints a process id and a hint for developers
process.on('warning', ({ name, message, stack }) => {
  if (name === 'SwarmWarning') out.warn(message);
  else if (verbose) out.warn(stack ?? message);
});
process.on('uncaughtException', (thrown) => {
  complain(thrown);
  process.exit(exitCodes.couldNotLook);
});

try {
  await runProgram(args, {
    out,
    interruption,
    end: (how) => {
      ending = how;
    },
  });
  process.exitCode = codeOfEnding(ending);
} catch (thrown) {
  process.exitCode = codeOfThrown(thrown);
  if (!(thrown instanceof CommanderError) && !interruption.is(thrown)) complain(thrown);
}

function codeOfEnding(how: Ending): number {
  switch (how) {
    case 'true':
      return exitCodes.true;
    case 'findings':
      return exitCodes.findings;
    case 'interrupted':
      return codeOfSignal(interruption.by ?? 'SIGINT');
  }
}

function codeOfThrown(thrown: unknown): number {
  // Help and version end in an exception too, with 0.
  if (thrown instanceof CommanderError) return thrown.exitCode === 0 ? exitCodes.true : exitCodes.wrongUsage;
  if (interruption.by !== undefined) return codeOfSignal(interruption.by);
  const code = thrown instanceof SwarmError ? thrown.code : undefined;
  if (code === 'LOG_REFUSED' || code === 'REPLAY_DIVERGED') return exitCodes.findings;
  return code === 'USAGE' || code === 'SUBJECT_INVALID' ? exitCodes.wrongUsage : exitCodes.couldNotLook;
}

function codeOfSignal(by: NodeJS.Signals): number {
  return 128 + constants.signals[by];
}

function complain(thrown: unknown): void {
  if (!verbose || !(thrown instanceof Error)) {
    out.fail(messageOf(thrown));
    return;
  }
  for (let error: unknown = thrown; error instanceof Error; error = error.cause) {
    const what = error === thrown ? error.message : `because of ${error.name}: ${error.message}`;
    const code = error instanceof SwarmError ? [error.code] : [];
    out.fail([what, ...code, ...framesOf(error)].join('\n'));
  }
}

/** Returns where an error was thrown: the lines of its stack after what repeats the message. */
function framesOf({ stack = '' }: Error): string[] {
  return stack.split('\n').filter((line) => /^ {4}at /.test(line));
}
