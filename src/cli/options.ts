/**
 * What several commands take: the settings of an agent, and numbers.
 */
import type { Command } from '@commander-js/extra-typings';
import { InvalidArgumentError } from 'commander';
import type { SettingSources } from '../agent/settings.ts';
import { nameGrammar, parsePattern } from '../base/subject.ts';

/** What a command that joins the swarm was told; the rest is left to the env file and the environment. */
export type JoinOptions = {
  url?: string | undefined;
  creds?: string | undefined;
  env?: string | undefined;
  keyring?: string | undefined;
  log?: string | undefined;
  state?: string | undefined;
  stream?: string | undefined;
  swarm?: string | undefined;
};

/** Returns `command` with the options of whoever joins the swarm. */
export function takingSettings(command: Command): Command<[], JoinOptions> {
  return command
    .optionsGroup('Options of an agent:')
    .option('--url <url>', 'the NATS server (NATS_URL, else nats://127.0.0.1:4222)')
    .option('--creds <file>', 'a NATS credentials file (NATS_CREDS)')
    .option('--env <file>', "the file with the agent's key (SWARM_ENV, else .env)")
    .option('--keyring <file>', 'whom to trust, and with what (SWARM_KEYRING, else swarm.keys.json)')
    .option('--log <file>', 'where everything is logged (SWARM_LOG, else logs/swarm.jsonl)')
    .option('--state <folder>', 'where it remembers what it sealed (SWARM_STATE, else .swarm/sealed)')
    .option('--stream <name>', 'the JetStream stream (SWARM_STREAM, else THREADS)')
    .option('--swarm <name>', 'the swarm that messages are said in (SWARM_NAME, else the keyring says)')
    .optionsGroup('Options:');
}

/** Returns `command` with the options of whoever only reads what the swarm's broker keeps. */
export function readingSettings(
  command: Command,
): Command<[], Pick<JoinOptions, 'url' | 'creds' | 'env' | 'keyring' | 'stream'>> {
  return command
    .option('--url <url>', 'the NATS server (NATS_URL, else nats://127.0.0.1:4222)')
    .option('--creds <file>', 'a NATS credentials file (NATS_CREDS)')
    .option('--env <file>', 'the env file (SWARM_ENV, else .env)')
    .option('--keyring <file>', 'whom to trust, and with what (SWARM_KEYRING, else swarm.keys.json)')
    .option('--stream <name>', 'the JetStream stream (SWARM_STREAM, else THREADS)')
    .option('--swarm <name>', 'the swarm whose messages count (SWARM_NAME, else the keyring says)');
}

/** Returns `options` as the settings they are. */
export function settingsOf({ creds, ...options }: JoinOptions): SettingSources {
  return given({ ...options, credentials: creds });
}

type Given<T> = { [Name in keyof T]?: Exclude<T[Name], undefined> };

/** Returns `options` without those that were not given. */
export function given<T extends object>(options: T): Given<T> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Given<T>;
}

/** Returns an option that was given several times, in order. */
export function collect(value: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), value];
}

/** Returns durables as a keyring has them, given once for each filter as `NAME=FILTER`. */
export function collectDurable(
  text: string,
  before: Readonly<Record<string, readonly string[]>> = {},
): Readonly<Record<string, readonly string[]>> {
  const [name = '', ...rest] = text.split('=');
  const filter = rest.join('=');
  if (!nameGrammar.test(name) || filter === '') {
    throw new InvalidArgumentError("It is not a durable and its filter: worker='thread.*.planner'.");
  }
  return { ...before, [name]: [...(before[name] ?? []), parsePattern(filter)] };
}

/** Returns the number of a port; 0 is a free one. */
export function parsePort(text: string): number {
  if (/^\d{1,5}$/.test(text) && Number(text) <= 65_535) return Number(text);
  throw new InvalidArgumentError('It is not a port: 0 (a free one) to 65535.');
}

/** Returns a whole number from 1 on. */
export function parsePositive(text: string): number {
  if (/^[1-9]\d{0,14}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('It is not a whole number from 1 on.');
}

/** Returns a whole number from 0 on. */
export function parseCount(text: string): number {
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('It is not a whole number.');
}
