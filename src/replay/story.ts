/**
 * The selected records of a timeline as a story: numbered, each below what led to it, and told thread by thread.
 *
 * A message stands one level below the message that led to it, in the same thread; what was heard, refused or done about a
 * message stands on its level. Where what led to a record was not selected, what led to that counts. Threads come in the
 * order of their first records. Memory holds 9 bytes for each record of the timeline, and the names of threads.
 */
import { ReplayDigest, type Selection, Selector } from './selection.ts';
import { Sorter } from './sorter.ts';
import type { Timeline, TimelinePlace } from './timeline.ts';

/** A selected record in its place of the story. */
export interface StoryPlace extends TimelinePlace {
  /** Counted from 1 over the selected records, in the order of the timeline. */
  readonly number: number;
  /** How many messages of its thread led to it, one after the other. */
  readonly level: number;
  /** The number of the record that led to it. */
  readonly because: number | undefined;
  /** The numbers of what else it drew on. */
  readonly drawsOn: readonly number[];
}

/** What was selected, all in all. */
export interface Replayed {
  readonly records: number;
  /** How many of them are BUS.PUBLISH. */
  readonly messages: number;
  readonly digest: string;
}

/** Tells what is selected of a timeline. */
export class Story {
  readonly #timeline: Timeline;
  readonly #selection: Selection;
  readonly #digest = new ReplayDigest();
  #records = 0;
  #messages = 0;

  constructor(timeline: Timeline, selection: Selection) {
    this.#timeline = timeline;
    this.#selection = selection;
  }

  /** What has been told so far, and at the end all of it. */
  get replayed(): Replayed {
    return { records: this.#records, messages: this.#messages, digest: this.#digest.value() };
  }

  /** Yields the selected places in the order of the timeline, once. Throws `RECORD_MISSING` at the end. */
  *inOrder(): Generator<StoryPlace> {
    const { size } = this.#timeline;
    const numbers = new Uint32Array(size); // by index: its own, or that of what led to it; 0 for none
    const levels = new Uint8Array(size); // the same, one more than the level
    const threads = new Uint32Array(size);
    const threadNumbers = new Map<string, number>();
    const selected = new Selector(this.#selection);
    for (const place of this.#timeline.places()) {
      const { index, cause, refs, threadId, kind, leaf } = place;
      const thread = threadNumbers.get(threadId) ?? threadNumbers.size + 1;
      threadNumbers.set(threadId, thread);
      const because = cause === undefined ? 0 : (numbers[cause] as number);
      const isSameThread = cause !== undefined && threads[cause] === thread;
      const above = isSameThread ? (levels[cause] as number) : 0;
      threads[index] = thread;
      if (!selected.takes(place)) {
        numbers[index] = because;
        levels[index] = above;
        continue;
      }
      const isMessage = kind === 'BUS.PUBLISH';
      this.#records += 1;
      if (isMessage) this.#messages += 1;
      this.#digest.add(leaf);
      const level = Math.min(deepest, isMessage ? above : Math.max(0, above - 1));
      numbers[index] = this.#records;
      levels[index] = level + 1;
      yield {
        ...place,
        number: this.#records,
        level,
        because: because === 0 ? undefined : because,
        drawsOn: refs.map((ref) => numbers[ref] as number).filter((number) => number > 0),
      };
    }
    selected.end();
  }

  /** Yields the same places thread by thread. `memoryBytes` is how much of what is sorted is in memory. */
  *byThread(memoryBytes: number = 16 << 20): Generator<StoryPlace> {
    using sorter = new Sorter(memoryBytes);
    const beginnings = new Map<string, number>();
    for (const place of this.inOrder()) {
      const beginning = beginnings.get(place.threadId) ?? place.number;
      beginnings.set(place.threadId, beginning);
      sorter.add(printRow(beginning, place));
    }
    for (const row of sorter.sorted()) yield readRow(row);
  }
}

/** As deep as a story goes: more than fits on a line. */
const deepest = 200;
const numberBytes = 6;

/** Returns bytes that sort by thread, then by number. */
function printRow(beginning: number, { tsNs, ...place }: StoryPlace): Buffer {
  const key = Buffer.alloc(2 * numberBytes);
  key.writeUIntBE(beginning, 0, numberBytes);
  key.writeUIntBE(place.number, numberBytes, numberBytes);
  return Buffer.concat([key, Buffer.from(JSON.stringify({ ...place, tsNs: String(tsNs) }))]);
}

function readRow(row: Buffer): StoryPlace {
  const place = JSON.parse(row.toString('utf8', 2 * numberBytes)) as StoryPlace & { tsNs: string };
  return { ...place, tsNs: BigInt(place.tsNs) };
}
