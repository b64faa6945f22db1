/**
 * Refused messages in full or in sum, so that a flood of them cannot fill the disk.
 *
 * Those of a kind, a reason and a subject, are recorded one by one while they are few. Beyond that they are counted, and
 * a BUS.REJECT.SUM record says how many of which there were (docs/format.md, section 3): one for up to 256 messages. Each is
 * terminated only once its record or its sum is on disk. However many there are, and of however many kinds, what is
 * remembered of them is bounded.
 */
import { refusalsCounted } from '../base/events.ts';
import type { Draft } from '../record/draft.ts';
import type { RejectReason } from '../record/kind.ts';

/** In full: so many of one reason and subject at once, and then one more after each pause; and so many of one reason. */
const ofOneKind = { atOnce: 8, everyMs: 60_000 };
const ofOneReason = { atOnce: 64, everyMs: 10_000 };

const kindsKnown = 1_024;
const kindsInSum = 16;
const messagesInSum = 256;
const bytesInSum = 1 << 20;
const sumAfterMs = 500;

export interface Refusal {
  readonly reason: RejectReason;
  /** As a record names it. */
  readonly subject: string;
  /** Where the stream keeps the message. */
  readonly seq: number;
  /** How long its data are. */
  readonly bytes: number;
}

export interface RefusalsParts {
  readonly stream: string;
  readonly durable: string;
  append(draft: Draft): Promise<unknown>;
}

/** So many at once, and one more after each pause. */
class Allowance {
  readonly #atOnce: number;
  readonly #everyMs: number;
  #left: number;
  #since: number;

  constructor({ atOnce, everyMs }: { readonly atOnce: number; readonly everyMs: number }, now: number) {
    this.#atOnce = atOnce;
    this.#everyMs = everyMs;
    this.#left = atOnce;
    this.#since = now;
  }

  has(now: number): boolean {
    const earned = Math.floor((now - this.#since) / this.#everyMs);
    if (earned > 0) {
      this.#left = Math.min(this.#atOnce, this.#left + earned);
      this.#since += earned * this.#everyMs;
    }
    return this.#left > 0;
  }

  take(): void {
    this.#left -= 1;
  }
}

interface Counted {
  readonly reason: RejectReason;
  readonly subject: string;
  count: number;
  first_seq: number;
  last_seq: number;
}

/** What is counted and not yet on the log. */
class Sum {
  readonly kinds = new Map<string, Counted>();
  /** By reason: those of kinds for which there was no more room. */
  readonly others: Record<string, number> = {};
  readonly seqs: number[] = [];
  bytes = 0;
  readonly written: Promise<void>;
  settle: (written: Promise<void>) => void = () => undefined;

  constructor() {
    this.written = new Promise((resolve) => {
      this.settle = resolve;
    });
  }

  add({ reason, subject, seq, bytes }: Refusal): void {
    this.seqs.push(seq);
    this.bytes += bytes;
    const name = `${reason} ${subject}`;
    const known = this.kinds.get(name);
    if (known !== undefined) {
      known.count += 1;
      known.first_seq = Math.min(known.first_seq, seq);
      known.last_seq = Math.max(known.last_seq, seq);
    } else if (this.kinds.size < kindsInSum) {
      this.kinds.set(name, { reason, subject, count: 1, first_seq: seq, last_seq: seq });
    } else {
      this.others[reason] = (this.others[reason] ?? 0) + 1;
    }
  }

  get isFull(): boolean {
    return this.seqs.length >= messagesInSum || this.bytes >= bytesInSum;
  }
}

export class Refusals {
  readonly #parts: RefusalsParts;
  readonly #reasons = new Map<RejectReason, Allowance>();
  /** The latest first seen are forgotten last. */
  readonly #kinds = new Map<string, Allowance>();
  #sum: Sum | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(parts: RefusalsParts) {
    this.#parts = parts;
  }

  /** Whether a refused message is to be recorded by itself; if not, it is to be counted. */
  takesRecord({ reason, subject }: Refusal, now: number): boolean {
    const ofReason = this.#reasons.get(reason) ?? new Allowance(ofOneReason, now);
    this.#reasons.set(reason, ofReason);
    const name = `${reason} ${subject}`;
    const ofKind = this.#kinds.get(name) ?? new Allowance(ofOneKind, now);
    if (!ofKind.has(now) || !ofReason.has(now)) return false;
    this.#kinds.set(name, ofKind);
    const [oldest] = this.#kinds.keys();
    if (this.#kinds.size > kindsKnown && oldest !== undefined) this.#kinds.delete(oldest);
    ofKind.take();
    ofReason.take();
    return true;
  }

  /** Counts a refused message. Resolves once the sum that it is in is on disk; throws what `LogWriter.append` throws. */
  count(refusal: Refusal): Promise<void> {
    this.#sum ??= new Sum();
    const sum = this.#sum;
    sum.add(refusal);
    if (sum.isFull) this.flush();
    else this.#timer ??= setTimeout(() => this.flush(), sumAfterMs);
    return sum.written;
  }

  /** Writes what is counted now; whoever counted it hears how that went. */
  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const sum = this.#sum;
    this.#sum = undefined;
    sum?.settle(this.#write(sum));
  }

  async #write({ kinds, others, seqs }: Sum): Promise<void> {
    const { stream, durable, append } = this.#parts;
    const [first, last] = [
      seqs.reduce((one, other) => Math.min(one, other)),
      seqs.reduce((one, other) => Math.max(one, other)),
    ];
    const said = {
      stream,
      consumer: durable,
      refused: seqs.length,
      first_seq: first,
      last_seq: last,
      kinds: [...kinds.values()],
      others,
    };
    await append({
      subject: 'bus.reject',
      kind: 'BUS.REJECT.SUM',
      payload: Buffer.from(JSON.stringify(said)),
    });
    refusalsCounted.publish({ durable, refused: seqs.length, firstSeq: first, lastSeq: last });
  }
}
