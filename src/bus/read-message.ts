/**
 * Messages of a stream, read one by one at their place: what an agent may do that may not create consumers.
 *
 * By the broker's `STREAM.MSG.GET`, of which each answer is one message whole. So this is for one message whose place is
 * known, or for few.
 */
import { messageOf, SwarmError } from '../base/errors.ts';
import type { Bus } from './connection.ts';
import { type EncodedHeaders, ReceivedHeaders } from './headers.ts';
import { parseTime } from './time.ts';

export interface StoredPlace {
  readonly seq: number;
  /** When the broker stored it: what decides whether receivers find it fresh. */
  readonly timestampNs: bigint;
}

export interface StoredMessage extends StoredPlace {
  readonly subject: string;
  readonly headers: ReceivedHeaders;
  /** Perhaps a view into a larger buffer; empty where only headers were asked for. */
  readonly data: Uint8Array;
}

/** A message as it is sent, its id among the headers. */
export interface SentMessage {
  readonly subject: string;
  readonly headers: EncodedHeaders;
  readonly data: Uint8Array;
}

/** Returns the message at `seq`; `undefined` if there is none. Throws `BUS_STREAM` if the broker does not answer. */
export async function readStored(
  bus: Bus,
  { stream, seq }: { readonly stream: string; readonly seq: number },
): Promise<StoredMessage | undefined> {
  return await readMessage(bus, stream, { seq });
}

/**
 * Reports whether what is stored is the message that was sent, under the id that every broker reads; it may have more
 * headers. The id alone says nothing: whoever reads it somewhere can store another message under it.
 */
export function isStoredAsSent(stored: StoredMessage, sent: SentMessage): boolean {
  const headers = new ReceivedHeaders(sent.headers.bytes);
  return (
    stored.headers.messageId === headers.messageId &&
    stored.subject === sent.subject &&
    headers.names().every((name) => isSame(headers.values(name), stored.headers.values(name))) &&
    Buffer.compare(stored.data, sent.data) === 0
  );
}

function isSame(one: readonly string[], other: readonly string[]): boolean {
  return one.length === other.length && one.every((value, index) => value === other[index]);
}

/** Returns the first message on `subject`, wildcards allowed, at `seq` or after it; throws `BUS_STREAM`. */
export async function readNext(
  bus: Bus,
  { stream, subject, seq }: { readonly stream: string; readonly subject: string; readonly seq: number },
): Promise<StoredMessage | undefined> {
  return await readMessage(bus, stream, { seq: Math.max(seq, 1), next_by_subj: subject });
}

/** Returns a place before which there is no message on `subject` that was stored at `sinceNs` or later; throws `BUS_STREAM`. */
export async function firstSince(
  bus: Bus,
  {
    stream,
    subject,
    sinceNs,
  }: { readonly stream: string; readonly subject: string; readonly sinceNs: bigint },
): Promise<number> {
  const { state } = await bus.manager.streams.info(stream);
  let low = state.first_seq;
  let high = state.last_seq + 1;
  // Invariant: what is before `low` is older; what is at `high` or after it, on this subject, is not.
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    const message = await readNext(bus, { stream, subject, seq: middle });
    if (message === undefined || message.timestampNs >= sinceNs) high = middle;
    else low = message.seq + 1;
  }
  return low;
}

/** What `STREAM.MSG.GET` is asked. */
interface Asked {
  readonly seq: number;
  readonly next_by_subj?: string;
}

/** What it answers, as far as it matters here. */
interface Answer {
  readonly message?: {
    readonly seq: number;
    readonly subject: string;
    readonly time?: string;
    readonly hdrs?: string;
    readonly data?: string;
  };
  readonly error?: { readonly err_code: number; readonly description: string };
}

const readWithinMs = 2_000;
const noMessageFound = 10037;

async function readMessage(bus: Bus, stream: string, asked: Asked): Promise<StoredMessage | undefined> {
  const failed = (why: string, cause?: unknown): SwarmError =>
    new SwarmError('BUS_STREAM', `cannot read message ${asked.seq} of stream ${stream}: ${why}`, { cause });
  let answer: Answer;
  try {
    const reply = await bus.nats.request(`$JS.API.STREAM.MSG.GET.${stream}`, JSON.stringify(asked), {
      timeout: readWithinMs,
    });
    answer = reply.json();
  } catch (cause) {
    throw failed(messageOf(cause), cause);
  }
  const { message, error } = answer;
  if (error?.err_code === noMessageFound) return undefined;
  const timestampNs = parseTime(message?.time ?? '');
  if (message === undefined || timestampNs === undefined) {
    throw failed(error?.description ?? 'the broker answers in another form');
  }
  const { seq, subject, hdrs = '', data = '' } = message;
  return {
    seq,
    subject,
    timestampNs,
    headers: new ReceivedHeaders(Buffer.from(hdrs, 'base64')),
    data: Buffer.from(data, 'base64'),
  };
}
