/**
 * Does the stream hold the message with this id, and since when?
 *
 * Asked when a publish was not confirmed in time, or its confirmation leaves that open. Where the broker named a
 * place, that one message is read. Else the stream is read from a given time on, headers only,
 * by a consumer that keeps no state and is gone afterwards. Only a message whose id the broker itself read
 * counts: a copy under a doctored id is not it.
 */
import { AckPolicy, DeliverPolicy, ReplayPolicy } from '@nats-io/jetstream';
import { createInbox, type Msg } from '@nats-io/transport-node';
import { messageOf, SwarmError } from '../base/errors.ts';
import type { Bus } from './connection.ts';
import { headerBlock, ReceivedHeaders } from './headers.ts';
import { parseDelivery } from './message.ts';
import { parseTime, printTime } from './time.ts';

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

const batch = 1_000;
const quietMs = 2_000;

/**
 * Returns where the stream holds the message, or `undefined` if it does not.
 * Throws `BUS_STREAM` if the stream could not be read to its end in time.
 */
export async function findById(bus: Bus, options: FindOptions): Promise<FoundMessage | undefined> {
  const { stream, subject, sinceNs, withinMs = 10_000 } = options;
  const deadline = performance.now() + withinMs;
  try {
    const { name, num_pending: count } = await bus.manager.consumers.add(stream, {
      filter_subject: subject,
      deliver_policy: DeliverPolicy.StartTime,
      opt_start_time: printTime(sinceNs > 0n ? sinceNs : 0n),
      ack_policy: AckPolicy.None,
      replay_policy: ReplayPolicy.Instant,
      headers_only: true,
      mem_storage: true,
      num_replicas: 1,
      inactive_threshold: withinMs * 1e6,
    });
    try {
      return await scan(bus, { ...options, name, count, deadline });
    } finally {
      // Not waited for in vain: the broker forgets it anyway.
      await bus.manager.consumers.delete(stream, name).catch(() => false);
    }
  } catch (cause) {
    throw new SwarmError('BUS_STREAM', `cannot search stream ${stream}: ${messageOf(cause)}`, { cause });
  }
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

interface Scan extends FindOptions {
  readonly name: string;
  readonly count: number;
  readonly deadline: number;
}

/** Asks for batch after batch until the message has come, or all `count` have. */
function scan(bus: Bus, { stream, id, name, count, deadline }: Scan): Promise<FoundMessage | undefined> {
  if (count === 0) return Promise.resolve(undefined);
  return new Promise((resolve, reject) => {
    const inbox = createInbox(bus.inboxPrefix);
    let seen = 0;
    let heardAt = performance.now();
    const ask = (): void =>
      bus.tell(`$JS.API.CONSUMER.MSG.NEXT.${stream}.${name}`, `{"batch":${batch},"no_wait":true}`, inbox);
    const finish = (found: FoundMessage | undefined, error?: Error): void => {
      clearInterval(timer);
      if (!bus.nats.isClosed()) subscription.unsubscribe();
      if (error === undefined) resolve(found);
      else reject(error);
    };
    const take = (message: Msg): void => {
      heardAt = performance.now();
      const delivery = parseDelivery(message.reply ?? '');
      if (delivery === undefined) {
        // A status: nothing left after all, or no such consumer any more.
        if (message.headers?.code === 404) finish(undefined);
        else finish(undefined, new Error(`the broker says ${message.headers?.status ?? 'nothing'}`));
        return;
      }
      seen += 1;
      if (new ReceivedHeaders(headerBlock(message)).messageId === id) {
        finish({ seq: delivery.seq, timestampNs: delivery.timestampNs });
      } else if (delivery.pending === 0) finish(undefined);
      else if (seen % batch === 0) ask();
    };
    const subscription = bus.subscribe(inbox, take, (error) => finish(undefined, error));
    const timer = setInterval(() => {
      const now = performance.now();
      if (now > deadline)
        finish(undefined, new Error(`${seen} of ${count} messages looked at, then time was up`));
      else if (now - heardAt > quietMs) finish(undefined, new Error('the broker fell silent'));
    }, 200);
    ask();
  });
}
