/**
 * `swarm prove`: one record to hand to an auditor, with its place in the log, and without the rest.
 */
import type { Command } from '@commander-js/extra-typings';
import { readSettings } from '../../agent/settings.ts';
import { SwarmError } from '../../base/errors.ts';
import { parseCheckpointNote } from '../../merkle/checkpoint.ts';
import { parseProof } from '../../merkle/proof.ts';
import { proveLine } from '../../verify/prove.ts';
import { writeNamedFile } from '../files.ts';
import type { Invocation } from '../invocation.ts';
import { given } from '../options.ts';
import { findRecord, parseRecordName } from '../record-name.ts';

export function define(command: Command, { out }: Invocation): void {
  command
    .description(
      `Write the proof of one record: its line, its place in the tree of its file, and the checkpoint over that. Whoever
has the keyring checks it with \`swarm check-proof\`, without the log. RECORD is a leaf (64 hex digits), FILE:LINE, or the
number of a message in the stream, which is that of its first delivery. The log has to be sealed as far.`,
    )
    .argument('<record>', 'a leaf, FILE:LINE, or the number of a message in the stream')
    .argument('[log]', 'the log (SWARM_LOG, else logs/swarm.jsonl)')
    .option(
      '--out <file>',
      'where the proof goes, - for stdout (default: the leaf’s first 16 digits and .tlog-proof)',
    )
    .option('--withhold-payload', 'leave the payload out: prove that it was said, and not what')
    .option('--json', 'print what is proved as one JSON object')
    .addHelpText(
      'after',
      `
Examples:
  $ swarm prove logs/swarm.jsonl:1
  $ swarm prove 17 logs/swarm.jsonl --out message-17.tlog-proof
  $ swarm prove 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 --withhold-payload
  $ swarm prove logs/swarm.jsonl:1 --out - | ssh auditor swarm check-proof -`,
    )
    .action(async (record, log, { out: path, withholdPayload = false, json }) => {
      if (path === '-' && json === true) {
        throw new SwarmError('USAGE', 'either --out - or --json: one thing is printed on stdout');
      }
      const name = parseRecordName(record);
      const settings = await readSettings(given({ log }));
      const { found } = await findRecord(name, log, settings);
      const { file, line, leaf, index } = found;
      const text = await proveLine(found, { withholdPayload });
      const { origin, size } = headOf(text);
      const target = path ?? `${leaf.slice(0, 16)}.tlog-proof`;
      const what = `record ${index + 1} of ${size} of log ${origin}, ${file}:${line}`;
      if (target === '-') {
        for (const line of text.slice(0, -1).split('\n')) out.line(Buffer.from(line));
        out.note(`The proof of ${what}.`);
        return;
      }
      await writeNamedFile(target, text);
      if (json === true)
        out.json({ proof: target, leaf, file, line, index, size, origin, withheld: withholdPayload });
      else out.data(target);
      out.note(`It proves ${what}${withholdPayload ? ', and not what its payload is' : ''}.`);
      out.note(`To check it with the keyring and nothing else:  swarm check-proof ${target}`);
    });
}

/** Returns what the checkpoint in a proof that was just printed is of. */
function headOf(text: string): { readonly origin: string; readonly size: number } {
  const proof = parseProof(text);
  const parsed = proof.ok ? parseCheckpointNote(proof.proof.checkpoint) : proof;
  if (!parsed.ok) throw new SwarmError('PROOF_FAILED', `the proof cannot be read again: ${parsed.detail}`);
  return parsed.checkpoint;
}
