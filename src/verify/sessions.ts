/**
 * The chain of each session, checked record by record: docs/format.md, section 7.
 *
 * A session is a key and 16 random bytes, in one file. Its records count up from 0, each names the leaf of the one
 * before and is later than it. After a break checking resumes from the line that broke, so one break is one finding.
 */
import type { Sha256Hex } from '../base/encoding.ts';
import type { PublicKey } from '../identity/key.ts';
import { flushPlaceOf, type SignedRecord } from '../record/signed.ts';
import type { Fault } from './finding.ts';

interface SessionState {
  readonly signer: PublicKey;
  readonly swarm: string | undefined;
  readonly file: string;
  seq: number;
  leaf: Sha256Hex;
  tsNs: bigint;
  /** Whether the last record was the last of its flush. */
  flushEnded: boolean;
}

export class Sessions {
  readonly #sessions = new Map<string, SessionState>();

  /** Takes `record`, which stands in `file`, as the next of its session; returns what is wrong with that, if anything. */
  advance(record: SignedRecord, file: string): Fault | undefined {
    const { header, leaf } = record;
    const state = this.#sessions.get(header.session);
    if (state !== undefined && state.signer !== header.signer) {
      return {
        code: 'session-conflict',
        detail: `session ${header.session} was begun by key ${state.signer}, this record is signed by ${header.signer}`,
      };
    }
    const fault = state === undefined ? faultOfFirst(record) : faultOfNext(record, state, file);
    const { index, size } = flushPlaceOf(record);
    this.#sessions.set(header.session, {
      signer: header.signer,
      swarm: header.swarm,
      file,
      seq: header.seq,
      leaf,
      tsNs: header.tsNs,
      flushEnded: index === size - 1,
    });
    return fault === undefined ? undefined : { code: 'chain-broken', detail: fault };
  }

  /** Returns how many sessions end inside a flush. */
  countCutFlushes(): number {
    let cut = 0;
    for (const { flushEnded } of this.#sessions.values()) if (!flushEnded) cut += 1;
    return cut;
  }
}

function faultOfFirst({ header }: SignedRecord): string | undefined {
  if (header.seq === 0) return undefined;
  return `the first record here of session ${header.session} is its number ${header.seq}: those before it are missing`;
}

function faultOfNext({ header }: SignedRecord, before: SessionState, file: string): string | undefined {
  const { session, seq, prev, tsNs, swarm } = header;
  if (seq !== before.seq + 1) {
    const what = seq > before.seq + 1 ? `${seq - before.seq - 1} missing between` : 'moved or repeated';
    return `record ${seq} of session ${session} follows record ${before.seq}: ${what}`;
  }
  if (file !== before.file) {
    return `record ${seq} of session ${session} stands in another file than the one before it, ${before.file}`;
  }
  if (prev !== before.leaf) {
    return `record ${seq} of session ${session} names ${prev} as the record before it, which is ${before.leaf}`;
  }
  if (tsNs <= before.tsNs) {
    return `record ${seq} of session ${session} is not later than the one before it: ${tsNs} after ${before.tsNs}`;
  }
  if (swarm !== before.swarm) {
    return `record ${seq} of session ${session} is of swarm ${swarm ?? '(none)'}, the session of ${before.swarm ?? '(none)'}`;
  }
  return undefined;
}
