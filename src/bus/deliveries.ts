/**
 * What a consumer hands out, as an endless sequence.
 *
 * Messages are asked for in batches that keep at most `prefetch` of them here or under way, so a slow reader
 * is never overrun. The sequence does not end when the connection, the server or the consumer is lost: it
 * asks again, creates the consumer anew, and goes on. It ends by `stop`, and with an error where going on is
 * pointless: `BUS_PERMISSION`, `BUS_CLOSED`.
 *
 * Messages that wait here, and those that are being worked on (`BusMessage.keep`), are kept from being handed out
 * again (`working`), so each is read once unless the broker has reason to think that we are gone. Should one come
 * again all the same, it is not read twice for that: it takes the place of the delivery that waits, is answered with
 * the one that is being worked on, and is dropped once the message is acknowledged.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { ConsumerInfo } from '@nats-io/jetstream';
import { createInbox, type Msg, type Subscription } from '@nats-io/transport-node';
import { messageOf, SwarmError } from '../base/errors.ts';
import { giveUpForgotten, type Lease } from './acknowledge.ts';
import type { Bus } from './connection.ts';
import { headerBlock } from './headers.ts';
import { BusMessage, type DeliveryTerms, type MessageHome } from './message.ts';
import { Queue } from './queue.ts';

export interface DeliveriesOptions {
  readonly stream: string;
  readonly name: string;
  readonly isDurable: boolean;
  readonly prefetch: number;
  /** Messages asked for in all, but for `oneMore`. @default without end */
  readonly atMost?: number | undefined;
  readonly ackWaitMs: number;
  /** All messages of the stream up to this one are done with. */
  readonly ackFloor: number;
  /** Told of each message as it arrives, before it is read. */
  readonly onArrival?: ((message: BusMessage) => void) | undefined;
  read(): Promise<ConsumerInfo | undefined>;
  recreate(ackFloor: number): Promise<ConsumerInfo>;
}

const heartbeatMs = 2_000;
const batchExpiresMs = 30_000;
const floorEveryMs = 30_000;
const pauseMs = 100;
const pauseAtMostMs = 2_000;
const stopWithinMs = 2_000;

interface Taker {
  readonly resolve: (result: IteratorResult<BusMessage, undefined>) => void;
  readonly reject: (error: SwarmError) => void;
}

interface Held {
  readonly message: BusMessage;
  /** By `performance.now()`: when the broker last heard that it is in good hands. */
  since: number;
}

export class Deliveries implements AsyncIterable<BusMessage>, AsyncDisposable {
  readonly stream: string;
  /** The consumer's name. */
  readonly name: string;
  /** How long the broker waits for an acknowledgement; as the consumer has it, not as it was asked for. */
  readonly ackWaitMs: number;
  readonly #bus: Bus;
  readonly #options: DeliveriesOptions;
  #inbox = '';
  readonly #nextSubject: string;
  #subscription: Subscription;
  readonly #stopListening: () => void;
  readonly #timer: NodeJS.Timeout;
  readonly #stopping = new AbortController();
  readonly #held = new Queue<Held>();
  readonly #takers = new Queue<Taker>();
  /** By their place in the stream: messages that are read and being worked on. */
  readonly #atWork = new Map<number, Held>();
  /** Places of messages whose acknowledgement is on its way. */
  readonly #done = new Set<number>();
  /** Places of messages that wait here and were delivered before. */
  readonly #again = new Set<number>();
  /** Messages asked for and not come yet. */
  #requested = 0;
  /** Messages that may still come. */
  #left: number;
  /** Tells the answers to this batch of requests from those to requests given up. */
  #series = 0;
  #heardAt = performance.now();
  readonly #home: MessageHome = {
    onDone: (seq, confirmed) => this.#onDone(seq, confirmed),
    keep: (message) => this.#keep(message),
  };
  #terms: DeliveryTerms;
  /** The furthest message of the stream that the broker handed out here, as far as it knows itself. */
  #highestSeq = 0;
  #ackFloor: number;
  #floorReadAt = performance.now();
  #recovering = false;
  #failure: SwarmError | undefined;
  #stopped: Promise<void> | undefined;

  /** Resolves when nothing more comes, for whatever reason. */
  readonly ended: Promise<void>;

  constructor(bus: Bus, options: DeliveriesOptions) {
    this.ended = new Promise((resolve) => {
      this.#stopping.signal.addEventListener('abort', () => resolve(), { once: true });
    });
    this.stream = options.stream;
    this.name = options.name;
    this.ackWaitMs = options.ackWaitMs;
    this.#bus = bus;
    this.#options = options;
    this.#ackFloor = options.ackFloor;
    this.#left = options.atMost ?? Number.POSITIVE_INFINITY;
    this.#terms = this.#newTerms();
    this.#nextSubject = `$JS.API.CONSUMER.MSG.NEXT.${options.stream}.${options.name}`;
    this.#subscription = this.#listen();
    this.#stopListening = bus.listen({
      disconnected: () => this.#forgetRequests(),
      reconnected: () => this.#recover(0),
      refused: (subject) => {
        if (subject === this.#nextSubject)
          this.#fail(
            'BUS_PERMISSION',
            `the server does not permit reading consumer ${this.name} (${subject})`,
          );
      },
      closed: () => this.#fail('BUS_CLOSED', `the connection was closed while reading consumer ${this.name}`),
    });
    this.#timer = setInterval(() => this.#tick(), Math.min(heartbeatMs, options.ackWaitMs / 4));
    this.#ask();
  }

  [Symbol.asyncIterator](): AsyncIterator<BusMessage, undefined> {
    return {
      next: () => this.next(),
      return: async () => {
        await this.stop();
        return { done: true, value: undefined };
      },
    };
  }

  /** Returns the next message; several may be asked for at once. Throws `BUS_PERMISSION` or `BUS_CLOSED`. */
  next(): Promise<IteratorResult<BusMessage, undefined>> {
    const held = this.#held.shift();
    if (held !== undefined) {
      this.#again.delete(held.message.seq);
      this.#ask();
      return Promise.resolve({ done: false, value: held.message });
    }
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    if (this.#stopped !== undefined) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve, reject) => {
      this.#takers.push({ resolve, reject });
    });
  }

  /** Asks for one message more than `atMost`, in place of one that does not count. */
  oneMore(): void {
    this.#left += 1;
    this.#ask();
  }

  /** Ends the sequence and gives back what nobody has read. Messages in hand can still be acknowledged. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async #stop(): Promise<void> {
    this.#end();
    for (const taker of this.#takers.drain()) taker.resolve({ done: true, value: undefined });
    if (!this.#bus.isConnected || this.#bus.isClosed) {
      this.#unsubscribe();
      return;
    }
    const limit = sleep(stopWithinMs, undefined, { ref: false });
    // Messages under way still arrive before the drain ends, and are given back with the others.
    await Promise.race([this.#subscription.drain().catch(() => undefined), limit]);
    const held = this.#held.drain().map(({ message }) => message);
    const goodbye = this.#options.isDurable
      ? Promise.allSettled(held.map((message) => message.nak()))
      : this.#bus.manager.consumers.delete(this.stream, this.name).catch(() => false);
    await Promise.race([goodbye, limit]);
  }

  /** Takes a new inbox, and listens there. */
  #listen(): Subscription {
    const inbox = createInbox(this.#bus.inboxPrefix);
    this.#inbox = inbox;
    return this.#bus.subscribe(
      `${inbox}.*`,
      (message) => this.#onMessage(message, inbox),
      ({ message }) =>
        this.#fail('BUS_PERMISSION', `the server does not permit subscribing to ${inbox}.* (${message})`),
    );
  }

  /**
   * Asks anew in another inbox, so that the broker lets go of what was asked in this one. Where agents have an account of
   * their own, a server takes a message of no headers and no data for a request's last answer, and would go on to hand out
   * the rest of them to nobody.
   */
  #move(): void {
    const before = this.#subscription;
    this.#subscription = this.#listen();
    this.#forgetRequests();
    before.drain().catch(() => undefined); // what is under way still arrives; without a connection nothing is
  }

  #end(): void {
    this.#stopListening();
    this.#stopping.abort();
    this.#restTimer();
  }

  /** What is still being worked on is kept to the end. */
  #restTimer(): void {
    if (this.#stopping.signal.aborted && this.#atWork.size === 0) clearInterval(this.#timer);
  }

  #fail(code: 'BUS_PERMISSION' | 'BUS_CLOSED', message: string): void {
    if (this.#failure !== undefined || this.#stopped !== undefined) return;
    this.#failure = new SwarmError(code, message);
    this.#end();
    this.#unsubscribe();
    this.#held.drain(); // nobody could acknowledge them
    for (const taker of this.#takers.drain()) taker.reject(this.#failure);
  }

  #unsubscribe(): void {
    if (!this.#bus.nats.isClosed() && !this.#subscription.isClosed()) this.#subscription.unsubscribe();
  }

  #onMessage(message: Msg, inbox: string): void {
    const now = performance.now();
    this.#heardAt = now;
    if (message.reply === undefined || message.reply === '') {
      this.#onStatus(message);
      return;
    }
    const delivered = new BusMessage(this.#bus, message, this.#terms); // throws where the reply is no delivery's
    const { stream, consumer } = delivered.delivery;
    if (consumer !== this.name || stream !== this.stream) {
      // Whoever may read another consumer can have its messages sent here, where an ack would be of ours.
      throw new SwarmError('BUS_CONSUMER', `a delivery of consumer ${consumer} of stream ${stream}`);
    }
    if (delivered.seq > this.#highestSeq) this.#highestSeq = delivered.seq;
    if (this.#requested > 0) this.#requested -= 1;
    const isBare = message.data.length === 0 && headerBlock(message).length === 0;
    if (isBare && inbox === this.#inbox && !this.#stopping.signal.aborted) this.#move();
    if (!this.#isKnown(delivered)) this.#arrive(delivered, now);
    this.#ask();
  }

  /** Whether the message is acknowledged or being worked on, so that this delivery of it tells nothing new. */
  #isKnown(delivered: BusMessage): boolean {
    const { seq } = delivered;
    if (this.#done.has(seq)) return true;
    const atWork = this.#atWork.get(seq)?.message;
    if (atWork === undefined || atWork.answered !== undefined) return false;
    atWork.adopt(delivered);
    return true;
  }

  #arrive(delivered: BusMessage, now: number): void {
    this.#left -= 1;
    if (this.#stopped === undefined) this.#options.onArrival?.(delivered);
    const taker = this.#stopped === undefined ? this.#takers.shift() : undefined;
    if (taker === undefined) this.#hold({ message: delivered, since: now });
    else taker.resolve({ done: false, value: delivered });
  }

  /** A message that comes again while its first delivery still waits here takes that one's place. */
  #hold(held: Held): void {
    const { seq, attempt } = held.message;
    if (attempt > 1) this.#again.add(seq);
    if (attempt > 1 && this.#held.replace(({ message }) => message.seq === seq, held)) this.#left += 1;
    else this.#held.push(held);
  }

  /** What waits here of a message that is done with is void: should the broker not hear of it, it comes again. */
  #onDone(seq: number, confirmed: Promise<void>): void {
    this.#done.add(seq);
    const forget = (): void => void this.#done.delete(seq);
    confirmed.then(forget, forget);
    if (this.#again.delete(seq)) this.#drop((message) => message.seq === seq);
  }

  /** Lets go of messages that wait here; as many more may come. */
  #drop(isVoid: (message: BusMessage) => boolean): void {
    const before = this.#held.size;
    this.#held.keep(({ message }) => !isVoid(message));
    this.#left += before - this.#held.size;
  }

  #keep(message: BusMessage): () => void {
    const { seq } = message;
    const kept = { message, since: performance.now() };
    this.#atWork.set(seq, kept);
    return () => {
      if (this.#atWork.get(seq) === kept) this.#atWork.delete(seq);
      this.#restTimer();
    };
  }

  /** What the broker says instead of a message (NATS ADR-13). */
  #onStatus(message: Msg): void {
    const { headers } = message;
    if (headers === undefined || message.subject !== this.#replySubject() || headers.code === 100) return;
    const unused = headers.get('Nats-Pending-Messages');
    if (unused === '') {
      // No such consumer, consumer deleted, no leader, too many requests: all we asked for is void.
      this.#recover(pauseMs);
      return;
    }
    this.#requested = Math.max(0, this.#requested - Number(unused));
    this.#ask();
  }

  #replySubject(): string {
    return `${this.#inbox}.${this.#series}`;
  }

  #forgetRequests(): void {
    this.#series += 1;
    this.#requested = 0;
  }

  /** Asks for as many messages as there is room, if that is worth a request. */
  #ask(): void {
    if (this.#stopping.signal.aborted || this.#recovering || !this.#bus.isConnected) return;
    const room = this.#options.prefetch - this.#held.size - this.#requested;
    if (room < Math.max(1, this.#options.prefetch / 4)) return;
    const batch = Math.min(room, this.#left - this.#requested);
    if (batch < 1) return;
    if (this.#requested === 0) this.#heardAt = performance.now();
    this.#requested += batch;
    this.#bus.tell(
      this.#nextSubject,
      `{"batch":${batch},"expires":${batchExpiresMs * 1e6},"idle_heartbeat":${heartbeatMs * 1e6}}`,
      this.#replySubject(),
    );
  }

  #tick(): void {
    if (!this.#bus.isConnected) return;
    const now = performance.now();
    for (const held of this.#held) this.#keepAlive(held, now);
    for (const kept of this.#atWork.values()) this.#keepAlive(kept, now);
    if (this.#stopping.signal.aborted) return;
    if (this.#requested > 0 && now - this.#heardAt > 2.5 * heartbeatMs) this.#recover(0);
    else if (now - this.#floorReadAt > floorEveryMs) this.#readFloor();
  }

  #keepAlive(held: Held, now: number): void {
    if (now - held.since < this.ackWaitMs / 3 || held.message.answered !== undefined) return;
    held.message.working();
    held.since = now;
  }

  /** Asks how far everything is acknowledged, in case the consumer must be created anew. */
  #readFloor(): void {
    this.#floorReadAt = performance.now();
    const read = async (): Promise<void> => {
      const info = await this.#options.read().catch(() => undefined); // the next time is soon enough
      if (info !== undefined) this.#ackFloor = info.ack_floor.stream_seq;
    };
    void read(); // rejects nothing
  }

  /** Makes sure that the consumer is there, and asks anew. */
  #recover(afterMs: number): void {
    this.#forgetRequests();
    if (this.#recovering || this.#stopping.signal.aborted) return;
    this.#recovering = true;
    void this.#find(afterMs); // rejects nothing
  }

  async #find(afterMs: number): Promise<void> {
    const { signal } = this.#stopping;
    try {
      await sleep(afterMs, undefined, { signal });
      for (let wait = pauseMs; this.#bus.isConnected; wait = Math.min(2 * wait, pauseAtMostMs)) {
        if (await this.#isThere()) break;
        await sleep(wait, undefined, { signal });
      }
    } catch {
      return; // stopped while waiting
    } finally {
      this.#recovering = false;
    }
    // Disconnected again, the next connection recovers.
    this.#ask();
  }

  async #isThere(): Promise<boolean> {
    let isMissing = false;
    try {
      const found = await this.#options.read();
      isMissing = found === undefined;
      const info = found ?? (await this.#options.recreate(this.#ackFloor));
      if (found === undefined)
        this.#bus.warn(
          `consumer ${this.name} of stream ${this.stream} was lost and is created anew; some messages may come again`,
        );
      this.#ackFloor = info.ack_floor.stream_seq;
      this.#forgetBehind(info.delivered.stream_seq);
      return true;
    } catch (thrown) {
      const isRefused = thrown instanceof SwarmError && thrown.code === 'BUS_PERMISSION';
      if (isRefused && !isMissing) return true; // may not look, may read
      this.#bus.warn(
        `cannot reach consumer ${this.name} of stream ${this.stream} (${messageOf(thrown)}); trying on`,
      );
      return false;
    }
  }

  /** What the broker does not know to have handed out it hands out anew; what we have of it is void. */
  #forgetBehind(seq: number): void {
    if (seq >= this.#highestSeq) return;
    const { lease } = this.#terms;
    lease.forgottenBehind = seq;
    this.#highestSeq = seq;
    this.#terms = this.#newTerms();
    this.#drop((message) => message.isForgotten);
    giveUpForgotten(this.#bus, lease);
  }

  #newTerms(): DeliveryTerms {
    const lease: Lease = { forgottenBehind: Number.POSITIVE_INFINITY };
    return { ackWithinMs: this.ackWaitMs, lease, home: this.#home };
  }
}
