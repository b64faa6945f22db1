/**
 * All records of any number of logs in one order: cause before effect, then session order, then time, then leaf.
 *
 * The order is a function of the records (`causal-order.ts`): the same whatever order the files are given in, and whether
 * agents share a log or keep their own. A record that is there twice counts once. A log that does not verify is refused
 * before anything of it is shown. Memory does not hold the records, however many: they are read again where they stand.
 */
import type { Sha256Hex } from '../base/encoding.ts';
import { messageOf, SwarmError } from '../base/errors.ts';
import type { Position } from '../log/reader.ts';
import { leafOfLine } from '../record/entry.ts';
import { checkPayload, parseLine } from '../record/line.ts';
import type { SignedRecord } from '../record/signed.ts';
import { isVersion1, type Version1Record, verifyVersion1 } from '../record/version1.ts';
import {
  changed,
  type VerifiedFile,
  type VerifiedFiles,
  type VerifiedLine,
} from '../verify/verified-files.ts';
import { CausalOrder } from './causal-order.ts';
import { printNode, readNode } from './node.ts';
import { Sorter } from './sorter.ts';
import { type SoundOptions, soundLog } from './sound.ts';
import { readSpans } from './spans.ts';

/** How each of the logs is verified, and how much memory may be used. */
export interface TimelineOptions extends SoundOptions {
  /** How much of what is sorted is in memory at once, 1 or more; the rest is in temporary files. @default 16 MiB */
  readonly memoryBytes?: number;
}

/** A record's place in the timeline, without its line. */
export interface TimelinePlace {
  /** Counted from 0. */
  readonly index: number;
  /** The index of the record that led to this one; `undefined` where it names none, or none that the logs hold. */
  readonly cause: number | undefined;
  /** The indices of what else it drew on, where the logs hold it. */
  readonly refs: readonly number[];
  /** SHA-256(0x00 ‖ entry) of its line: docs/format.md, section 8. */
  readonly leaf: Sha256Hex;
  /** Nanoseconds since the Unix epoch, by the writer's clock. */
  readonly tsNs: bigint;
  readonly threadId: string;
  readonly kind: string;
  /** Of the format. */
  readonly version: 1 | 2;
  /** Whether the payload is not in the logs. */
  readonly isWithheld: boolean;
  readonly at: Position;
  /** Of the line, in bytes. */
  readonly length: number;
  /** Which of the timeline's files it stands in, whatever the name of that has become. */
  readonly source: number;
}

/** A record in its place. */
export type TimelineRecord = TimelinePlace & VersionedRecord;

const MiB = 1 << 20;
const batchRecords = 1_024;
const batchBytes = MiB;

/**
 * Yields all records of `logs` in one order. Throws `USAGE`, and `LOG_REFUSED` before the first if one of them does not verify; then,
 * and later, `LOG_OPEN` where one cannot be read, and `FILE_FAILED` where there is no room for what is sorted.
 */
export async function* timeline(
  logs: readonly string[],
  options: TimelineOptions = {},
): AsyncGenerator<TimelineRecord> {
  using opened = await openTimeline(logs, options);
  yield* opened.read(opened.places());
}

/** Verifies `logs`, reads them once, and returns their timeline. Throws what `timeline` throws before the first record. */
export async function openTimeline(
  logs: readonly string[],
  options: TimelineOptions = {},
): Promise<Timeline> {
  const { memoryBytes = 16 * MiB, ...sound } = options;
  if (!Number.isSafeInteger(memoryBytes) || memoryBytes < 1) {
    throw new SwarmError('USAGE', `memoryBytes is a whole number from 1 on, not ${memoryBytes}`);
  }
  const verified: VerifiedFiles[] = [];
  for (const path of new Set(logs)) verified.push(await soundLog(path, sound));
  const parts = new TimelineParts(memoryBytes);
  try {
    for (const log of verified) await parts.takeIn(log);
    return new Timeline(parts, new CausalOrder(parts.nodes, memoryBytes));
  } catch (thrown) {
    parts[Symbol.dispose]();
    throw thrown;
  }
}

/** What the logs hold, gathered. */
class TimelineParts implements Disposable {
  readonly nodes: Sorter;
  readonly threads: Names = new Names();
  readonly kinds: Names = new Names();
  readonly files: VerifiedFile[] = [];
  readonly #open: VerifiedFiles[] = [];

  constructor(memoryBytes: number) {
    this.nodes = new Sorter(memoryBytes);
  }

  /** Adds a node for each record of a log, whose files it closes at the end. */
  async takeIn(log: VerifiedFiles): Promise<void> {
    this.#open.push(log);
    for await (const line of log.lines()) {
      const { file, fd } = line;
      if (this.files.at(-1)?.fd !== fd) this.files.push({ file, fd });
      this.#add(line);
    }
  }

  [Symbol.dispose](): void {
    this.nodes[Symbol.dispose]();
    for (const log of this.#open) log[Symbol.dispose]();
  }

  #add({ bytes, leaf, line, offset }: VerifiedLine): void {
    const told = recordOf(bytes);
    if (told === undefined) return; // what a killed writer left torn, and a later record names
    const { tsNs, threadId, kind } = told.version === 1 ? told.record : told.record.header;
    const header = told.version === 1 ? undefined : told.record.header;
    this.nodes.add(
      printNode({
        tsNs,
        leaf,
        isWithheld: told.record.payload === undefined,
        version: told.version,
        source: this.files.length - 1,
        thread: this.threads.numberOf(threadId),
        kind: this.kinds.numberOf(kind),
        line,
        offset,
        length: bytes.length,
        before: header === undefined || header.seq === 0 ? undefined : header.prev,
        cause: header?.cause,
        refs: header?.refs ?? [],
      }),
    );
  }
}

/** A record of either version of the format. */
export type VersionedRecord =
  | { readonly version: 2; readonly record: SignedRecord }
  | { readonly version: 1; readonly record: Version1Record };

/** Returns the record on a line that was verified; `undefined` if there is none. */
function recordOf(bytes: Buffer): VersionedRecord | undefined {
  const parsed = parseLine(bytes);
  if (parsed.ok) return { version: 2, record: parsed.record };
  if (!isVersion1(bytes)) return undefined;
  const read = verifyVersion1(bytes);
  return read.ok ? { version: 1, record: read.record } : undefined;
}

/** Texts that many records share, by number. */
class Names {
  readonly #numbers = new Map<string, number>();
  readonly #texts: string[] = [];

  numberOf(text: string): number {
    let number = this.#numbers.get(text);
    if (number === undefined) {
      number = this.#texts.push(text) - 1;
      this.#numbers.set(text, number);
    }
    return number;
  }

  textOf(number: number): string {
    return this.#texts[number] as string;
  }
}

/** The records of logs in their order, to go through as often as need be. Its files are open until it is disposed of. */
export class Timeline implements Disposable {
  readonly #parts: TimelineParts;
  readonly #order: CausalOrder;

  /** @internal Use `openTimeline`. */
  constructor(parts: TimelineParts, order: CausalOrder) {
    this.#parts = parts;
    this.#order = order;
  }

  /** How many records there are. */
  get size(): number {
    return this.#order.size;
  }

  /** Yields all places in order, without reading their lines. */
  *places(): Generator<TimelinePlace> {
    const { files, threads, kinds } = this.#parts;
    for (const { node, index, cause, refs } of this.#order.placed()) {
      const { leaf, thread, kind, line, ...facts } = readNode(node);
      yield {
        index,
        cause,
        refs,
        leaf: leaf.toString('hex') as Sha256Hex,
        tsNs: facts.tsNs,
        threadId: threads.textOf(thread),
        kind: kinds.textOf(kind),
        version: facts.version,
        isWithheld: facts.isWithheld,
        at: { file: files[facts.source]?.file ?? '', line, offset: facts.offset },
        length: facts.length,
        source: facts.source,
      };
    }
  }

  /** Yields the records in `places`, in that order. Throws `LOG_OPEN` where one is not what was verified any more. */
  async *read<Place extends TimelinePlace>(places: Iterable<Place>): AsyncGenerator<Place & VersionedRecord> {
    let batch: Place[] = [];
    let bytes = 0;
    for (const place of places) {
      batch.push(place);
      bytes += place.length;
      if (batch.length < batchRecords && bytes < batchBytes) continue;
      yield* await this.#readBatch(batch);
      batch = [];
      bytes = 0;
    }
    yield* await this.#readBatch(batch);
  }

  async #readBatch<Place extends TimelinePlace>(
    places: readonly Place[],
  ): Promise<(Place & VersionedRecord)[]> {
    const { files } = this.#parts;
    const spans = places.map(({ source, at: { offset }, length }) => {
      return { fd: files[source]?.fd ?? -1, offset, length };
    });
    const lines = await readSpans(spans).catch((cause: unknown) => {
      throw new SwarmError('LOG_OPEN', `cannot read the logs again: ${messageOf(cause)}`, { cause });
    });
    return places.map((place, index) => ({ ...place, ...sameRecord(place, lines[index] as Buffer) }));
  }

  [Symbol.dispose](): void {
    this.#order[Symbol.dispose]();
    this.#parts[Symbol.dispose]();
  }
}

/** Returns the record on `line`; throws `LOG_OPEN` if it is not the one that was verified there. */
function sameRecord({ leaf, at }: TimelinePlace, line: Buffer): VersionedRecord {
  const told = recordOf(line);
  const isSame =
    told?.version === 2 ? told.record.leaf === leaf && checkPayload(told.record) : leafOfLine(line) === leaf;
  if (told === undefined || !isSame) throw changed(`${at.file}:${at.line} is not what it was`);
  return told;
}
