/**
 * Does the stream hold the message with this id, and since when?
 *
 * Asked when a publish was not confirmed in time. The stream is read from a given time on, headers only, by a
 * consumer that keeps no state and is gone afterwards; where we may not create one, message by message. Only a
 * message whose id the broker itself read counts: a copy under a doctored id is not it.
 */
import { AckPolicy, DeliverPolicy, ReplayPolicy } from '@nats-io/jetstream';
import { createInbox, type Msg } from '@nats-io/transport-node';
import { messageOf, SwarmError } from '../base/errors.ts';
import type { Bus } from './connection.ts';
import { headerBlock, ReceivedHeaders } from './headers.ts';
import { parseDelivery } from './message.ts';
import { firstSince, readNext, type StoredPlace } from './read-message.ts';
import { isPermissionRefused } from './requirements.ts';
import { printTime } from './time.ts';

export interface FindOptions {
  readonly stream: string;
  readonly subject: string;
  readonly id: string;
  /** By the broker's clock: nothing older is looked at. */
  readonly sinceNs: bigint;
  /** @default 10000 */
  readonly withinMs?: number;
}

const batch = 1_000;
const quietMs = 2_000;

/**
 * Returns where the stream holds the message, or `undefined` if it does not.
 * Throws `BUS_STREAM` if the stream could not be read to its end in time.
 */
export async function findById(bus: Bus, options: FindOptions): Promise<StoredPlace | undefined> {
  const { stream, withinMs = 10_000 } = options;
  const search = { ...options, deadline: performance.now() + withinMs };
  try {
    return await findByConsumer(bus, search).catch((thrown: unknown) => {
      if (isPermissionRefused(thrown)) return findOneByOne(bus, search);
      throw thrown;
    });
  } catch (cause) {
    throw new SwarmError('BUS_STREAM', `cannot search stream ${stream}: ${messageOf(cause)}`, { cause });
  }
}

interface Search extends FindOptions {
  /** By `performance.now()`. */
  readonly deadline: number;
}

async function findByConsumer(bus: Bus, search: Search): Promise<StoredPlace | undefined> {
  const { stream, subject, sinceNs, withinMs = 10_000 } = search;
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
    return await scan(bus, { ...search, name, count });
  } finally {
    // Not waited for in vain: the broker forgets it anyway.
    await bus.manager.consumers.delete(stream, name).catch(() => false);
  }
}

async function findOneByOne(bus: Bus, search: Search): Promise<StoredPlace | undefined> {
  const { stream, subject, id, sinceNs, deadline } = search;
  let seq = await firstSince(bus, { stream, subject, sinceNs });
  for (let seen = 0; ; seen += 1) {
    const message = await readNext(bus, { stream, subject, seq });
    if (message === undefined) return undefined;
    const { timestampNs } = message;
    if (message.headers.messageId === id) return { seq: message.seq, timestampNs };
    if (performance.now() > deadline) throw new Error(`${seen} messages looked at, then time was up`);
    seq = message.seq + 1;
  }
}

interface Scan extends Search {
  readonly name: string;
  readonly count: number;
}

/** Asks for batch after batch until the message has come, or all `count` have. */
function scan(bus: Bus, { stream, id, name, count, deadline }: Scan): Promise<StoredPlace | undefined> {
  if (count === 0) return Promise.resolve(undefined);
  return new Promise((resolve, reject) => {
    const inbox = createInbox(bus.inboxPrefix);
    let seen = 0;
    let heardAt = performance.now();
    const ask = (): void =>
      bus.tell(`$JS.API.CONSUMER.MSG.NEXT.${stream}.${name}`, `{"batch":${batch},"no_wait":true}`, inbox);
    const finish = (found: StoredPlace | undefined, error?: Error): void => {
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
