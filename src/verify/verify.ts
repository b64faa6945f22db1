/**
 * Verifies a log: every line for itself, every session's chain, and what the lines say of each other.
 *
 * Stands on docs/format.md, sections 4 to 7. The log and its keys go in; findings, counts and the root of each
 * file's tree come out. Nothing of a network is imported here: proof must not need the system that is proved.
 */
import { stat } from 'node:fs/promises';
import { type Sha256Hex, sha256Hex, zeroHash } from '../base/encoding.ts';
import type { PublicKey } from '../identity/key.ts';
import type { Keyring } from '../identity/keyring.ts';
import { logFiles } from '../log/files.ts';
import { type LogLine, type Position, readLines } from '../log/reader.ts';
import { CompactTree } from '../merkle/tree.ts';
import { leafOfLine } from '../record/entry.ts';
import { type Verified, verifyRecord } from '../record/line.ts';
import { receivedContradicts } from '../record/received.ts';
import type { SignedRecord } from '../record/signed.ts';
import { isVersion1, verifyVersion1 } from '../record/version1.ts';
import type { Counts, Fault, Finding } from './finding.ts';
import { LeafSet } from './leaf-set.ts';
import { Sessions } from './sessions.ts';
import { Trust } from './trust.ts';

export interface VerifyOptions {
  /** Whose keys count, and for what. @default none: any key counts */
  readonly keyring?: Keyring;
  /** Take a withheld payload for a finding. @default false */
  readonly requirePayloads?: boolean;
  /** Called now and then with how far verification has come. */
  readonly onProgress?: (progress: { readonly bytes: number; readonly totalBytes: number }) => void;
}

/** One file of a log as an RFC 6962 tree: docs/format.md, section 8. */
export interface FileTree {
  readonly file: string;
  readonly size: number;
  /** 64 lowercase hex digits. */
  readonly root: Sha256Hex;
}

export interface LogReport {
  /** Records without a finding. */
  readonly verified: number;
  /** Lines with at least one finding. */
  readonly bad: number;
  /** In the order of the lines. */
  readonly findings: readonly Finding[];
  readonly counted: Counts;
  readonly trees: readonly FileTree[];
  /** Every key that signed a record, with the number of its records that verified. */
  readonly signers: ReadonlyMap<PublicKey, number>;
}

/** Verifies the log at `path`, all its segments; throws `LOG_OPEN` where it cannot be read. */
export async function verifyLog(path: string, options: VerifyOptions = {}): Promise<LogReport> {
  const sizes = await Promise.all(logFiles(path).map(async (file) => (await stat(file)).size));
  const totalBytes = sizes.reduce((sum, size) => sum + size, 0);
  const verification = new Verification(options);
  let bytes = 0;
  for await (const lines of readLines(path)) {
    for (const line of lines) {
      verification.take(line);
      bytes += line.bytes.length + 1;
    }
    options.onProgress?.({ bytes, totalBytes });
  }
  return verification.report();
}

/** A file while its lines go by. */
interface FileState {
  readonly file: string;
  readonly tree: CompactTree;
  /** The leaf of the last line of the segment before; where none is here, what the file's first line says it is. */
  continues: Sha256Hex | undefined;
  /** Leaves of this file's earlier lines. */
  readonly leaves: LeafSet;
  firstLeaf: Sha256Hex | undefined;
  lastLeaf: Sha256Hex;
}

class Verification {
  readonly #options: VerifyOptions;
  readonly #trust: Trust | undefined;
  readonly #sessions = new Sessions();
  readonly #leaves = new LeafSet();
  /** Causes that no line before them had for its leaf. */
  readonly #awaited: Sha256Hex[] = [];
  readonly #findings: Finding[] = [];
  /** Malformed lines, which a later LOG.RECOVER may name by the SHA-256 of their bytes. */
  readonly #torn = new Map<Sha256Hex, Finding[]>();
  readonly #signers = new Map<PublicKey, number>();
  readonly #trees: FileTree[] = [];
  readonly #counted = { withheld: 0, recovered: 0, continues: 0, version1: 0 };
  #file: FileState | undefined;
  #verified = 0;
  #seenVersion2 = false;

  constructor(options: VerifyOptions) {
    this.#options = options;
    this.#trust = options.keyring && new Trust(options.keyring);
  }

  take({ at, bytes, terminated }: LogLine): void {
    const file = this.#fileOf(at);
    if (!terminated) {
      const detail = `the log ends with ${bytes.length} bytes that no line feed closes: torn, or cut off`;
      this.#findings.push({ code: 'unterminated', at, detail });
      return;
    }
    const verdict = isVersion1(bytes) ? undefined : verifyRecord(bytes);
    const leaf = verdict?.record?.leaf ?? leafOfLine(bytes);
    file.firstLeaf ??= leaf;
    this.#trust?.advance({ leaf, index: file.tree.size, firstLeaf: file.firstLeaf });
    const faults =
      verdict === undefined ? this.#checkVersion1(bytes) : this.#checkVersion2(verdict, bytes, at);
    this.#findings.push(...faults.map(({ code, detail }) => ({ code, at, detail })));
    file.leaves.add(leaf);
    file.tree.append(Buffer.from(leaf, 'hex'));
    file.lastLeaf = leaf;
    this.#leaves.add(leaf);
  }

  report(): LogReport {
    this.#closeFile();
    const order = new Map(this.#trees.map(({ file }, index) => [file, index]));
    const findings = [...this.#findings, ...[...this.#torn.values()].flat()].sort(
      ({ at: a }, { at: b }) => (order.get(a.file) ?? 0) - (order.get(b.file) ?? 0) || a.line - b.line,
    );
    return {
      verified: this.#verified,
      bad: new Set(findings.map(({ at }) => `${at.line} ${at.file}`)).size,
      findings,
      counted: {
        ...this.#counted,
        unresolved: this.#awaited.filter((cause) => !this.#leaves.has(cause)).length,
        flushCut: this.#sessions.countCutFlushes(),
      },
      trees: this.#trees,
      signers: this.#signers,
    };
  }

  #fileOf({ file }: Position): FileState {
    if (this.#file?.file === file) return this.#file;
    const continues = this.#file?.lastLeaf;
    this.#closeFile();
    this.#file = {
      file,
      continues,
      tree: new CompactTree(),
      leaves: new LeafSet(),
      firstLeaf: undefined,
      lastLeaf: continues ?? zeroHash,
    };
    return this.#file;
  }

  #closeFile(): void {
    if (this.#file === undefined) return;
    const { file, tree } = this.#file;
    this.#trees.push({ file, size: tree.size, root: tree.root().toString('hex') as Sha256Hex });
  }

  #checkVersion1(bytes: Buffer): Fault[] {
    const verdict = verifyVersion1(bytes);
    if (!verdict.ok) return [{ code: verdict.problem, detail: verdict.detail }];
    this.#counted.version1 += 1;
    const { signer } = verdict.record;
    const faults = this.#trust?.faultsOfSigner(signer) ?? [];
    if (this.#seenVersion2)
      faults.push({ code: 'misplaced', detail: 'a version 1 record after one of version 2' });
    return this.#credit(signer, faults);
  }

  #checkVersion2(verdict: Verified, bytes: Buffer, at: Position): Fault[] {
    if (!verdict.ok && verdict.problem === 'malformed') {
      const hash = sha256Hex(bytes);
      const same = this.#torn.get(hash) ?? [];
      this.#torn.set(hash, [...same, { code: 'malformed', at, detail: verdict.detail }]);
      return [];
    }
    if (!verdict.ok && verdict.problem !== 'payload-mismatch') {
      return [{ code: verdict.problem, detail: verdict.detail }];
    }
    const { record } = verdict;
    const { header, leaf } = record;
    this.#seenVersion2 = true;
    const faults: Fault[] = verdict.ok ? [] : [{ code: verdict.problem, detail: verdict.detail }];
    if (record.payload === undefined) {
      this.#counted.withheld += 1;
      if (this.#options.requirePayloads)
        faults.push({ code: 'payload-withheld', detail: 'the payload is not in the log' });
    }
    const chainFault = this.#sessions.advance(record, at.file);
    if (chainFault !== undefined) faults.push(chainFault);
    else if (header.seq === 0) faults.push(...this.#checkBeginning(header.prev, leaf));
    const contradiction = receivedContradicts(record);
    if (contradiction !== undefined) faults.push({ code: 'cause-mismatch', detail: contradiction });
    if (header.cause !== undefined && !this.#leaves.has(header.cause))
      this.#awaited.push(copyOf(header.cause));
    if (this.#trust !== undefined) {
      faults.push(...this.#trust.faultsOfSigner(header.signer), ...this.#trust.faultsOfRecord(record));
    }
    if (header.kind === 'LOG.RECOVER' && faults.length === 0) this.#recover(record);
    return this.#credit(header.signer, faults);
  }

  /** What a session's first record names as the one before it: zeros, an earlier line, or the segment before. */
  #checkBeginning(prev: Sha256Hex, leaf: Sha256Hex): Fault[] {
    const file = this.#file;
    if (file === undefined) return [];
    const isFirstLine = file.tree.size === 0;
    if (isFirstLine && file.continues !== undefined) {
      if (prev === file.continues) return [];
      const detail = `the file continues ${prev}, but the segment before it ends with ${file.continues}`;
      return [{ code: 'segment-missing', detail }];
    }
    if (prev === zeroHash || prev === file.continues || file.leaves.has(prev)) return [];
    if (isFirstLine) {
      this.#counted.continues += 1;
      file.continues = prev; // other sessions, too, may have been opened before this first line was written
      return [];
    }
    return [
      {
        code: 'prev-unknown',
        detail: `the session that begins with ${leaf} names ${prev}, which is no line before it`,
      },
    ];
  }

  /** Takes the torn lines that a LOG.RECOVER names for what they are. */
  #recover({ payload }: SignedRecord): void {
    const hash = /^\{"bytes":\d+,"sha256":"([0-9a-f]{64})"\}$/.exec(
      payload?.toString('latin1') ?? '',
    )?.[1] as Sha256Hex;
    this.#counted.recovered += this.#torn.get(hash)?.length ?? 0;
    this.#torn.delete(hash);
  }

  #credit(signer: PublicKey, faults: Fault[]): Fault[] {
    if (faults.length === 0) this.#verified += 1;
    this.#signers.set(signer, (this.#signers.get(signer) ?? 0) + (faults.length === 0 ? 1 : 0));
    return faults;
  }
}

/** Returns `hash` as a text of its own: what is cut out of a line keeps the whole line in memory. */
function copyOf(hash: Sha256Hex): Sha256Hex {
  return Buffer.from(hash, 'latin1').toString('latin1') as Sha256Hex;
}
