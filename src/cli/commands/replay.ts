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
import type { Output } from '../output.ts';
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
};

export function define(command: Command, invocation: Invocation): void {
  command
    .description(
      `Tell what happened, thread by thread: who said what, who heard it, and what came of it, each message below the one
that led to it. Any number of logs are told as one, in an order that depends on the records alone: cause before effect,
then each session's own order, then time. A log that does not verify is refused.`,
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
    .addHelpText(
      'after',
      `
Examples:
  $ swarm replay
  $ swarm replay --thread t1 --since 10m
  $ swarm replay planner/swarm.jsonl worker/swarm.jsonl
  $ swarm replay --kind BUS.PUBLISH --json | jq -r .payload`,
    )
    .action(async (logs, options: Options) => {
      const { out } = invocation;
      const settings = await readSettings(given({ keyring: options.keyring, log: logs[0] }));
      const paths = logs.length === 0 ? [settings.log] : logs;
      const keyring = await keyringFor(options, settings, out);
      const selection = await selectionOf(options, paths);
      using timeline = await opened(paths, keyring, options, out);
      const replayed = await tell(new Story(timeline, selection), timeline, keyring, options, invocation);
      if (options.json === true) out.json(replayed);
      else out.data(sentenceOf(replayed));
    });
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
  const sizes = await Promise.all(paths.map(sizeOf));
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
