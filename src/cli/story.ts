/**
 * A replay for people, a record a line below its thread, and for programs, a record as one JSON object.
 */
import { encodeBase64 } from '../base/encoding.ts';
import type { Keyring } from '../identity/keyring.ts';
import type { SignedRecord } from '../record/signed.ts';
import type { StoryPlace } from '../replay/story.ts';
import type { TimelineRecord } from '../replay/timeline.ts';
import { cutTo } from './columns.ts';
import { given } from './options.ts';
import { type Output, type Piece, styled } from './output.ts';
import { nameOf, payloadOf, spokenGap, timeOf } from './told.ts';

export type StoryRecord = StoryPlace & TimelineRecord;

const numberWidth = 5;
const gapWidth = 13;
/** What is deeper stands no further to the right: the number of what led to it says enough. */
const indentedAtMost = 12;

/** Prints records thread by thread. */
export class StoryPrinter {
  readonly #out: Output;
  readonly #keyring: Keyring | undefined;
  #before: StoryRecord | undefined;

  constructor(out: Output, keyring: Keyring | undefined) {
    this.#out = out;
    this.#keyring = keyring;
  }

  /** Says the next record, and where it begins a thread that first. */
  tell(record: StoryRecord): void {
    const before = this.#before?.threadId === record.threadId ? this.#before : undefined;
    this.#before = record;
    if (before === undefined) {
      const thread = record.threadId === '-' ? 'No thread' : `Thread ${record.threadId}`;
      this.#out.data(styled('bold', thread), styled('dim', `  ${timeOf(record.tsNs)}`));
    }
    const gap = before === undefined ? '' : spokenGap(record.tsNs - before.tsNs);
    const line = [
      styled('dim', `${String(record.number).padStart(numberWidth)}  ${gap.padEnd(gapWidth)}`),
      '  '.repeat(Math.min(record.level, indentedAtMost)),
      ...this.#origins(record, before),
      ...wordsOf(record, this.#keyring),
    ];
    this.#out.data(...cutTo(this.#out.columns, line));
  }

  /** What it comes from, by number, but for a cause that stands on the line above. */
  #origins({ because, drawsOn }: StoryRecord, before: StoryRecord | undefined): Piece[] {
    const above = because !== undefined && because === before?.number;
    const numbers = new Set([...(because === undefined || above ? [] : [because]), ...drawsOn]);
    return numbers.size === 0 ? [] : [styled('dim', `${[...numbers].map((n) => `←${n}`).join(' ')} `)];
  }
}

/** Who said what to whom, or what else happened. */
function wordsOf(told: StoryRecord, keyring: Keyring | undefined): Piece[] {
  if (told.version === 1) {
    const { signer, kind, subject, payload } = told.record;
    return [styled('bold', nameOf(signer, keyring)), ` ${kind} `, styled('cyan', subject), ` ${payload}`];
  }
  const { header, received } = told.record;
  const { kind, subject, reason = '', step } = header;
  const who = styled('bold', nameOf(header.signer, keyring));
  const from = styled('bold', received === undefined ? 'a message' : nameOf(received.header.signer, keyring));
  const what: Piece[] = [styled('cyan', subject), ` ${payloadOf(told.record)}`];
  switch (kind) {
    case 'BUS.PUBLISH':
      return [who, ' → ', ...what];
    case 'BUS.DELIVER': {
      const attempt = (header.delivery?.attempt ?? 1) > 1 ? ` (attempt ${header.delivery?.attempt})` : '';
      return [who, ' heard ', from, attempt, ...(told.cause === undefined ? [' on ', ...what] : [])];
    }
    case 'BUS.REJECT':
      return [who, ' refused ', from, ' on ', styled('cyan', subject), ': ', styled('yellow', reason)];
    default: {
      const more = [step, reason].filter(Boolean).join(' ');
      return [who, ` ${kind} `, ...(more === '' ? [] : [styled('yellow', more), ' ']), ...what];
    }
  }
}

/** Returns a record as one JSON object, in which a payload that is JSON stands byte for byte. */
export function recordAsJson(told: StoryRecord, keyring: Keyring | undefined): string {
  const { number, at, leaf, because, drawsOn, tsNs, threadId, kind, version } = told;
  const header = told.version === 2 ? told.record.header : undefined;
  const { subject, signer } = header ?? (told.record as Exclude<typeof told.record, SignedRecord>);
  const from = told.version === 2 ? told.record.received?.header.signer : undefined;
  const facts = JSON.stringify({
    number,
    file: at.file,
    line: at.line,
    leaf,
    version,
    ts_ns: String(tsNs), // larger than a double holds
    thread_id: threadId,
    subject,
    kind,
    agent: keyring?.find(signer)?.agent.name ?? null,
    key: signer,
    from: (from && keyring?.find(from)?.agent.name) ?? null,
    because: because ?? null,
    draws_on: drawsOn,
    ...given({
      cause: header?.cause,
      refs: header?.refs,
      delivery: header?.delivery,
      reason: header?.reason,
      step: header?.step,
      meta: header?.meta,
    }),
  });
  return `${facts.slice(0, -1)}${payloadMember(told)}}`;
}

function payloadMember(told: StoryRecord): string {
  const { payload } = told.record;
  if (payload === undefined) return '';
  const isJson = told.version === 1 || told.record.payloadIsJson;
  return isJson ? `,"payload":${payload}` : `,"payload_b64":"${encodeBase64(payload)}"`;
}
