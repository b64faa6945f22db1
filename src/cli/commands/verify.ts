/**
 * `swarm verify`: is this log as its agents wrote it, is its end there, and are they those whom we trust?
 *
 * Findings and the verdict go to stdout. Whose keys counted goes to stderr, because a verdict is worth what its
 * keys are worth. Nothing here talks to a network, unless checkpoints of the swarm's stream are asked for.
 */
import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Command } from '@commander-js/extra-typings';
import { Option } from 'commander';
import { readSettings, type Settings } from '../../agent/settings.ts';
import { messageOf, SwarmError } from '../../base/errors.ts';
import type { AbsentTree, Anchor } from '../../verify/anchors.ts';
import { explainLine } from '../../verify/explain.ts';
import { type LogReport, type VerifyOptions, verifyLog } from '../../verify/verify.ts';
import { anchorsInFiles, anchorsInStream } from '../anchors.ts';
import { writeEvidence } from '../evidence.ts';
import { explanationAsJson, printExplanation } from '../explanation.ts';
import { sizeOf } from '../files.ts';
import type { Invocation } from '../invocation.ts';
import { type KeysUsed, keysOfLog, knownKeys } from '../keys-used.ts';
import { collect, given, parsePositive } from '../options.ts';
import type { Output } from '../output.ts';
import { progressOf } from '../progress.ts';
import { findRecord, parseRecordName } from '../record-name.ts';
import { printReport, reportAsJson } from '../report.ts';

/** How many logs that are not here are listed. */
const absentListed = 8;

/** What the command was told. */
type Options = {
  keyring?: string | undefined;
  trustOnFirstUse?: true | undefined;
  env?: string | undefined;
  requirePayloads?: true | undefined;
  checkpoint?: readonly string[] | undefined;
  anchor?: string | undefined;
  url?: string | undefined;
  creds?: string | undefined;
  evidence?: string | undefined;
  state?: string | undefined;
  quick?: true | undefined;
  jobs?: number | undefined;
  explain?: string | undefined;
  json?: true | undefined;
};

export function define(command: Command, invocation: Invocation): void {
  command
    .description(
      `Check every line of a log, its closed segments included: its form, signature and payload, its place in its
session, what the keyring says of its signer, and what was sealed. Each bad line is named on stdout as file:line: problem;
the last lines there are the verdict. Exits with 0 if nothing is bad, 1 if something is, 3 if it could not look.`,
    )
    .argument('[log]', 'the log (SWARM_LOG, else logs/swarm.jsonl)')
    .option(
      '--keyring <file>',
      'whose signatures count (SWARM_KEYRING, else swarm.keys.json, else only our own)',
    )
    .option('--trust-on-first-use', 'take the keys from the log itself, and print them')
    .option('--env <file>', 'where our own key is (SWARM_ENV, else .env)')
    .option('--require-payloads', 'count a payload that was withheld as bad')
    .option('--json', 'print the report as one JSON object')
    .optionsGroup('Against checkpoints that were kept elsewhere:')
    .option('--checkpoint <file>', 'a checkpoint that the log must agree with, once for each', collect)
    .addOption(
      new Option(
        '--anchor <where>',
        'hold the log against all checkpoints in the stream CHECKPOINTS',
      ).choices(['nats']),
    )
    .option('--url <url>', 'the NATS server of --anchor nats (NATS_URL, else nats://127.0.0.1:4222)')
    .option('--creds <file>', 'a NATS credentials file for it (NATS_CREDS)')
    .option('--evidence <folder>', 'where both checkpoints of a fork are written (default: fork-evidence)')
    .optionsGroup('Of a large log:')
    .option('--state <file>', 'remember what was verified, and read only what is new the next time')
    .option('--quick', 'check hashes and checkpoints alone, no signatures')
    .option('--jobs <n>', 'how many threads work (default: as many as there are cores)', parsePositive)
    .optionsGroup('Of one record:')
    .option('--explain <record>', 'walk through one record: FILE:LINE, or its leaf')
    .addHelpText(
      'after',
      `
Examples:
  $ swarm verify
  $ swarm verify logs/swarm.jsonl --keyring auditors.keys.json
  $ swarm verify --checkpoint /media/safe/monday.checkpoint
  $ swarm verify --anchor nats --url nats://broker:4222
  $ swarm verify --state verified.json          the second time only what is new
  $ swarm verify --explain logs/swarm.jsonl:2
  $ swarm verify --json | jq .bad`,
    )
    .action(async (log, options: Options) => {
      requireFitting(options);
      const { out } = invocation;
      const { keyring, env, url, creds } = options;
      const settings = await readSettings(given({ keyring, env, log, url, credentials: creds }));
      const named = options.explain;
      if (named !== undefined) return await explain(named, log, settings, options, invocation);
      const totalBytes = sizeOf(settings.log);
      const keys = await keysFor(options, settings, out);
      if (options.state !== undefined) await requireWritable(options.state);
      const anchors = await anchorsOf(options, settings, out);
      const { requirePayloads, quick, state, jobs } = options;
      const report = await verified(settings.log, totalBytes, out, {
        ...given({ requirePayloads, quick, state, jobs }),
        anchors,
        ...(keys.keyring && { keyring: keys.keyring }),
      });
      tellOfKeys(keys, report, out);
      tellOfAnchors(anchors, keys, report, out);
      if (state !== undefined) tellOfState(state, report, out);
      if (options.json === true) out.json(reportAsJson(settings.log, report, keys));
      else printReport(report, out);
      await keepEvidence(report, options.evidence, out);
      if (report.findingCounts.size > 0) return invocation.end('findings');
      if (report.verdict !== 'CONSISTENT') return;
      out.note(
        'Records cut off at the end of a session would not show, unless something later names them, or a checkpoint kept elsewhere.',
      );
    });
}

/** Throws `USAGE` for options that contradict each other, or would do nothing. */
function requireFitting(options: Options): void {
  const { keyring, trustOnFirstUse, anchor, url, creds, quick, state, explain } = options;
  const refuse = (what: string): never => {
    throw new SwarmError('USAGE', what);
  };
  if (keyring !== undefined && trustOnFirstUse === true) {
    refuse('either --keyring or --trust-on-first-use: the keys come from one place');
  }
  if (anchor === undefined && url !== undefined)
    refuse('--url is where --anchor nats looks; without it nothing does');
  if (anchor === undefined && creds !== undefined)
    refuse('--creds are those of --anchor nats; without it nobody logs in');
  if (quick === true && state !== undefined) {
    refuse('either --quick or --state: a quick verification checks too little to be remembered');
  }
  if (explain === undefined) return;
  const others = ['checkpoint', 'anchor', 'evidence', 'state', 'quick', 'jobs', 'requirePayloads'] as const;
  const other = others.find((name) => options[name] !== undefined);
  if (other !== undefined) {
    const flag = other.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    refuse(`--explain is about one record and takes no --${flag}`);
  }
}

async function explain(
  record: string,
  log: string | undefined,
  settings: Settings,
  options: Options,
  { out, end }: Invocation,
): Promise<void> {
  const name = parseRecordName(record);
  const keys = await keysFor(options, settings, out);
  const { path, found } = await findRecord(name, log, settings);
  const steps = await explainLine(path, found, keys.keyring);
  if (keys.keyring !== undefined) tellOfKeyring(keys, out);
  if (options.json === true) out.json(explanationAsJson(found, steps));
  else printExplanation(found, steps, out);
  if (steps.some(({ ok }) => !ok)) end('findings');
}

async function keysFor({ trustOnFirstUse }: Options, settings: Settings, out: Output): Promise<KeysUsed> {
  return trustOnFirstUse === true ? keysOfLog : await knownKeys(settings, out);
}

/** Throws `FILE_FAILED` where the file at `path` could not be written once all was verified. */
async function requireWritable(path: string): Promise<void> {
  await access(dirname(path), constants.W_OK).catch((cause: unknown) => {
    throw new SwarmError('FILE_FAILED', `the state cannot be written to ${path}: ${messageOf(cause)}`, {
      cause,
    });
  });
}

async function anchorsOf(
  { checkpoint = [], anchor }: Options,
  settings: Settings,
  out: Output,
): Promise<Anchor[]> {
  const anchors = await anchorsInFiles(checkpoint);
  if (anchor === undefined) return anchors;
  const kept = await anchorsInStream(settings, out);
  return [...anchors, ...kept];
}

async function verified(
  path: string,
  totalBytes: number,
  out: Output,
  options: VerifyOptions,
): Promise<LogReport> {
  using bar = await progressOf(totalBytes, out);
  return await verifyLog(path, { ...options, onProgress: ({ bytes }) => bar.update(bytes) });
}

function tellOfKeys(keys: KeysUsed, { signers }: LogReport, out: Output): void {
  if (keys.keyring !== undefined) {
    tellOfKeyring(keys, out);
    return;
  }
  out.note('Keys: taken from the log itself. Who they belong to, nobody has said:');
  for (const [key, records] of signers) out.note(`  ${key}  ${records} verified`);
}

function tellOfKeyring({ source, sha256 }: KeysUsed, out: Output): void {
  out.note(`Keys: ${source}${sha256 === undefined ? '' : ` (SHA-256 ${sha256})`}`);
}

function tellOfAnchors(
  anchors: readonly Anchor[],
  { keyring }: KeysUsed,
  { anchors: { matched, ignored, otherLogs, absent } }: LogReport,
  out: Output,
): void {
  if (anchors.length === 0) return;
  const parts = [`${matched} agree${matched === 1 ? 's' : ''} with the log`];
  if (ignored > 0) parts.push(`${ignored} ignored: of nobody in the keyring, or of a key that was revoked`);
  if (otherLogs > 0) parts.push(`${otherLogs} of other logs`);
  out.note(`Checkpoints kept elsewhere: of ${anchors.length}, ${parts.join('; ')}`);
  if (keyring === undefined) out.note('Without a keyring anybody can have signed them.');
  if (absent.length > 0) out.warn(warningOf(absent));
}

function warningOf(absent: readonly AbsentTree[]): string {
  const listed = absent.slice(0, absentListed).map(({ origin, size, source }) => {
    return `\n${origin}, of ${size} record${size === 1 ? '' : 's'}, says ${source}`;
  });
  if (absent.length > absentListed) listed.push(`\nand ${absent.length - absentListed} more`);
  const what = absent.length === 1 ? 'a log' : `${absent.length} logs`;
  return `no file is here of ${what} with this one's name that somebody sealed: on another machine, moved aside, or taken away? A checkpoint that is named with --checkpoint must be of this log${listed.join('')}`;
}

function tellOfState(path: string, { resumed, findingCounts }: LogReport, out: Output): void {
  const { records = 0, reason, notRemembered } = resumed ?? {};
  if (records > 0)
    out.note(`Resumed: ${records} records were verified before, says ${path}; the rest was read.`);
  else out.note(`All was read: ${reason ?? `${path} remembers nothing yet`}.`);
  if (notRemembered !== undefined)
    out.warn(`nothing new is remembered, for ${path} cannot be written: ${notRemembered}`);
  if (findingCounts.size > 0) out.note(`${path} was left as it was: a log with findings is not remembered.`);
}

async function keepEvidence({ forks }: LogReport, folder = 'fork-evidence', out: Output): Promise<void> {
  if (forks.length === 0) return;
  for (const { source, theirs, ours } of await writeEvidence(folder, forks)) {
    const other = ours ?? 'nothing: what is here, nobody whom we know has signed';
    out.note(`Evidence of two histories: ${theirs}, which is ${source}, against ${other}`);
  }
}
