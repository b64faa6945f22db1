/**
 * Proof of one record, to hand to an auditor without the rest: the line, its place in the tree, and the checkpoint
 * (docs/format.md, section 8; C2SP tlog-proof).
 *
 * Whoever checks it needs the keyring and nothing else. What is proved is what `checkRecordProof` says, no more: that
 * the line is genuine and in the log that the checkpoint is of, at that place.
 */
import { open } from 'node:fs/promises';
import type { Sha256Hex } from '../base/encoding.ts';
import { messageOf, SwarmError } from '../base/errors.ts';
import type { PublicKey } from '../identity/key.ts';
import type { Keyring, Revocation } from '../identity/keyring.ts';
import { linesFrom } from '../log/file-tree.ts';
import { logFiles } from '../log/files.ts';
import { isOfTree, treeIdOf } from '../log/tlog.ts';
import { treeOfInode } from '../log/tree-beside.ts';
import { type Checkpoint, openCheckpoint, parseCheckpointNote } from '../merkle/checkpoint.ts';
import { parseProof, printProof } from '../merkle/proof.ts';
import { checkInclusion, proveInclusion } from '../merkle/prove.ts';
import { readFromTiles } from '../merkle/tile-hashes.ts';
import { leafOfLine } from '../record/entry.ts';
import { parseLine, printLine, verifyRecord } from '../record/line.ts';
import { receivedContradicts } from '../record/received.ts';
import type { SignedRecord } from '../record/signed.ts';
import type { Fault } from './finding.ts';
import { spokenIn, Trust } from './trust.ts';

/** Which record: by its leaf, its line of a file, or the number of its message in the stream. */
export type RecordName =
  | { readonly leaf: Sha256Hex }
  | { readonly file: string; readonly line: number }
  | { readonly streamSeq: number };

/** A record's line and its place in its file's tree. */
export interface FoundLine {
  /** The log, which its file is a segment of. */
  readonly path: string;
  readonly file: string;
  /** What the file is known by when it is closed and takes another name. */
  readonly inode: bigint;
  /** Counted from 1, blank lines included. */
  readonly line: number;
  /** Counted from 0, blank lines left out. */
  readonly index: number;
  readonly bytes: Buffer;
  readonly leaf: Sha256Hex;
  readonly firstLeaf: Sha256Hex;
}

/**
 * Returns the line that `name` names in the log at `path`, or `undefined`. A message that was delivered more than once
 * is the first delivery. Throws `LOG_OPEN`.
 */
export async function findLine(path: string, name: RecordName): Promise<FoundLine | undefined> {
  for (const file of 'file' in name ? [name.file] : logFiles(path)) {
    const found = await findInFile(path, file, name);
    if (found !== undefined) return found;
  }
  return undefined;
}

async function findInFile(path: string, file: string, name: RecordName): Promise<FoundLine | undefined> {
  const handle = await open(file, 'r').catch((cause: unknown) => {
    throw new SwarmError('LOG_OPEN', `cannot read ${file}: ${messageOf(cause)}`, { cause });
  });
  try {
    const { ino: inode } = await handle.stat({ bigint: true });
    let firstLeaf: Sha256Hex | undefined;
    let line = 0;
    let index = -1;
    for await (const { line: bytes } of linesFrom(handle, 0)) {
      line += 1;
      if (bytes.length === 0) continue;
      index += 1;
      firstLeaf ??= leafOfLine(bytes);
      if (!isNamed(bytes, line, name)) continue;
      return { path, file, inode, line, index, bytes, leaf: leafOfLine(bytes), firstLeaf };
    }
  } finally {
    await handle.close();
  }
  return undefined;
}

function isNamed(bytes: Buffer, line: number, name: RecordName): boolean {
  if ('line' in name) return line === name.line;
  if ('leaf' in name) return leafOfLine(bytes) === name.leaf;
  if (!bytes.includes(`","seq":${name.streamSeq},"consumer":"`)) return false;
  return parseLine(bytes).record?.header.delivery?.seq === name.streamSeq;
}

export interface ProveOptions {
  /** Leave the payload out: that something was said is proved, not what. @default false */
  readonly withholdPayload?: boolean;
}

/**
 * Returns the proof of a line as the text of a `.tlog-proof`. Throws `NOT_SEALED` where no checkpoint has it yet, and
 * `PROOF_FAILED` where log, tiles and checkpoint contradict each other, or a payload cannot be left out.
 */
export async function proveLine(found: FoundLine, options: ProveOptions = {}): Promise<string> {
  const tree = treeOfInode(found.path, found.inode, found.file);
  const text = await tree.readCheckpoint();
  const where = `${found.file}:${found.line}`;
  if (text === undefined) throw notSealed(where, 'no checkpoint is beside the log');
  const parsed = parseCheckpointNote(text);
  if (!parsed.ok) throw failed(where, `the checkpoint in ${tree.folder} is not one`);
  const head = parsed.checkpoint;
  if (!isOfTree(head, found.firstLeaf))
    throw failed(where, `the checkpoint is of another log, ${head.origin}`);
  if (found.index >= head.size) throw notSealed(where, `its last checkpoint has ${head.size} records`);
  const path = await proveInclusion(
    found.index,
    head.size,
    readFromTiles(head.size, (tile) => tree.demandTile(tile)),
  ).catch((cause: unknown) => {
    throw failed(where, `the tiles cannot be read: ${messageOf(cause)}`, cause);
  });
  if (!checkInclusion(path, Buffer.from(found.leaf, 'hex'), found.index, head)) {
    throw failed(where, 'the line is not the one that was sealed there');
  }
  const extra = options.withholdPayload === true ? withoutPayload(found.bytes, where) : found.bytes;
  return printProof({ extra, index: found.index, path, checkpoint: text });
}

function withoutPayload(bytes: Buffer, where: string): Buffer {
  const parsed = parseLine(bytes);
  if (!parsed.ok)
    throw failed(where, `only a record of version 2 can do without its payload: ${parsed.detail}`);
  return Buffer.from(printLine({ ...parsed.record, payload: undefined, payloadIsJson: false }));
}

function notSealed(where: string, what: string): SwarmError {
  return new SwarmError('NOT_SEALED', `${where} is not sealed yet: ${what}; \`swarm seal\` seals the log`);
}

function failed(where: string, what: string, cause?: unknown): SwarmError {
  return new SwarmError('PROOF_FAILED', `cannot prove ${where}: ${what}; \`swarm verify\` says more`, {
    cause,
  });
}

interface Place {
  readonly leaf: Sha256Hex;
  readonly index: number;
  readonly checkpoint: Checkpoint;
}

/** What a proof proves. */
export interface ProofReport {
  /** What is wrong; nothing if the record is proved. */
  readonly faults: readonly Fault[];
  /** The record, where the proof holds one. */
  readonly record: SignedRecord | undefined;
  readonly checkpoint: Checkpoint | undefined;
  /** Counted from 0. */
  readonly index: number | undefined;
}

/** Checks a proof's text against `keyring`, offline. What is wrong with it are values; it never throws. */
export function checkRecordProof(text: string | Uint8Array, keyring: Keyring): ProofReport {
  const parsed = parseProof(text);
  if (!parsed.ok) return refused({ code: 'proof-malformed', detail: parsed.detail });
  const { extra, index, path, checkpoint: note } = parsed.proof;
  if (extra === undefined) return refused({ code: 'proof-malformed', detail: 'it does not hold the record' });
  const opened = openCheckpoint(note, keyring.checkpointKeys);
  if (!opened.ok) {
    const code = opened.problem === 'unknown-key' ? 'checkpoint-unknown-key' : 'checkpoint-invalid';
    return refused({ code, detail: opened.detail });
  }
  const { checkpoint } = opened;
  const faults = checkpointFaults(opened.signers, checkpoint, keyring);
  const leaf = leafOfLine(extra);
  if (!checkInclusion(path, Buffer.from(leaf, 'hex'), index, checkpoint)) {
    const detail = `the record is not number ${index} of the ${checkpoint.size} that the checkpoint is of`;
    faults.push({ code: 'proof-mismatch', detail });
  }
  const verdict = verifyRecord(extra);
  if (!verdict.ok) faults.push({ code: verdict.problem, detail: verdict.detail });
  if (verdict.record !== undefined) {
    const contradiction = receivedContradicts(verdict.record);
    if (contradiction !== undefined) faults.push({ code: 'cause-mismatch', detail: contradiction });
    faults.push(...trustFaults(verdict.record, { leaf, index, checkpoint }, keyring));
  }
  return { faults, record: verdict.record, checkpoint, index };
}

function refused(fault: Fault): ProofReport {
  return { faults: [fault], record: undefined, checkpoint: undefined, index: undefined };
}

/** What the keyring has against the record, in its place; where revocation leaves that open, against it. */
function trustFaults(record: SignedRecord, { leaf, index, checkpoint }: Place, keyring: Keyring): Fault[] {
  const trust = new Trust(keyring);
  const faults = [...trust.faultsOfSigner(record.header.signer), ...trust.faultsOfRecord(spokenIn(record))];
  const { kind, signer } = record.header;
  const heard = kind === 'BUS.DELIVER' ? record.received?.header.signer : undefined;
  for (const key of new Set([signer, heard ?? signer])) {
    const revoked = keyring.find(key)?.key.revoked;
    if (revoked === undefined || countsStill(revoked, index, checkpoint)) continue;
    const isFrom = 'leaf' in revoked && revoked.leaf === leaf;
    const detail = isFrom
      ? `key ${key} was revoked from this record on`
      : `key ${key} was revoked, and the proof does not show that this was said before`;
    faults.push({ code: 'revoked-key', detail });
  }
  return faults;
}

/** Reports whether record `index` of the tree stands before the place from which on a key is revoked. */
function countsStill(revoked: Revocation, index: number, { origin }: Checkpoint): boolean {
  return 'size' in revoked && treeIdOf(revoked.log) === treeIdOf(origin) && index < revoked.size;
}

/** What there is against a checkpoint all of whose known signers are revoked before its last record. */
function checkpointFaults(signers: readonly PublicKey[], checkpoint: Checkpoint, keyring: Keyring): Fault[] {
  const isRevoked = (signer: PublicKey): boolean => {
    const key = keyring.agents.flatMap(({ keys }) => keys).find((each) => each.checkpoint === signer);
    return key?.revoked !== undefined && !countsStill(key.revoked, checkpoint.size - 1, checkpoint);
  };
  if (!signers.every(isRevoked)) return [];
  const detail = 'its key was revoked, and nothing shows that it was signed before';
  return [{ code: 'checkpoint-revoked-key', detail }];
}
