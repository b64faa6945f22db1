/**
 * `swarm check-proof`: is what somebody handed over a record of that log, said by whom it says?
 *
 * It needs the keyring and nothing else: no log, no key of our own, no network.
 */
import type { Command } from '@commander-js/extra-typings';
import { readSettings } from '../../agent/settings.ts';
import type { PublicKey } from '../../identity/key.ts';
import { type Keyring, loadKeyring } from '../../identity/keyring.ts';
import type { SignedRecord } from '../../record/signed.ts';
import { checkRecordProof, type ProofReport } from '../../verify/prove.ts';
import { readNamedFile } from '../files.ts';
import type { Invocation } from '../invocation.ts';
import { given } from '../options.ts';
import { type Output, styled } from '../output.ts';
import { jsonWithPayload, shownPayload } from '../payload.ts';

export function define(command: Command, { out, end }: Invocation): void {
  command
    .description(
      `Check the proof of one record, as \`swarm prove\` writes it, against the keyring: that the record is signed by an
agent who may say it, and stands at its place in the log that the checkpoint is of. Prints what is proved, or on each line
FILE: problem. Exits with 0 if it is proved, 1 if not, 3 if the proof or the keyring cannot be read.`,
    )
    .argument('<file>', 'the proof; - for stdin')
    .option('--keyring <file>', 'whose signatures count (SWARM_KEYRING, else swarm.keys.json)')
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      `
Examples:
  $ swarm check-proof 9f86d081884c7d65.tlog-proof
  $ swarm check-proof message-17.tlog-proof --keyring auditors.keys.json --json | jq .proved`,
    )
    .action(async (file, { keyring: path, json }) => {
      const settings = await readSettings(given({ keyring: path }));
      const { keyring, sha256 } = await loadKeyring(settings.keyring);
      const report = checkRecordProof(await readNamedFile(file), keyring);
      out.note(`Keys: ${settings.keyring} (SHA-256 ${sha256})`);
      if (json === true) out.jsonText(asJson(file, report, keyring, { source: settings.keyring, sha256 }));
      else print(file, report, keyring, out);
      if (report.faults.length > 0) end('findings');
    });
}

function print(
  file: string,
  { faults, record, checkpoint, index }: ProofReport,
  keyring: Keyring,
  out: Output,
): void {
  for (const { code, detail } of faults) out.data(`${file}: `, styled('red', code), `: ${detail}`);
  if (faults.length > 0 || record === undefined || checkpoint === undefined || index === undefined) return;
  const { header, received } = record;
  const { kind, subject, signer, tsNs } = header;
  out.data(
    styled('green', 'PROVED'),
    `: record ${index + 1} of the ${checkpoint.size} of log ${checkpoint.origin}`,
  );
  out.data(`signed by  ${nameOf(signer, keyring)} (key ${signer})`);
  out.data(`what       ${kind} on ${subject}`);
  if (received !== undefined) {
    const from = received.header.signer;
    out.data(`heard from ${nameOf(from, keyring)} (key ${from})`);
  }
  out.data(`when       ${new Date(Number(tsNs / 1_000_000n)).toISOString()}, as its writer says`);
  out.data(`leaf       ${record.leaf}`);
  out.data(payloadLine(record));
}

function payloadLine({ payload, header }: SignedRecord): string {
  if (payload === undefined) return `payload withheld: SHA-256 ${header.payloadHash}`;
  return `payload    ${shownPayload(payload)}`;
}

function nameOf(key: string, keyring: Keyring): string {
  return keyring.find(key as PublicKey)?.agent.name ?? 'somebody unknown';
}

/** Returns one JSON object, with a payload that is JSON as it is spelled. */
function asJson(
  file: string,
  { faults, record, checkpoint, index }: ProofReport,
  keyring: Keyring,
  keys: { readonly source: string; readonly sha256: string },
): string {
  const facts = JSON.stringify({
    file,
    proved: faults.length === 0,
    faults,
    origin: checkpoint?.origin ?? null,
    size: checkpoint?.size ?? null,
    index: index ?? null,
    keyring: keys,
  });
  return `${facts.slice(0, -1)},"record":${record === undefined ? 'null' : recordAsJson(record, keyring)}}`;
}

function recordAsJson({ header, leaf, received, payload }: SignedRecord, keyring: Keyring): string {
  const { tsNs, kind, subject, signer, payloadHash } = header;
  const from = received?.header.signer;
  const facts = {
    leaf,
    kind,
    subject,
    agent: keyring.find(signer)?.agent.name ?? null,
    key: signer,
    from: (from && keyring.find(from)?.agent.name) ?? null,
    ts_ns: String(tsNs), // larger than a double holds
    payload_hash: payloadHash,
    withheld: payload === undefined,
  };
  return payload === undefined ? JSON.stringify(facts) : jsonWithPayload(facts, payload);
}
