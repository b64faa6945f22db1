/**
 * `swarm verify`: is this log as its agents wrote it, and are they those whom we trust?
 *
 * Findings and the verdict go to stdout. Whose keys counted goes to stderr, because a verdict is worth what its
 * keys are worth. Nothing here talks to a network.
 */
import { stat } from 'node:fs/promises';
import type { Command } from '@commander-js/extra-typings';
import { keyringOfOne, loadKey, loadKnownKeys } from '../../agent/self.ts';
import { readSettings, type Settings } from '../../agent/settings.ts';
import { SwarmError } from '../../base/errors.ts';
import { logFiles } from '../../log/files.ts';
import { type LogReport, type VerifyOptions, verifyLog } from '../../verify/verify.ts';
import { readAnchor, writeEvidence } from '../evidence.ts';
import type { Invocation } from '../invocation.ts';
import { collect, given, parsePositive } from '../options.ts';
import type { Output } from '../output.ts';
import { progressOf } from '../progress.ts';
import { type KeysUsed, printReport, reportAsJson } from '../report.ts';

export function define(command: Command, { out, end }: Invocation): void {
  command
    .description(
      `Check every line of a log, its closed segments included: its form, signature and payload, its place in its
session, what the keyring says of its signer, and all of them against what was sealed. Each bad line is named on stdout
as file:line: problem; the last two lines there are the verdict, with how far the log is known to be complete, and the
count. Exits with 0 if nothing is wrong, 1 if something is, 3 if the log or the keys cannot be read.`,
    )
    .argument('[log]', 'the log (SWARM_LOG, else logs/swarm.jsonl)')
    .option(
      '--keyring <file>',
      'whose signatures count (SWARM_KEYRING, else swarm.keys.json, else only our own)',
    )
    .option('--trust-on-first-use', 'take the keys from the log itself, and print them')
    .option('--env <file>', 'where our own key is (SWARM_ENV, else .env)')
    .option('--require-payloads', 'count a payload that was withheld as bad')
    .option('--checkpoint <file>', 'a checkpoint of this log that was kept elsewhere, once for each', collect)
    .option('--evidence <folder>', 'where both checkpoints of a fork are written', 'fork-evidence')
    .option('--state <file>', 'remember there what was verified, and next time read only what is new')
    .option('--quick', 'check hashes and checkpoints, and no signatures')
    .option(
      '--jobs <count>',
      'how many threads work on a large log (as many as there are cores)',
      parsePositive,
    )
    .option('--json', 'print the report as one JSON object')
    .addHelpText(
      'after',
      `
Examples:
  $ swarm verify
  $ swarm verify logs/swarm.jsonl --keyring auditors.keys.json
  $ swarm verify --checkpoint /mnt/safe/checkpoint
  $ swarm verify --state ~/swarm.verified
  $ swarm verify --json | jq .bad`,
    )
    .action(async (log, options) => {
      const { keyring, env, trustOnFirstUse, json, requirePayloads, state, quick, jobs } = options;
      if (keyring !== undefined && trustOnFirstUse === true) {
        throw new SwarmError(
          'USAGE',
          'either --keyring or --trust-on-first-use: the keys come from one place',
        );
      }
      const settings = await readSettings(given({ keyring, env, log }));
      const totalBytes = await sizeOf(settings.log);
      const keys = trustOnFirstUse === true ? keysOfLog : await knownKeys(settings, out);
      const anchors = await Promise.all((options.checkpoint ?? []).map(readAnchor));
      const report = await verified(settings.log, totalBytes, out, {
        ...given({ requirePayloads, state, quick, jobs, keyring: keys.keyring }),
        anchors,
      });
      tellOfKeys(keys, report, out);
      tellOfState(report, out);
      if (json === true) out.json(reportAsJson(settings.log, report, keys));
      else printReport(report, out);
      if (report.forks.length > 0) {
        const files = await writeEvidence(report.forks, options.evidence);
        out.note(`Evidence of two histories, to hand on: ${files.join(', ')}`);
      }
      if (report.findingCounts.size > 0) return end('findings');
      if (report.verdict === 'ANCHORED' && report.completeTo === report.records) return;
      out.note(
        'Records cut off at the end of a session would not show, unless something later names them, or a checkpoint kept elsewhere.',
      );
    });
}

/** Returns the size of the log at `path` in bytes; throws `LOG_OPEN` if there is none. */
async function sizeOf(path: string): Promise<number> {
  let bytes = 0;
  for (const file of logFiles(path)) bytes += (await stat(file)).size;
  return bytes;
}

const keysOfLog: KeysUsed = { keyring: undefined, source: 'the log', sha256: undefined };

/** Returns the keyring that is there, else one of our own key; throws `KEYRING_MISSING` where there is neither. */
async function knownKeys(settings: Settings, out: Output): Promise<KeysUsed> {
  const known = await loadKnownKeys(settings);
  if (known !== undefined) return known;
  try {
    const { key, warnings } = await loadKey(settings);
    for (const warning of warnings) out.warn(warning);
    return {
      keyring: keyringOfOne(key),
      source: `only our own key: no ${settings.keyring} is here`,
      sha256: undefined,
    };
  } catch (cause) {
    if (!(cause instanceof SwarmError) || cause.code !== 'KEY_MISSING') throw cause;
    throw new SwarmError(
      'KEYRING_MISSING',
      `whose signatures count? There is no ${settings.keyring}, and no key of our own in ${settings.envFile}; name a keyring with --keyring, or have --trust-on-first-use take the keys from the log itself`,
      { cause },
    );
  }
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

function tellOfKeys(
  { keyring, source, sha256 }: KeysUsed,
  { signers, anchors, trees }: LogReport,
  out: Output,
): void {
  if (keyring !== undefined) {
    out.note(`Keys: ${source}${sha256 === undefined ? '' : ` (SHA-256 ${sha256})`}`);
    return;
  }
  out.note('Keys: taken from the log itself. Who they belong to, nobody has said:');
  for (const [key, records] of signers) out.note(`  ${key}  ${records} verified`);
  if (anchors.matched > 0 || trees.some(({ sealed }) => sealed > 0)) {
    out.note('Checkpoints: compared by their roots alone. Who signed them was not checked.');
  }
}

function tellOfState({ resumed }: LogReport, out: Output): void {
  if (resumed?.reason !== undefined) out.note(`All was read again: ${resumed.reason}.`);
  else if (resumed !== undefined && resumed.records > 0) {
    out.note(`Verified before, and unchanged by their tiles: ${resumed.records} records.`);
  }
}
