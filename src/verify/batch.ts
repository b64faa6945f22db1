/**
 * What many lines say by themselves, in one buffer of entries of one size, so that it crosses between threads at no cost.
 *
 * Texts that many lines share (keys, subjects) stand in a table; what is wrong with a line, which is rare, in a list.
 */
import type { Sha256Hex } from '../base/encoding.ts';
import type { SignedRecord } from '../record/signed.ts';
import type { Fault } from './finding.ts';

/** What a line turned out to be: `refused1` is a version 1 record that does not hold. */
const kinds = ['malformed', 'refused', 'refused1', 'version1', 'record', 'recovery', 'unread'] as const;
export type LineKind = (typeof kinds)[number];

const at = {
  leaf: 0,
  prev: 32,
  cause: 64,
  /** The SHA-256 of a malformed line, or of the torn line that a recovery names. */
  bytesHash: 64,
  session: 96,
  tsNs: 112,
  seq: 120,
  offset: 128,
  line: 136,
  signer: 140,
  swarm: 144,
  subject: 148,
  spokenSigner: 152,
  kind: 156,
  flags: 157,
} as const;
const entryBytes = 160;

const hasCause = 1;
const isWithheld = 2;
const isFlushEnd = 4;
const isPublish = 8;
const isDelivery = 16;
const hasBytesHash = 32;

export interface Batch {
  readonly count: number;
  readonly entries: Buffer;
  readonly texts: readonly string[];
  /** By entry, in order. */
  readonly faults: readonly (Fault & { readonly entry: number })[];
  /** How many lines begin in the range and have an LF, blank ones included. */
  readonly lines: number;
  /** How many bytes of the file the range is. */
  readonly bytes: number;
  /** Where the line begins that has no LF yet, if one begins in the range. */
  readonly openAt: number | undefined;
}

/** Where entries are written, batch after batch: what is thrown away of one is not collected soon. */
let space = Buffer.allocUnsafeSlow(8192 * entryBytes);

/** Writes one batch at a time, from `begin` to `end`. */
export class BatchWriter {
  #entries = space;
  #count = 0;
  readonly #texts: string[] = [''];
  readonly #numbers = new Map<string, number>([['', 0]]);
  readonly #faults: (Fault & { entry: number })[] = [];

  /** Begins the entry of the next line. */
  begin(leaf: Sha256Hex, { line, offset }: { readonly line: number; readonly offset: number }): void {
    const start = this.#count * entryBytes;
    if (start === this.#entries.length) {
      space = Buffer.allocUnsafeSlow(this.#entries.length * 2);
      this.#entries.copy(space);
      this.#entries = space;
    }
    this.#entries.fill(0, start, start + entryBytes);
    this.#entries.write(leaf, start + at.leaf, 'hex');
    this.#entries.writeDoubleLE(offset, start + at.offset);
    this.#entries.writeUInt32LE(line, start + at.line);
    this.#count += 1;
  }

  get #start(): number {
    return (this.#count - 1) * entryBytes;
  }

  setKind(kind: LineKind): void {
    this.#entries[this.#start + at.kind] = kinds.indexOf(kind);
  }

  setSigner(signer: string): void {
    this.#entries.writeUInt32LE(this.#numberOf(signer), this.#start + at.signer);
  }

  setBytesHash(hash: string): void {
    this.#entries.write(hash, this.#start + at.bytesHash, 'hex');
    this.#flag(hasBytesHash);
  }

  /** Takes of a record what needs no signature. */
  setHashed({ payload }: SignedRecord, recovered: string | undefined): void {
    if (payload === undefined) this.#flag(isWithheld);
    if (recovered !== undefined) this.setBytesHash(recovered);
  }

  setRecord({ header, received }: SignedRecord, flushEnds: boolean): void {
    const start = this.#start;
    const entries = this.#entries;
    entries.write(header.prev, start + at.prev, 'hex');
    entries.write(header.session, start + at.session, 'hex');
    entries.writeBigInt64LE(header.tsNs, start + at.tsNs);
    entries.writeDoubleLE(header.seq, start + at.seq);
    entries.writeUInt32LE(this.#numberOf(header.signer), start + at.signer);
    entries.writeUInt32LE(this.#numberOf(header.swarm ?? ''), start + at.swarm);
    if (header.cause !== undefined) {
      entries.write(header.cause, start + at.cause, 'hex');
      this.#flag(hasCause);
    }
    if (flushEnds) this.#flag(isFlushEnd);
    const spoken = header.kind === 'BUS.DELIVER' ? received?.header : undefined;
    if (header.kind === 'BUS.PUBLISH') this.#flag(isPublish);
    if (spoken !== undefined) {
      this.#flag(isDelivery);
      entries.writeUInt32LE(this.#numberOf(spoken.signer), start + at.spokenSigner);
    }
    const subject = spoken?.subject ?? (header.kind === 'BUS.PUBLISH' ? header.subject : '');
    entries.writeUInt32LE(this.#numberOf(subject), start + at.subject);
  }

  fault(code: Fault['code'], detail: string): void {
    this.#faults.push({ entry: this.#count - 1, code, detail });
  }

  end(range: Pick<Batch, 'lines' | 'bytes' | 'openAt'>): Batch {
    const entries = Buffer.allocUnsafeSlow(this.#count * entryBytes);
    this.#entries.copy(entries, 0, 0, entries.length);
    return { count: this.#count, entries, texts: this.#texts, faults: this.#faults, ...range };
  }

  #flag(flag: number): void {
    const place = this.#start + at.flags;
    this.#entries[place] = (this.#entries[place] as number) | flag;
  }

  #numberOf(text: string): number {
    const known = this.#numbers.get(text);
    if (known !== undefined) return known;
    this.#numbers.set(text, this.#texts.length);
    return this.#texts.push(text) - 1;
  }
}

/** One entry of a batch at a time: `moveTo`, then read. Hashes are read where they stand, in `entries` from `leafAt` on. */
export class BatchEntry {
  readonly entries: Buffer;
  readonly #texts: readonly string[];
  #start = 0;

  constructor({ entries, texts }: Batch) {
    this.entries = entries;
    this.#texts = texts;
  }

  moveTo(index: number): this {
    this.#start = index * entryBytes;
    return this;
  }

  get leafAt(): number {
    return this.#start + at.leaf;
  }
  get prevAt(): number {
    return this.#start + at.prev;
  }
  get causeAt(): number | undefined {
    return this.#has(hasCause) ? this.#start + at.cause : undefined;
  }
  get sessionAt(): number {
    return this.#start + at.session;
  }
  get leaf(): Sha256Hex {
    return this.#hex(at.leaf);
  }
  get prev(): Sha256Hex {
    return this.#hex(at.prev);
  }
  get cause(): Sha256Hex | undefined {
    return this.#has(hasCause) ? this.#hex(at.cause) : undefined;
  }
  get bytesHash(): Sha256Hex | undefined {
    return this.#has(hasBytesHash) ? this.#hex(at.bytesHash) : undefined;
  }
  get session(): string {
    return this.entries.toString('hex', this.#start + at.session, this.#start + at.session + 16);
  }
  get tsNs(): bigint {
    return this.entries.readBigInt64LE(this.#start + at.tsNs);
  }
  get seq(): number {
    return this.entries.readDoubleLE(this.#start + at.seq);
  }
  get offset(): number {
    return this.entries.readDoubleLE(this.#start + at.offset);
  }
  /** Counted from 0 within the range, blank lines included. */
  get line(): number {
    return this.entries.readUInt32LE(this.#start + at.line);
  }
  get signer(): string {
    return this.#text(at.signer);
  }
  get swarm(): string | undefined {
    return this.#text(at.swarm) || undefined;
  }
  /** Where the message was sent: of a PUBLISH, or of the message that a DELIVER keeps. */
  get subject(): string {
    return this.#text(at.subject);
  }
  /** Who signed that message: of a DELIVER. */
  get spokenSigner(): string {
    return this.#text(at.spokenSigner);
  }
  get kind(): LineKind {
    return kinds[this.entries[this.#start + at.kind] as number] as LineKind;
  }
  get isWithheld(): boolean {
    return this.#has(isWithheld);
  }
  get isFlushEnd(): boolean {
    return this.#has(isFlushEnd);
  }
  get isPublish(): boolean {
    return this.#has(isPublish);
  }
  get isDelivery(): boolean {
    return this.#has(isDelivery);
  }

  #has(flag: number): boolean {
    return ((this.entries[this.#start + at.flags] as number) & flag) !== 0;
  }

  #text(place: number): string {
    return this.#texts[this.entries.readUInt32LE(this.#start + place)] ?? '';
  }

  #hex(place: number): Sha256Hex {
    return this.entries.toString('hex', this.#start + place, this.#start + place + 32) as Sha256Hex;
  }
}
