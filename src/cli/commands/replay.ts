/**
 * `swarm replay`: what a log says happened, in one order, whoever wrote it and wherever.
 *
 * The logs are verified first, and one that does not verify is not shown. The digest at the end is of the records that were
 * shown: two people who see the same one have seen the same history.
 */
import type { Command } from '@commander-js/extra-typings';
import { InvalidArgumentError } from 'commander';
import { loadKnownKeys } from '../../agent/self.ts';
import { readSettings, type Settings } from '../../agent/settings.ts';
import type { Sha256Hex } from '../../base/encoding.ts';
import { SwarmError } from '../../base/errors.ts';
import { parseTime } from '../../bus/time.ts';
import type { Keyring } from '../../identity/keyring.ts';
import { logFiles } from '../../log/files.ts';
import type { Selection } from '../../replay/selection.ts';
import { type Replayed, Story } from '../../replay/story.ts';
import { openTimeline, type Timeline } from '../../replay/timeline.ts';
import { findLine } from '../../verify/prove.ts';
import { anchorsInFiles } from '../anchors.ts';
import { sizeOf } from '../files.ts';
import type { Invocation } from '../invocation.ts';
import { collect, given, parsePositive } from '../options.ts';
import { type Output, styled } from '../output.ts';
import { progressOf } from '../progress.ts';
import { parseRecordName } from '../record-name.ts';
import { recordAsJson, StoryPrinter } from '../story.ts';

/** What the command was told. */
type Options = {
  thread?: string | undefined;
  kind?: string | undefined;
  since?: bigint | undefined;
  from?: string | undefined;
  until?: string | undefined;
  json?: true | undefined;
  keyring?: string | undefined;
  trustOnFirstUse?: true | undefined;
  checkpoint?: readonly string[] | undefined;
  jobs?: number | undefined;
  to?: string | undefined;
  prefix?: string | undefined;
  stream?: string | undefined;
  speed?: number | undefined;
  creds?: string | undefined;
};

export function define(command: Command, invocation: Invocation): void {
  command
    .description(
      `Tell what happened, thread by thread: who said what, who heard it, and what came of it, each message below the one
that led to it. Any number of logs are told as one, in an order that depends on the records alone: cause before effect,
then each session's own order, then time. A log that does not verify is refused. With --to the recorded messages are sent
into a stream of their own instead, as they were; a command that was killed goes on where the stream ends.`,
    )
    .argument('[logs...]', 'the logs (SWARM_LOG, else logs/swarm.jsonl)')
    .option('--thread <id>', 'only this thread')
    .option('--kind <kind>', 'only records of this kind, as in BUS.PUBLISH')
    .option(
      '--since <time>',
      'only from then on: an ISO time, or as long ago as 90s, 10m, 2h, 3d',
      parseSince,
    )
    .option('--from <record>', 'begin with this record: its leaf, FILE:LINE, or its number in the stream')
    .option('--until <record>', 'end with this record')
    .option('--json', 'print one JSON object a line, in the order of time, and last what was replayed')
    .option('--keyring <file>', 'whose signatures count (SWARM_KEYRING, else swarm.keys.json)')
    .option('--trust-on-first-use', 'take the keys from the logs themselves')
    .option('--checkpoint <file>', 'a checkpoint that the log must agree with, once for each', collect)
    .option('--jobs <n>', 'how many threads verify (default: as many as there are cores)', parsePositive)
    .optionsGroup('To send the recorded messages into a stream:')
    .option('--to <url>', 'the NATS server')
    .option('--stream <name>', 'the stream, created where it is not (default: REPLAY)')
    .option('--prefix <prefix>', 'what goes before each subject (default: replay.)', parsePrefix)
    .option('--speed <speed>', '1x as it was recorded, 10x, or max (default: 1x)', parseSpeed)
    .option('--creds <file>', 'a NATS credentials file (NATS_CREDS)')
    .addHelpText(
      'after',
      `
Examples:
  $ swarm replay
  $ swarm replay --thread t1 --since 10m
  $ swarm replay planner/swarm.jsonl worker/swarm.jsonl
  $ swarm replay --kind BUS.PUBLISH --json | jq -c .payload
  $ swarm replay --to nats://127.0.0.1:4222 --speed 10x`,
    )
    .action(async (logs, options: Options) => {
      requireFitting(options);
      const { out } = invocation;
      const { to, creds } = options;
      const settings = await readSettings(
        given({ keyring: options.keyring, log: logs[0], url: to, credentials: creds }),
      );
      const paths = logs.length === 0 ? [settings.log] : logs;
      const keyring = await keyringFor(options, settings, out);
      const selection = await selectionOf(options, paths);
      using timeline = await opened(paths, keyring, options, out);
      if (to !== undefined) return await send(timeline, selection, settings, options, invocation);
      const replayed = await tell(new Story(timeline, selection), timeline, keyring, options, invocation);
      if (options.json === true) out.json(replayed);
      else out.data(sentenceOf(replayed));
    });
}

/** Throws `USAGE` for options that contradict each other, or would do nothing. */
function requireFitting({ to, kind, ...options }: Options): void {
  const ofTo = (['prefix', 'stream', 'speed', 'creds'] as const).find((name) => options[name] !== undefined);
  if (to === undefined && ofTo !== undefined) {
    throw new SwarmError('USAGE', `--${ofTo} is for --to; without it nothing is sent`);
  }
  if (to !== undefined && kind !== undefined && kind !== 'BUS.PUBLISH') {
    throw new SwarmError('USAGE', `--to sends messages, which are records of BUS.PUBLISH, not ${kind}`);
  }
}

async function send(
  timeline: Timeline,
  selection: Selection,
  settings: Settings,
  { prefix = 'replay.', stream = 'REPLAY', speed = 1, json }: Options,
  invocation: Invocation,
): Promise<void> {
  const { out } = invocation;
  const { republishInto } = await import('../republishing.ts');
  const where = { settings, stream, prefix, speed };
  const { messages, sent, digest, sinkDigest } = await republishInto(where, timeline, selection, invocation);
  if (json === true) out.json({ stream, messages, sent, digest, streamDigest: sinkDigest });
  else {
    out.data(sentenceOf({ records: messages, messages, digest }));
    const isSame = digest === sinkDigest;
    out.data(
      styled(isSame ? 'green' : 'red', isSame ? 'The same' : 'Not the same'),
      `: stream ${stream} holds ${messages} messages, digest ${sinkDigest}`,
    );
  }
  if (digest !== sinkDigest) invocation.end('findings');
}

/** Returns the keyring that is there, or that was named; without one any key counts, and a person is told. */
async function keyringFor(
  { keyring, trustOnFirstUse }: Options,
  settings: Settings,
  out: Output,
): Promise<Keyring | undefined> {
  if (keyring !== undefined && trustOnFirstUse === true) {
    throw new SwarmError('USAGE', 'either --keyring or --trust-on-first-use: the keys come from one place');
  }
  const known = trustOnFirstUse === true ? undefined : await loadKnownKeys(settings);
  if (known !== undefined) out.note(`Keys: ${known.source} (SHA-256 ${known.sha256})`);
  else out.note('Keys: taken from the logs themselves. Who they belong to, nobody has said.');
  return known?.keyring;
}

async function selectionOf(
  { thread, kind, since, from, until }: Options,
  paths: readonly string[],
): Promise<Selection> {
  return given({
    threadId: thread,
    kind,
    sinceNs: since,
    from: from === undefined ? undefined : await leafNamed(from, paths),
    until: until === undefined ? undefined : await leafNamed(until, paths),
  });
}

/** Returns the leaf of the record that `text` names in one of the logs; throws `USAGE`, `RECORD_MISSING`. */
async function leafNamed(text: string, paths: readonly string[]): Promise<Sha256Hex> {
  const name = parseRecordName(text);
  if ('leaf' in name) return name.leaf; // whether it is there shows when all has come by
  if ('file' in name) {
    const log = paths.find((path) => logFiles(path).includes(name.file));
    if (log === undefined) throw new SwarmError('USAGE', `${name.file} is no file of ${paths.join(', ')}`);
  }
  for (const path of 'file' in name ? paths.slice(0, 1) : paths) {
    const found = await findLine(path, name);
    if (found !== undefined) return found.leaf;
  }
  throw new SwarmError('RECORD_MISSING', `no record of ${paths.join(', ')} is named by ${text}`);
}

async function opened(
  paths: readonly string[],
  keyring: Keyring | undefined,
  { jobs, checkpoint = [] }: Options,
  out: Output,
): Promise<Timeline> {
  if (checkpoint.length > 0 && paths.length > 1) {
    throw new SwarmError(
      'USAGE',
      '--checkpoint is of one log; verify each of several with `swarm verify` before',
    );
  }
  const anchors = await anchorsInFiles(checkpoint);
  const sizes = paths.map(sizeOf);
  using bar = await progressOf(Math.max(...sizes), out);
  return await openTimeline(paths, {
    ...given({ keyring, jobs }),
    anchors,
    onProgress: ({ bytes }) => bar.update(bytes),
  });
}

const linesAtOnce = 256;

async function tell(
  story: Story,
  timeline: Timeline,
  keyring: Keyring | undefined,
  { json }: Options,
  { out, interruption }: Invocation,
): Promise<Replayed> {
  const signal = interruption.take();
  const printer = new StoryPrinter(out, keyring);
  let lines = 0;
  for await (const record of timeline.read(json === true ? story.inOrder() : story.byThread())) {
    if (json === true) out.jsonText(recordAsJson(record, keyring));
    else printer.tell(record);
    lines += 1;
    if (lines % linesAtOnce === 0) await out.written();
    signal.throwIfAborted();
  }
  return story.replayed;
}

function sentenceOf({ records, messages, digest }: Replayed): string {
  return `Replayed ${records} records, ${messages} messages, digest ${digest}`;
}

const agoUnits: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600, d: 86_400 };

/** Returns what goes before subjects, so that no live agent hears them. */
function parsePrefix(text: string): string {
  const first = /^([A-Za-z0-9_-]+)\.(?:[A-Za-z0-9_-]+\.){0,7}$/.exec(text)?.[1];
  if (first === undefined)
    throw new InvalidArgumentError('It is not tokens that each end with a dot: replay.');
  if (first !== 'thread' && first !== 'checkpoint') return text;
  throw new InvalidArgumentError('Live agents listen there, and refuse copies.');
}

/** Returns how many times as fast. */
function parseSpeed(text: string): number {
  if (text === 'max') return Number.POSITIVE_INFINITY;
  const factor = Number(/^(\d{1,6}(?:\.\d{1,3})?)x$/.exec(text)?.[1]);
  if (factor > 0) return factor;
  throw new InvalidArgumentError('It is not a speed: 1x, 10x, 0.5x or max.');
}

/** Returns a moment as nanoseconds since the Unix epoch. */
function parseSince(text: string): bigint {
  const [, count, unit = ''] = /^(\d{1,9}(?:\.\d{1,3})?)([smhd])$/.exec(text) ?? [];
  if (count !== undefined) {
    const agoMs = Math.round(Number(count) * (agoUnits[unit] ?? 0) * 1_000);
    return BigInt(Date.now() - agoMs) * 1_000_000n;
  }
  const exact = parseTime(text);
  if (exact !== undefined) return exact;
  const ms = /^\d{4}-\d\d-\d\d/.test(text) ? Date.parse(text) : Number.NaN;
  if (!Number.isNaN(ms)) return BigInt(ms) * 1_000_000n;
  throw new InvalidArgumentError(
    'It is neither an ISO time (2026-01-31T12:00:00Z) nor as long ago as 90s, 10m, 2h, 3d.',
  );
}
