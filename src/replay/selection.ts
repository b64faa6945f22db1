/**
 * Some of the records of a timeline, and the digest by which two people see that they have the same ones.
 */
import { createHash } from 'node:crypto';
import type { Sha256Hex } from '../base/encoding.ts';
import { SwarmError } from '../base/errors.ts';
import type { TimelinePlace } from './timeline.ts';

/** Which records: those of which all that is given here holds. */
export interface Selection {
  readonly threadId?: string;
  readonly kind?: string;
  /** Not before this time, by the writer's clock: nanoseconds since the Unix epoch. */
  readonly sinceNs?: bigint;
  /** From the record with this leaf on, in the order of the timeline. */
  readonly from?: Sha256Hex;
  /** Up to the record with this leaf. */
  readonly until?: Sha256Hex;
}

/** Asked of each place of a timeline, in its order, whether it is selected. */
export class Selector {
  readonly #selection: Selection;
  #isFrom: boolean;
  #isOver = false;

  constructor(selection: Selection) {
    this.#selection = selection;
    this.#isFrom = selection.from === undefined;
  }

  /** Reports whether the next place is selected. */
  takes({ leaf, threadId: thread, kind: its, tsNs }: TimelinePlace): boolean {
    if (this.#isOver) return false;
    const { threadId, kind, sinceNs, from, until } = this.#selection;
    if (leaf === from) this.#isFrom = true;
    if (leaf === until) this.#isOver = true;
    return (
      this.#isFrom &&
      (threadId === undefined || threadId === thread) &&
      (kind === undefined || kind === its) &&
      (sinceNs === undefined || sinceNs <= tsNs)
    );
  }

  /** Throws `RECORD_MISSING` if a record that the selection names did not come by, or the last before the first. */
  end(): void {
    const { from, until } = this.#selection;
    if (until !== undefined && !this.#isOver) throw missing(until);
    if (from === undefined || this.#isFrom) return;
    if (until === undefined) throw missing(from);
    throw new SwarmError(
      'RECORD_MISSING',
      `the record ${until}, which is to be the last, comes before ${from}, if that is in the logs at all`,
    );
  }
}

function missing(leaf: Sha256Hex): SwarmError {
  return new SwarmError('RECORD_MISSING', `no record of the logs has the leaf ${leaf}`);
}

/**
 * The digest of records in their order: SHA-256 over their leaves, 32 bytes each, one after the other. A leaf is
 * SHA-256(0x00 ‖ H) of a record's header (docs/format.md, section 2), and of a line of version 1 SHA-256(0x00 ‖ SHA-256 of
 * the line) (section 8). Of no records it is the SHA-256 of nothing.
 */
export class ReplayDigest {
  readonly #hash = createHash('sha256');

  add(leaf: Sha256Hex): void {
    this.#hash.update(leaf, 'hex');
  }

  /** Returns the digest of what was added so far. */
  value(): Sha256Hex {
    return this.#hash.copy().digest('hex') as Sha256Hex;
  }
}
