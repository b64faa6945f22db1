/**
 * One record of a log, step by step: everything that `verifyLog` asks of it, with what it went by, for a person who wants
 * to follow (docs/format.md, sections 2 to 8).
 *
 * The log is read once, for what other lines say of this one. A step that does not hold is a value like any other;
 * an exception means that the log could not be read.
 */
import { open } from 'node:fs/promises';
import { type Sha256Hex, sha256Hex, zeroHash } from '../base/encoding.ts';
import { messageOf, SwarmError } from '../base/errors.ts';
import type { PublicKey } from '../identity/key.ts';
import type { Keyring } from '../identity/keyring.ts';
import { linesFrom } from '../log/file-tree.ts';
import { logFiles } from '../log/files.ts';
import { openCheckpoint } from '../merkle/checkpoint.ts';
import { parseProof } from '../merkle/proof.ts';
import { rootFromPath } from '../merkle/tree.ts';
import { leafOfLine } from '../record/entry.ts';
import { parsePath } from '../record/flush.ts';
import { recordVersion } from '../record/header.ts';
import { checkPayload, parseLine, verifyRecord } from '../record/line.ts';
import { receivedContradicts } from '../record/received.ts';
import { checkSignature, type SignedRecord } from '../record/signed.ts';
import { isVersion1, verifyVersion1 } from '../record/version1.ts';
import { recoveredHash } from './examine.ts';
import { type FoundLine, proveLine } from './prove.ts';
import { spokenIn, Trust } from './trust.ts';

/** What a step is about. */
export type StepName =
  | 'line'
  | 'header'
  | 'leaf'
  | 'flush'
  | 'signature'
  | 'payload'
  | 'key'
  | 'chain'
  | 'cause'
  | 'place';

export interface Step {
  readonly name: StepName;
  /** Whether it holds; what cannot be seen here, and is no finding, does. */
  readonly ok: boolean;
  readonly sentence: string;
  /** The members of a header, in their order. */
  readonly members?: readonly (readonly [name: string, value: string])[];
}

/** Where a line stands, for people. */
interface Place {
  readonly file: string;
  readonly line: number;
}

/** Returns the steps for the line `found` of the log at `path`. Throws `LOG_OPEN`. */
export async function explainLine(
  path: string,
  found: FoundLine,
  keyring: Keyring | undefined,
): Promise<Step[]> {
  const parsed = isVersion1(found.bytes) ? undefined : parseLine(found.bytes);
  const trust = keyring && new Trust(keyring);
  const around = new Surroundings(found, parsed?.record, trust);
  for (const file of logFiles(path)) await around.read(file);
  const place = await placeStep(found, keyring);
  if (parsed === undefined) return [...version1Steps(found, trust, around), place];
  if (!parsed.ok) return [tornStep(parsed.detail, around), leafStep(found.leaf, undefined), place];
  const { record } = parsed;
  return [
    headerStep(record),
    leafStep(found.leaf, record),
    flushStep(record),
    signatureStep(record),
    payloadStep(record),
    keyStep(record, keyring, around),
    chainStep(record, around),
    causeStep(record, around),
    place,
  ];
}

/** What the other lines of the log say of one. */
class Surroundings {
  readonly #found: FoundLine;
  readonly #record: SignedRecord | undefined;
  readonly #trust: Trust | undefined;
  readonly #hash: Sha256Hex;
  #isPast = false;
  #ordinal = -1;
  #lastLeaf: Sha256Hex | undefined;
  /** What the keyring has against the record, at its place. */
  readonly faults: string[] = [];
  /** The line that `prev` names, in the same file or the last of the one before. */
  before: Place | undefined;
  /** The session's record before this one, in the same file. */
  inSession: (Place & { readonly record: SignedRecord }) | undefined;
  /** A record of the session in an earlier file, where it may have none. */
  inEarlierFile: Place | undefined;
  isFirstLine = false;
  /** What the first session of the file may name as the line before it; `undefined` where that is not here. */
  continues: Sha256Hex | undefined;
  cause: (Place & { readonly isLater: boolean }) | undefined;
  /** Lines like a torn one that came after it and that no LOG.RECOVER has named yet: each names the last one. */
  #tornAlike = 0;
  /** The LOG.RECOVER that names a torn line. */
  recovery: Place | undefined;
  /** The log's first record of version 2, if it stands before a line that is none. */
  version2: Place | undefined;

  constructor(found: FoundLine, record: SignedRecord | undefined, trust: Trust | undefined) {
    this.#found = found;
    this.#record = record;
    this.#trust = trust;
    this.#hash = sha256Hex(found.bytes);
  }

  async read(file: string): Promise<void> {
    this.#ordinal += 1;
    const isSameFile = file === this.#found.file;
    if (isSameFile) this.continues = this.#lastLeaf;
    const handle = await open(file, 'r').catch((cause: unknown) => {
      throw new SwarmError('LOG_OPEN', `cannot read ${file}: ${messageOf(cause)}`, { cause });
    });
    let line = 0;
    let index = -1;
    let firstLeaf: Sha256Hex | undefined;
    try {
      for await (const { line: bytes } of linesFrom(handle, 0)) {
        line += 1;
        if (bytes.length === 0) continue;
        index += 1;
        const leaf = leafOfLine(bytes);
        firstLeaf ??= leaf;
        if (isSameFile && line === this.#found.line) {
          this.#judge({ leaf, index, firstLeaf });
          this.#isPast = true;
        } else this.#pass(bytes, { leaf, index, firstLeaf }, { file, line }, isSameFile);
        this.#lastLeaf = leaf;
      }
    } finally {
      await handle.close();
    }
  }

  #judge(place: { leaf: Sha256Hex; index: number; firstLeaf: Sha256Hex }): void {
    this.isFirstLine = place.index === 0;
    const trust = this.#trust;
    const record = this.#record;
    const spoken = record && spokenIn(record);
    const cause = spoken?.isDelivery === true ? record?.header.cause : undefined;
    trust?.advance({ ...place, file: this.#ordinal, delivered: cause });
    if (trust === undefined || record === undefined || spoken === undefined) return;
    const faults = [...trust.faultsOfSigner(record.header.signer), ...trust.faultsOfRecord(spoken)];
    if (cause !== undefined) {
      faults.push(...trust.faultsOfDelivery(spoken.spokenSigner as PublicKey, Buffer.from(cause, 'hex'), 0));
    }
    this.faults.push(...faults.map(({ detail }) => detail));
  }

  #pass(
    bytes: Buffer,
    place: { leaf: Sha256Hex; index: number; firstLeaf: Sha256Hex },
    at: Place,
    isSameFile: boolean,
  ): void {
    const header = this.#record?.header;
    if (!this.#isPast && this.#trust?.hasRevocations === true) this.#advanceTrust(this.#trust, bytes, place);
    if (header === undefined) {
      if (this.#isPast) this.#passAfterTorn(bytes, at);
      else if (this.version2 === undefined && isOfVersion2(bytes)) this.version2 = at;
      return;
    }
    if (place.leaf === header.cause) this.cause ??= { ...at, isLater: this.#isPast };
    if (this.#isPast) return;
    const record = bytes.includes(`"session":"${header.session}"`) ? parseLine(bytes).record : undefined;
    const isInSession =
      record?.header.session === header.session &&
      record.header.version === recordVersion &&
      checkSignature(record);
    if (!isSameFile) {
      this.before = place.leaf === header.prev ? at : undefined; // of a file before only its last line counts
      if (isInSession) this.inEarlierFile = at;
      return;
    }
    if (place.leaf === header.prev) this.before = at;
    if (place.index === 0) this.continues ??= parseLine(bytes).record?.header.prev;
    if (!isInSession) return; // what does not hold takes no session further, nor does another key's record
    if (this.inSession === undefined || this.inSession.record.header.signer === record.header.signer)
      this.inSession = { ...at, record };
  }

  #advanceTrust(
    trust: Trust,
    bytes: Buffer,
    place: { leaf: Sha256Hex; index: number; firstLeaf: Sha256Hex },
  ): void {
    const { record } = parseLine(bytes);
    const { isDelivery = false, isPublish = false } = record === undefined ? {} : spokenIn(record);
    const delivered = isDelivery ? record?.header.cause : undefined;
    trust.advance({ ...place, file: this.#ordinal, delivered });
    if (record !== undefined && isPublish)
      trust.said(record.header.signer, Buffer.from(place.leaf, 'hex'), 0);
  }

  #passAfterTorn(bytes: Buffer, at: Place): void {
    if (bytes.equals(this.#found.bytes)) this.#tornAlike += 1;
    if (!bytes.includes('"kind":"LOG.RECOVER"')) return;
    const verdict = verifyRecord(bytes);
    if (!verdict.ok || recoveredHash(verdict.record) !== this.#hash) return;
    const faults = this.#trust?.faultsOfSigner(verdict.record.header.signer) ?? [];
    if (faults.length > 0) return; // it excuses nothing
    if (this.#tornAlike > 0) this.#tornAlike -= 1;
    else this.recovery ??= at;
  }
}

function isOfVersion2(bytes: Buffer): boolean {
  const record = isVersion1(bytes) ? undefined : parseLine(bytes).record;
  return record !== undefined && checkSignature(record);
}

function tornStep(detail: string, { recovery }: Surroundings): Step {
  if (recovery === undefined) return { name: 'line', ok: false, sentence: `It is not a record: ${detail}.` };
  const sentence = `It is not a record: ${detail}. A writer was killed in the middle of it, as the LOG.RECOVER at ${recovery.file}:${recovery.line} says.`;
  return { name: 'line', ok: true, sentence };
}

function version1Steps(
  { bytes, leaf }: FoundLine,
  trust: Trust | undefined,
  { version2 }: Surroundings,
): Step[] {
  const verdict = verifyVersion1(bytes);
  if (!verdict.ok) {
    return [
      {
        name: 'line',
        ok: false,
        sentence: `It is a record of version 1 and does not hold: ${verdict.detail}.`,
      },
    ];
  }
  const { signer } = verdict.record;
  const faults = trust?.faultsOfSigner(signer) ?? [];
  return [
    {
      name: 'line',
      ok: true,
      sentence: 'It is a record of version 1, signed one by one and not chained; signature and payload hold.',
    },
    leafStep(leaf, undefined),
    {
      name: 'key',
      ok: faults.length === 0,
      sentence: faults[0] === undefined ? `It is signed by ${signer}.` : `${capital(faults[0].detail)}.`,
    },
    {
      name: 'chain',
      ok: version2 === undefined,
      sentence:
        version2 === undefined
          ? 'No record of version 2 stands before it.'
          : `It stands after a record of version 2, at ${version2.file}:${version2.line}, where none of version 1 may.`,
    },
  ];
}

function headerStep({ header, text }: SignedRecord): Step {
  const members = Object.entries(JSON.parse(text) as Record<string, unknown>).map(
    ([name, value]) =>
      [
        name,
        name === 'ts_ns' ? String(header.tsNs) : typeof value === 'string' ? value : JSON.stringify(value),
      ] as const,
  );
  const { version, kind } = header;
  if (version !== recordVersion) {
    return {
      name: 'header',
      ok: false,
      sentence: `It is of version ${version}, which is not known here.`,
      members,
    };
  }
  const when = new Date(Number(header.tsNs / 1_000_000n)).toISOString();
  const sentence = `The header H is ${text.length} bytes: a ${kind}, written at ${when} by its writer's clock.`;
  return { name: 'header', ok: true, sentence, members };
}

function leafStep(leaf: Sha256Hex, record: SignedRecord | undefined): Step {
  const entry = record === undefined ? 'the SHA-256 of the line, which begins with no header' : 'H';
  return { name: 'leaf', ok: true, sentence: `SHA-256(0x00 ‖ entry) is ${leaf}; the entry is ${entry}.` };
}

function flushStep({ leaf, path }: SignedRecord): Step {
  const place = parsePath(path);
  const root = place && rootFromPath(Buffer.from(leaf, 'hex'), place.index, place.size, place.nodes);
  if (place === undefined || root === undefined) {
    return { name: 'flush', ok: false, sentence: 'Its sig_path is no path in the tree of a flush.' };
  }
  const { index, size, nodes } = place;
  const sentence =
    path === undefined
      ? 'It was alone in its flush: what is signed is its leaf.'
      : `It is number ${index + 1} of the ${size} of its flush; the path from its leaf is of ${nodes.length}, up to the root ${root.toString('hex')}.`;
  return { name: 'flush', ok: true, sentence };
}

function signatureStep(record: SignedRecord): Step {
  const ok = checkSignature(record);
  const { signer } = record.header;
  return {
    name: 'signature',
    ok,
    sentence: ok
      ? `The signature over that is one of the key ${signer}.`
      : `The signature is not ${signer}'s.`,
  };
}

function payloadStep(record: SignedRecord): Step {
  const { payload, header } = record;
  if (payload === undefined) {
    return { name: 'payload', ok: true, sentence: `It is withheld; its SHA-256 is ${header.payloadHash}.` };
  }
  const ok = checkPayload(record);
  const sentence = ok
    ? `Its ${payload.length} bytes have the SHA-256 that was signed.`
    : `The SHA-256 of its ${payload.length} bytes is ${sha256Hex(payload)}, not the ${header.payloadHash} that was signed.`;
  return { name: 'payload', ok, sentence };
}

function keyStep({ header }: SignedRecord, keyring: Keyring | undefined, { faults }: Surroundings): Step {
  if (keyring === undefined) {
    return {
      name: 'key',
      ok: true,
      sentence: `Whose key ${header.signer} is, nobody has said: there is no keyring.`,
    };
  }
  if (faults.length > 0) return { name: 'key', ok: false, sentence: `${capital(faults.join('; '))}.` };
  const known = keyring.find(header.signer);
  const rights =
    header.kind === 'BUS.PUBLISH' ? `, who may publish on ${known?.agent.publish.join(', ')}` : '';
  const revoked = known?.key.revoked === undefined ? '' : '; it was revoked, but not before this record';
  return {
    name: 'key',
    ok: true,
    sentence: `By the keyring the key is that of ${known?.agent.name}${rights}${revoked}.`,
  };
}

function chainStep({ header }: SignedRecord, around: Surroundings): Step {
  const { seq, prev, session } = header;
  const step = (ok: boolean, sentence: string): Step => ({ name: 'chain', ok, sentence });
  const { before, inSession, inEarlierFile, isFirstLine, continues } = around;
  if (inSession === undefined && inEarlierFile !== undefined) {
    const at = `${inEarlierFile.file}:${inEarlierFile.line}`;
    return step(
      false,
      `Session ${session} has records in an earlier file, at ${at}, and a session is in one.`,
    );
  }
  if (seq === 0 && inSession === undefined) {
    const begins = `It is the first of session ${session}`;
    if (isFirstLine && continues !== undefined && prev !== continues) {
      return step(false, `${begins}, and names ${prev}, but the segment before ends with ${continues}.`);
    }
    if (before !== undefined)
      return step(true, `${begins}, which begins after ${before.file}:${before.line}.`);
    if (prev === zeroHash) return step(true, `${begins}, which names no record before it.`);
    if (continues === undefined || prev === continues) {
      return step(true, `${begins}, which goes on from ${prev}, the end of a segment that is not here.`);
    }
    return step(false, `${begins}, and names ${prev} as the record before it, which is no line before it.`);
  }
  if (inSession === undefined) {
    return step(false, `It is number ${seq} of session ${session}, and none of those before it is here.`);
  }
  const other = inSession.record;
  const at = `${inSession.file}:${inSession.line}`;
  if (other.header.signer !== header.signer) {
    return step(false, `Session ${session} was begun by another key, ${other.header.signer}, at ${at}.`);
  }
  if (other.header.seq + 1 !== seq) {
    return step(
      false,
      `It is number ${seq} of session ${session}, and follows number ${other.header.seq} at ${at}.`,
    );
  }
  if (other.leaf !== prev) {
    return step(false, `It names ${prev} as the record before it, which at ${at} is ${other.leaf}.`);
  }
  if (other.header.tsNs >= header.tsNs)
    return step(false, `It is not later than the record before it, at ${at}.`);
  if (other.header.swarm !== header.swarm) {
    return step(
      false,
      `It is of swarm ${header.swarm ?? '(none)'}, its session of ${other.header.swarm ?? '(none)'}.`,
    );
  }
  return step(
    true,
    `It is number ${seq} of session ${session}, and names the leaf of number ${seq - 1}, at ${at}.`,
  );
}

function causeStep(record: SignedRecord, { cause }: Surroundings): Step {
  const contradiction = receivedContradicts(record);
  if (contradiction !== undefined)
    return { name: 'cause', ok: false, sentence: `${capital(contradiction)}.` };
  const named = record.header.cause;
  if (named === undefined) return { name: 'cause', ok: true, sentence: 'It names no cause.' };
  const kept = record.received === undefined ? '' : ', and is the message that it keeps, with its signature';
  const where =
    cause === undefined
      ? 'is not in this log'
      : `is ${cause.file}:${cause.line}${cause.isLater ? ', after it' : ''}`;
  return { name: 'cause', ok: true, sentence: `Its cause ${named} ${where}${kept}.` };
}

async function placeStep(found: FoundLine, keyring: Keyring | undefined): Promise<Step> {
  const leaf = `It is leaf ${found.index} of the tree of ${found.file}`;
  const step = (ok: boolean, sentence: string): Step => ({
    name: 'place',
    ok,
    sentence: `${leaf}${sentence}.`,
  });
  let text: string;
  try {
    text = await proveLine(found);
  } catch (thrown) {
    if (!(thrown instanceof SwarmError)) throw thrown;
    if (thrown.code === 'NOT_SEALED') return step(true, ', which is not sealed as far');
    if (thrown.code === 'PROOF_FAILED') return step(false, `: ${thrown.message}`);
    throw thrown;
  }
  const proof = parseProof(text);
  if (!proof.ok) return step(false, `: ${proof.detail}`);
  const { checkpoint, path } = proof.proof;
  const way = `a path of ${path.length} leads from it to the root of the checkpoint`;
  if (keyring === undefined) return step(true, `; ${way} beside it`);
  const opened = openCheckpoint(checkpoint, keyring.checkpointKeys);
  if (!opened.ok) return step(false, `, and the checkpoint beside it does not count: ${opened.detail}`);
  const { size, origin } = opened.checkpoint;
  const names = keyring.agents
    .filter(({ keys }) =>
      keys.some(({ checkpoint: key }) => key !== undefined && opened.signers.includes(key)),
    )
    .map(({ name }) => name);
  return step(true, `; ${way} of ${size} records of ${origin}, signed by ${names.join(', ')}`);
}

function capital(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}`;
}
