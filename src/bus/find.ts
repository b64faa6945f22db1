/**
 * Does the stream hold the message with this id, and since when?
 *
 * Asked when a publish was not confirmed in time, or its confirmation leaves that open. Where the broker named a
 * place, that one message is read. Else the stream is read from a given time on, headers only (`stored.ts`). Only a
 * message whose id the broker itself read counts: a copy under a doctored id is not it.
 */
import { messageOf, SwarmError } from '../base/errors.ts';
import type { Bus } from './connection.ts';
import { ReceivedHeaders } from './headers.ts';
import { readMessages } from './stored.ts';
import { parseTime } from './time.ts';

export interface FindOptions {
  readonly stream: string;
  readonly subject: string;
  readonly id: string;
  /** By the broker's clock: nothing older is looked at. */
  readonly sinceNs: bigint;
  /** @default 10000 */
  readonly withinMs?: number;
}

export interface FoundMessage {
  readonly seq: number;
  /** When the broker stored it: what decides whether receivers find it fresh. */
  readonly timestampNs: bigint;
}

/**
 * Returns where the stream holds the message, or `undefined` if it does not.
 * Throws `BUS_STREAM` if the stream could not be read to its end in time.
 */
export async function findById(bus: Bus, options: FindOptions): Promise<FoundMessage | undefined> {
  const { stream, subject, id, sinceNs, withinMs = 10_000 } = options;
  const asked = { stream, subjects: [subject], sinceNs, headersOnly: true, withinMs };
  for await (const { seq, timestampNs, headers } of readMessages(bus, asked)) {
    if (headers.messageId === id) return { seq, timestampNs };
  }
  return undefined;
}

/**
 * Returns when the broker stored the message of this id at `seq`; `undefined` if it has none or another there.
 * Throws `BUS_STREAM` if it does not answer.
 */
export async function readStored(
  bus: Bus,
  { stream, seq, id }: { readonly stream: string; readonly seq: number; readonly id: string },
): Promise<FoundMessage | undefined> {
  const failed = (why: string, cause?: unknown): SwarmError =>
    new SwarmError('BUS_STREAM', `cannot read message ${seq} of stream ${stream}: ${why}`, { cause });
  let answer: StoredAnswer;
  try {
    const reply = await bus.nats.request(`$JS.API.STREAM.MSG.GET.${stream}`, JSON.stringify({ seq }), {
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
  const headers = new ReceivedHeaders(Buffer.from(message.hdrs ?? '', 'base64'));
  return headers.messageId === id ? { seq, timestampNs } : undefined;
}

/** What `STREAM.MSG.GET` answers, as far as it matters here. */
interface StoredAnswer {
  readonly message?: { readonly time?: string; readonly hdrs?: string };
  readonly error?: { readonly err_code: number; readonly description: string };
}

const readWithinMs = 2_000;
const noMessageFound = 10037;
