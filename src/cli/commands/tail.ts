/**
 * `swarm tail`: the last records of a log, as a person reads them.
 *
 * Each line is verified by itself and shown with its problem where it has one. Whether lines are missing or moved
 * only `swarm verify` can say.
 */
import { existsSync } from 'node:fs';
import type { Command } from '@commander-js/extra-typings';
import { loadKnownKeys } from '../../agent/self.ts';
import { readSettings } from '../../agent/settings.ts';
import type { Keyring } from '../../identity/keyring.ts';
import { type LogLine, readLog } from '../../log/reader.ts';
import { verifyRecord } from '../../record/line.ts';
import { isVersion1, verifyVersion1 } from '../../record/version1.ts';
import { cutTo } from '../columns.ts';
import type { Invocation } from '../invocation.ts';
import { given, parseCount } from '../options.ts';
import { type Piece, styled } from '../output.ts';
import { nameOf, payloadOf, timeOf } from '../told.ts';

export function define(command: Command, { out, interruption }: Invocation): void {
  command
    .description(
      `Print the last records of a log, one a line: time (UTC), kind, who wrote it (and whose message it received),
subject, payload. A line that does not verify by itself is shown with its problem; whether lines are missing or were
moved is for \`swarm verify\` to say.`,
    )
    .argument('[log]', 'the log (SWARM_LOG, else logs/swarm.jsonl)')
    .option('-n, --lines <n>', 'how many', parseCount, 10)
    .option('-f, --follow', 'go on with what is written from now on, until Ctrl-C')
    .option('--keyring <file>', 'where the names of keys are (SWARM_KEYRING, else swarm.keys.json)')
    .option('--json', 'print the lines of the log as they are, unverified')
    .addHelpText(
      'after',
      `
Examples:
  $ swarm tail
  $ swarm tail -n 100 logs/swarm.jsonl
  $ swarm tail -f --json | jq -r .subject`,
    )
    .action(async (log, { lines, follow = false, keyring: keyringFile, json }) => {
      const settings = await readSettings(given({ log, keyring: keyringFile }));
      const keyring = json === true ? undefined : (await loadKnownKeys(settings))?.keyring;
      const signal = interruption.take();
      if (follow && !existsSync(settings.log)) out.note(`Waiting for ${settings.log}; Ctrl-C ends.`);
      for await (const line of readLog(settings.log, { last: lines, follow, signal })) {
        if (json === true) out.line(line.bytes);
        else out.data(...cutTo(out.columns, describe(line, keyring)));
        if (!(await out.written()) || signal.aborted) break;
      }
    });
}

function describe({ at, bytes, terminated }: LogLine, keyring: Keyring | undefined): Piece[] {
  const problem = (code: string, detail: string): Piece[] => [
    styled('red', `${at.file}:${at.line}: ${code}`),
    `: ${detail}`,
  ];
  if (!terminated) return problem('unterminated', `${bytes.length} bytes that no line feed closes`);
  if (isVersion1(bytes)) {
    const verdict = verifyVersion1(bytes);
    if (!verdict.ok) return problem(verdict.problem, verdict.detail);
    const { tsNs, kind, signer, subject, payload } = verdict.record;
    return lineOf({ tsNs, kind, who: nameOf(signer, keyring), subject, said: payload.toString('utf8') });
  }
  const verdict = verifyRecord(bytes);
  if (!verdict.ok) return problem(verdict.problem, verdict.detail);
  const { header, received } = verdict.record;
  const from = received === undefined ? '' : ` < ${nameOf(received.header.signer, keyring)}`;
  return lineOf({
    ...header,
    who: `${nameOf(header.signer, keyring)}${from}`,
    said: [header.reason, header.step, payloadOf(verdict.record)].filter(Boolean).join(' '),
  });
}

interface Shown {
  readonly tsNs: bigint;
  readonly kind: string;
  readonly who: string;
  readonly subject: string;
  readonly said: string;
}

function lineOf({ tsNs, kind, who, subject, said }: Shown): Piece[] {
  return [
    styled('dim', timeOf(tsNs)),
    ' ',
    kind.padEnd(11),
    ' ',
    styled('bold', who),
    ' ',
    styled('cyan', subject),
    ' ',
    said,
  ];
}
