/**
 * One run of the command: what a subcommand is given to speak, to hear of Ctrl-C, and to say how it ended.
 */
import type { Command } from '@commander-js/extra-typings';
import type { Interruption } from './interruption.ts';
import type { Output } from './output.ts';

/** How a command that did its work ended; one that could not, throws. */
export type Ending = 'true' | 'findings' | 'interrupted';

export interface Invocation {
  readonly out: Output;
  readonly interruption: Interruption;
  /** Says how the command ended. Unsaid, it is 'true'. */
  end(ending: Ending): void;
}

/** What each file in commands/ exports: arguments, options, help and action, put on a command of its name. */
export interface CommandModule {
  define(command: Command, invocation: Invocation): void;
}
