/**
 * The command line: every subcommand with a line about it, and the file that defines it, loaded when it is named.
 *
 * Parsing is commander's, and strict: an unknown command, option or further argument is an error, with a suggestion where one is near.
 */
import { readFileSync } from 'node:fs';
import type { Command } from '@commander-js/extra-typings';
import { Command as Commander } from 'commander';
import type { CommandModule, Invocation } from './invocation.ts';

interface Entry {
  readonly summary: string;
  load(): Promise<CommandModule>;
}

const entries: Readonly<Record<string, Entry>> = {
  demo: {
    summary: 'two agents, one message, one verified log, in this folder',
    load: () => import('./commands/demo.ts'),
  },
  keys: {
    summary: "make an agent's key pair, and keep the keyring of whom to trust",
    load: () => import('./commands/keys.ts'),
  },
  up: { summary: 'run a local NATS server with JetStream', load: () => import('./commands/up.ts') },
  doctor: {
    summary: 'what of keys, broker, clock and disk is as it should be',
    load: () => import('./commands/doctor.ts'),
  },
  pub: { summary: 'sign, log and publish a message', load: () => import('./commands/pub.ts') },
  sub: { summary: 'print messages once verified and logged', load: () => import('./commands/sub.ts') },
  dead: {
    summary: 'see the messages that were given up, and say them again',
    load: () => import('./commands/dead.ts'),
  },
  tail: { summary: 'print the last records of a log', load: () => import('./commands/tail.ts') },
  verify: {
    summary: 'check that nothing in a log was changed, dropped, moved or added',
    load: () => import('./commands/verify.ts'),
  },
  replay: {
    summary: 'tell what happened, cause before effect, from any number of logs',
    load: () => import('./commands/replay.ts'),
  },
  seal: {
    summary: 'sign a checkpoint over all that a log holds',
    load: () => import('./commands/seal.ts'),
  },
  prove: {
    summary: 'write the proof of one record, to hand over without the rest',
    load: () => import('./commands/prove.ts'),
  },
  'check-proof': {
    summary: 'check the proof of one record with the keyring alone',
    load: () => import('./commands/check-proof.ts'),
  },
  reconcile: {
    summary: "hold a log against the broker's stream, and say again what that lost",
    load: () => import('./commands/reconcile.ts'),
  },
  rerun: {
    summary: 'run agents again from a log, and name what they do otherwise',
    load: () => import('./commands/rerun.ts'),
  },
};

const description = `The Intercom and the CCTV for swarms of agents: messages over NATS JetStream, each signed, logged
on disk before it is sent or heard, and open to verification by anyone.`;

const afterwords = `
Examples:
  $ swarm demo                                              see it work
  $ swarm keys new --name planner                           become an agent
  $ swarm up                                                start a broker
  $ swarm pub thread.t1.planner '{"hello":"world"}'         say something
  $ swarm sub 'thread.t1.>'                                 hear it
  $ swarm verify                                            prove it
  $ swarm replay                                            see what led to what
  $ swarm prove logs/swarm.jsonl:1                          prove one record to others
  $ swarm reconcile                                         does the broker have what the log has?
  $ swarm rerun agents/worker.js                            do its agents do the same again?

Exit codes: 0 true, 1 findings, 2 wrong usage, 3 could not look.
Environment: NATS_URL, NATS_CREDS, NATS_CONTEXT, NATS_CA, NATS_CERT, NATS_KEY, SWARM_ENV, SWARM_LOG, SWARM_KEYRING,
SWARM_STATE, SWARM_STREAM, SWARM_NAME, SWARM_NATS_SERVER; SWARM_DEBUG=1 is --verbose. A .env file in the current folder may hold them too.`;

/**
 * Runs the subcommand that `args` name. Throws what it throws, and commander's errors, which have been said by then;
 * help and version end in such an error too, with exit code 0.
 */
export async function runProgram(args: readonly string[], invocation: Invocation): Promise<void> {
  const words = args.filter((arg) => !arg.startsWith('-'));
  const [named] = words[0] === 'help' ? words.slice(1) : words;
  const isKnown = named !== undefined && Object.hasOwn(entries, named);
  const program = await programFor(isKnown ? named : undefined, invocation);
  // Help for a command that there is not is an unknown command like any other, with a suggestion.
  await program.parseAsync(named === undefined || isKnown ? args : [named], { from: 'user' });
}

/** Returns the program, with the subcommand of that name loaded. */
async function programFor(named: string | undefined, invocation: Invocation): Promise<Command> {
  const { out } = invocation;
  const program = (new Commander('swarm') as unknown as Command)
    .description(description)
    .version(readVersion(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print help')
    .helpCommand('help [command]', 'print help for a command')
    .option('-q, --quiet', 'keep stderr to warnings and errors')
    .option('--verbose', 'print the causes of an error, and where it was thrown')
    .addHelpText('after', afterwords)
    .configureHelp({
      showGlobalOptions: true,
      commandDescription: (command) => command.description().replaceAll('\n', ' '), // wrapped to the terminal, not to the source
    })
    .configureOutput({ outputError: (text) => out.fail(oneLine(text)) })
    .exitOverride()
    .showHelpAfterError('`swarm --help` lists the commands.');
  program.hook('preAction', () => {
    if (program.opts().quiet === true) out.beQuiet();
  });
  for (const [name, { summary, load }] of Object.entries(entries)) {
    const command = program.command(name).summary(summary).description(sentence(summary));
    command.showHelpAfterError(`\`swarm ${name} --help\` shows how it is used.`);
    if (name === named) (await load()).define(command as unknown as Command, invocation);
  }
  return program as unknown as Command;
}

/** Returns what commander says of an error, as our errors are said: no prefix, the suggestion on the same line. */
function oneLine(text: string): string {
  return text
    .replace(/^error: /, '')
    .trimEnd()
    .replace(/\n\((Did you mean .*\?)\)$/, ' ($1)');
}

function sentence(summary: string): string {
  return `${summary.charAt(0).toUpperCase()}${summary.slice(1)}.`;
}

/** Returns the version in our package.json, two folders up from here in `src` as in `dist`. */
function readVersion(): string {
  const file = new URL('../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}
