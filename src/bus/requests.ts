/**
 * Many requests at once, each sent again until it is answered: what publishes and acknowledgements share.
 *
 * One subscription takes all replies, one timer watches all deadlines, and at most `window` requests are
 * outstanding; the rest wait in line. Nothing is sent while disconnected. A request that has no answer in
 * time is sent again, and after a reconnect everything outstanding is, in its original order: the receiver
 * must not mind repeats (the stream knows a message's id, an acknowledgement is the same twice). Each
 * request is settled exactly once.
 */
import { createInbox, type Msg, type Subscription } from '@nats-io/transport-node';
import { messageOf } from '../base/errors.ts';
import type { Bus } from './connection.ts';
import type { EncodedHeaders } from './headers.ts';
import { Queue } from './queue.ts';

/** Why a request was given up. `mayHaveArrived` is false if it certainly had no effect. */
export interface GivenUp {
  readonly why: 'expired' | 'closed' | 'not-permitted' | 'unsendable';
  readonly words: string;
  readonly mayHaveArrived: boolean;
}

/** A request with what becomes of it. The fields below the constructor belong to `Requests`. */
export abstract class Request {
  readonly subject: string;
  readonly data: Uint8Array;
  readonly headers: EncodedHeaders | undefined;

  token = 0;
  /** Times it was sent. */
  attempts = 0;
  /** How many of those nobody answered. */
  unanswered = 0;
  /** By `performance.now()`: when it is to be sent again. */
  sendAgainAt = 0;
  /** The bus's `session` in which it was last sent. */
  session = 0;

  constructor(subject: string, data: Uint8Array, headers: EncodedHeaders | undefined) {
    this.subject = subject;
    this.data = data;
    this.headers = headers;
  }

  /** Asked whenever it matters, because a clock can step: from then on it is not sent again, and given up. */
  abstract get isExpired(): boolean;

  get bytes(): number {
    return this.data.length + (this.headers?.bytes.length ?? 0);
  }

  /** Takes the reply. Returns true if that settles the request, or in how many milliseconds to send it again. */
  abstract answer(reply: Msg): true | number;
  abstract giveUp(reason: GivenUp): void;
}

export interface RequestsOptions {
  /** Requests outstanding at once. @default 1024 */
  readonly window?: number;
  /** How long to wait for an answer before sending again; doubled each time, up to four times this. @default 2000 */
  readonly answerWithinMs?: number;
}

/** Bytes outstanding at once; a single larger request goes alone. */
const windowBytes = 32 << 20;

export class Requests {
  readonly #bus: Bus;
  readonly #window: number;
  readonly #answerWithinMs: number;
  readonly #tickMs: number;
  readonly #inbox: string;
  readonly #tokenAt: number;
  readonly #stopListening: () => void;
  /** In the order of their tokens, which is the order in which they were first sent. */
  readonly #outstanding = new Map<number, Request>();
  readonly #waiting = new Queue<Request>();
  readonly #whenIdle: (() => void)[] = [];
  #subscription: Subscription | undefined;
  /** Why no reply can reach us on this connection. */
  #inboxRefused = '';
  #lastToken = 0;
  #outstandingBytes = 0;
  #timer: NodeJS.Timeout | undefined;
  #willSend = false;
  #closed = false;

  constructor(bus: Bus, options: RequestsOptions = {}) {
    const { window = 1_024, answerWithinMs = 2_000 } = options;
    this.#bus = bus;
    this.#window = window;
    this.#answerWithinMs = answerWithinMs;
    this.#tickMs = Math.max(10, Math.min(200, answerWithinMs / 4));
    this.#inbox = createInbox(bus.inboxPrefix);
    this.#tokenAt = this.#inbox.length + 1;
    this.#subscription = bus.nats.isClosed() ? undefined : this.#subscribe();
    this.#stopListening = bus.listen({
      reconnected: () => this.#sendAllAgain(),
      refused: (subject) => this.#onRefused(subject),
      closed: () => this.#shutDown('the connection was closed'),
    });
    if (this.#subscription === undefined) this.#shutDown('the connection was closed');
  }

  /** Requests not settled yet. */
  get pending(): number {
    return this.#outstanding.size + this.#waiting.size;
  }

  get outstanding(): Iterable<Request> {
    return this.#outstanding.values();
  }

  send(request: Request): void {
    if (this.#closed) {
      this.#reject(request, 'closed', 'nothing more is sent');
      return;
    }
    if (this.#inboxRefused !== '') {
      this.#reject(request, 'not-permitted', this.#inboxRefused);
      return;
    }
    this.#timer ??= setInterval(() => this.#tick(), this.#tickMs);
    this.#waiting.push(request);
    this.#sendSoon();
  }

  /** Gives up on an outstanding request that its own file has settled. */
  settle(request: Request): void {
    this.#remove(request);
    this.#sendSoon();
  }

  /** Takes nothing more, waits at most `limitMs` for what is pending, and gives up the rest. */
  async close(limitMs: number): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    if (this.pending > 0) {
      await new Promise<void>((resolve) => {
        const limit = setTimeout(resolve, limitMs);
        this.#whenIdle.push(() => {
          clearTimeout(limit);
          resolve();
        });
      });
    }
    this.#shutDown('it was closed before an answer came');
  }

  #shutDown(words: string): void {
    this.#closed = true;
    this.#stopListening();
    for (const request of this.#outstanding.values()) this.#giveUp(request, 'closed', words);
    for (const request of this.#waiting.drain()) this.#reject(request, 'closed', words);
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#tellIdle();
    if (this.#subscription?.isClosed() === false && !this.#bus.nats.isClosed())
      this.#subscription.unsubscribe();
  }

  #subscribe(): Subscription {
    return this.#bus.subscribe(
      `${this.#inbox}.*`,
      (reply) => this.#onReply(reply),
      (error) => this.#onInboxRefused(error),
    );
  }

  #onReply(reply: Msg): void {
    const request = this.#outstanding.get(Number(reply.subject.slice(this.#tokenAt)));
    if (request === undefined) return; // settled by an earlier reply
    request.unanswered -= 1;
    const outcome = request.answer(reply);
    if (outcome === true) {
      this.settle(request);
    } else {
      request.sendAgainAt = performance.now() + outcome;
    }
  }

  #hasRoomFor(request: Request): boolean {
    return (
      this.#bus.isConnected &&
      this.#outstanding.size < this.#window &&
      (this.#outstandingBytes + request.bytes <= windowBytes || this.#outstanding.size === 0)
    );
  }

  #start(request: Request): void {
    if (request.isExpired) {
      this.#reject(request, 'expired', 'its turn came too late');
      return;
    }
    this.#lastToken += 1;
    request.token = this.#lastToken;
    this.#outstanding.set(request.token, request);
    this.#outstandingBytes += request.bytes;
    this.#transmit(request, performance.now());
  }

  /** What is handed over within one turn of the event loop goes out in one write to the socket. */
  #sendSoon(): void {
    if (this.#willSend) return;
    this.#willSend = true;
    setImmediate(() => {
      this.#willSend = false;
      this.#startWaiting();
    });
  }

  #startWaiting(): void {
    for (
      let next = this.#waiting.peek();
      next !== undefined && this.#hasRoomFor(next);
      next = this.#waiting.peek()
    ) {
      this.#waiting.shift();
      this.#start(next);
    }
    this.#tellIdle();
  }

  #transmit(request: Request, now: number): void {
    const reply = `${this.#inbox}.${request.token}`;
    const { headers } = request;
    try {
      this.#bus.nats.publish(
        request.subject,
        request.data,
        headers === undefined ? { reply } : { reply, headers: headers.forClient },
      );
    } catch (thrown) {
      this.#giveUp(request, this.#bus.nats.isClosed() ? 'closed' : 'unsendable', messageOf(thrown));
      return;
    }
    request.attempts += 1;
    request.unanswered += 1;
    request.session = this.#bus.session;
    request.sendAgainAt = now + this.#answerWithinMs * Math.min(4, 2 ** (request.attempts - 1));
  }

  #sendAllAgain(): void {
    if (this.#inboxRefused !== '') {
      this.#inboxRefused = '';
      this.#subscription = this.#subscribe();
    }
    const now = performance.now();
    for (const request of this.#outstanding.values()) {
      if (!request.isExpired) this.#transmit(request, now);
    }
    this.#startWaiting();
  }

  #tick(): void {
    if (this.pending === 0) {
      clearInterval(this.#timer);
      this.#timer = undefined;
      return;
    }
    const now = performance.now();
    const mayAlsoSend = this.#bus.isConnected;
    for (const request of this.#outstanding.values()) {
      if (request.isExpired) this.#giveUp(request, 'expired', `sent ${times(request.attempts)}`);
      else if (mayAlsoSend && request.sendAgainAt <= now) this.#transmit(request, now);
    }
    this.#waiting.keep((request) => {
      if (!request.isExpired) return true;
      this.#reject(request, 'expired', mayAlsoSend ? 'its turn came too late' : 'there was no connection');
      return false;
    });
    this.#startWaiting();
  }

  /** The server refuses without saying what; it answers in order, so it means the oldest on that subject. */
  #onRefused(subject: string): void {
    for (const request of this.#outstanding.values()) {
      if (request.subject !== subject || request.session !== this.#bus.session) continue;
      request.unanswered -= 1;
      this.#giveUp(request, 'not-permitted', `the server does not permit publishing on ${subject}`);
      this.#sendSoon();
      return;
    }
  }

  #onInboxRefused(error: Error): void {
    const words = `the server does not permit subscribing to replies on ${this.#inbox}.* (${error.message}); permit it, or choose another inboxPrefix`;
    this.#inboxRefused = words;
    for (const request of this.#outstanding.values()) this.#giveUp(request, 'not-permitted', words);
    for (const request of this.#waiting.drain()) this.#reject(request, 'not-permitted', words);
    this.#tellIdle();
  }

  #giveUp(request: Request, why: GivenUp['why'], words: string): void {
    this.#remove(request);
    this.#reject(request, why, words);
  }

  #reject(request: Request, why: GivenUp['why'], words: string): void {
    request.giveUp({ why, words, mayHaveArrived: request.unanswered > 0 });
  }

  #remove(request: Request): void {
    if (this.#outstanding.delete(request.token)) this.#outstandingBytes -= request.bytes;
  }

  #tellIdle(): void {
    if (this.#whenIdle.length > 0 && this.pending === 0)
      for (const resolve of this.#whenIdle.splice(0)) resolve();
  }
}

function times(count: number): string {
  return count === 1 ? 'once' : `${count} times`;
}
