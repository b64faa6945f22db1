/**
 * The connection to the broker.
 *
 * The first connection succeeds or fails at once, with one error that says what to do. After that the
 * connection mends itself for ever, whatever the reason it broke, and says so on `busStatus`. While it is
 * down nothing may be sent: the client drops a publish without a word. So whoever sends asks `isConnected`,
 * is told of every change, and sends again (`requests.ts`).
 *
 * `session` counts connections: what was sent on an earlier one can no longer be answered on this one.
 */
import { type JetStreamManager, jetstreamManager } from '@nats-io/jetstream';
import {
  connect,
  type Msg,
  type NatsConnection,
  type NodeConnectionOptions,
  PermissionViolationError,
  type Status,
  type Subscription,
} from '@nats-io/transport-node';
import { messageOf, SwarmError } from '../base/errors.ts';
import { busStatus } from '../base/events.ts';
import { parseAddress } from './address.ts';
import { credentialsOf, type NkeyLogin, type TlsFiles, tlsOf } from './credentials.ts';
import { type Patience, throughElection } from './election.ts';
import { connectFailure } from './failure.ts';
import { awaitGreeting } from './greeting.ts';
import { requireJetStream, requireVersion } from './requirements.ts';

export interface BusOptions {
  /** As the nats CLI reads NATS_URL; several with commas. @default nats://127.0.0.1:4222 */
  readonly url?: string;
  /** Path of a credentials file (JWT and NKey seed). Read again for every reconnect. */
  readonly credentials?: string;
  /** Our own key, for a server that asks to be shown one; a credentials file or a login in the url goes before. */
  readonly nkey?: NkeyLogin;
  /** What the server calls this client in its monitoring. @default can-swarm */
  readonly name?: string;
  /** Files for TLS; with none of them, the system's roots, and TLS wherever the server offers it. */
  readonly tls?: TlsFiles;
  /** Where replies come to; the account must let us subscribe below it. @default that of `nkey` if it counts, else _INBOX */
  readonly inboxPrefix?: string;
  /** How long the first connection may take, for each server. @default 5000 */
  readonly connectTimeoutMs?: number;
  /** The pause before another attempt to reconnect, and as much again at random. @default 500 */
  readonly reconnectWaitMs?: number;
  /** A server that leaves two pings of this distance unanswered is given up. @default 10000 */
  readonly pingIntervalMs?: number;
  /** How long a cluster may be without a leader when something is opened. @default 20000 */
  readonly leaderWithinMs?: number;
}

/** How long the broker may take over a request about streams or consumers. */
const administeredWithinMs = 5_000;

/** What the other files of this folder are told. Listeners must not throw. */
export interface BusListener {
  disconnected?(): void;
  reconnected?(): void;
  /** The server did not permit this client to publish on `subject`; no reply will say so. */
  refused?(subject: string): void;
  closed?(): void;
}

/** Connects, and returns the bus; throws `USAGE`, `BUS_UNREACHABLE`, `BUS_AUTH`, `BUS_CREDENTIALS`, `BUS_TLS`, `BUS_TOO_OLD` or `BUS_NO_JETSTREAM`. */
export async function connectBus(options: BusOptions = {}): Promise<Bus> {
  const { connectTimeoutMs = 5_000, reconnectWaitMs = 500 } = options;
  const address = parseAddress(options.url ?? 'nats://127.0.0.1:4222');
  const login = await credentialsOf(address, options);
  const inboxPrefix = options.inboxPrefix ?? login.inboxPrefix ?? '_INBOX';
  const settings: NodeConnectionOptions = {
    servers: [...address.servers],
    name: options.name ?? 'can-swarm',
    timeout: connectTimeoutMs,
    maxReconnectAttempts: -1,
    ignoreAuthErrorAbort: true,
    reconnectTimeWait: reconnectWaitMs,
    reconnectJitter: reconnectWaitMs,
    reconnectJitterTLS: reconnectWaitMs,
    pingInterval: options.pingIntervalMs ?? 10_000,
    maxPingOut: 2,
    inboxPrefix,
  };
  if (login.authenticator !== undefined) settings.authenticator = login.authenticator;
  if (options.tls !== undefined || address.tls) settings.tls = await tlsOf(options.tls ?? {});

  let connection: NatsConnection;
  try {
    await awaitGreeting(address.servers, connectTimeoutMs);
    connection = await connect(settings);
  } catch (thrown) {
    throw connectFailure(thrown, {
      shown: address.shown,
      loginWords: login.words,
      ...(login.wayOut !== undefined && { wayOut: login.wayOut }),
      timeoutMs: connectTimeoutMs,
    });
  }
  try {
    requireVersion(connection.info?.version ?? '0', address.shown);
    const manager = await jetstreamManager(connection, { checkAPI: false, timeout: administeredWithinMs });
    const patience: Patience = {
      leaderWithinMs: connection.info?.cluster === undefined ? 0 : (options.leaderWithinMs ?? 20_000),
      onWaiting: (detail) => busStatus.publish({ status: 'warning', detail }),
    };
    await throughElection(patience, () => requireJetStream(manager, address.shown));
    return new Bus(connection, manager, { address: address.shown, inboxPrefix, patience });
  } catch (thrown) {
    await connection.close();
    throw thrown;
  }
}

const saidAtMost = 100;

/** A connection to the broker. Closed by `close` or at the end of an `await using` block. */
export class Bus implements AsyncDisposable {
  /** For the files of this folder: the client, and its administration of streams and consumers. */
  readonly nats: NatsConnection;
  readonly manager: JetStreamManager;
  /** The addresses as given, without login. */
  readonly address: string;
  /** Where replies come to. */
  readonly inboxPrefix: string;
  /** With a cluster that elects, when something is opened. */
  readonly patience: Patience;
  /** Resolves when the connection is closed for good, with the error if that was not asked for. */
  readonly closed: Promise<Error | undefined>;
  readonly #watching: Promise<void>;
  readonly #listeners = new Set<BusListener>();
  #isConnected = true;
  #isClosed = false;
  #session = 1;
  #maxPayload: number;
  #serverName: string;
  readonly #said = new Set<string>();

  constructor(
    nats: NatsConnection,
    manager: JetStreamManager,
    names: { readonly address: string; readonly inboxPrefix: string; readonly patience: Patience },
  ) {
    this.nats = nats;
    this.manager = manager;
    this.address = names.address;
    this.inboxPrefix = names.inboxPrefix;
    this.patience = names.patience;
    this.#maxPayload = nats.info?.max_payload ?? 1_048_576;
    this.#serverName = nats.info?.server_name ?? '';
    this.#watching = this.#watch(nats.status());
    this.closed = nats.closed().then(async (error) => {
      await this.#watching;
      this.#isConnected = false;
      this.#isClosed = true;
      for (const listener of this.#listeners) listener.closed?.();
      return error instanceof Error ? error : undefined;
    });
    busStatus.publish({ status: 'connected', detail: `connected to ${this.address} (${this.#serverName})` });
  }

  get isConnected(): boolean {
    return this.#isConnected;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** 1 for the first connection, one more for each that followed. */
  get session(): number {
    return this.#session;
  }

  /** The most bytes of headers and payload together that the server takes in one message. */
  get maxPayload(): number {
    return this.#maxPayload;
  }

  get serverVersion(): string {
    return this.nats.info?.version ?? 'unknown';
  }

  /** Tells one server from all others, in its monitoring too. */
  get serverId(): string {
    return this.nats.info?.server_id ?? '';
  }

  get serverName(): string {
    return this.#serverName;
  }

  /** Tells `listener` of every change until the returned function is called. */
  listen(listener: BusListener): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Resolves once it is connected, or closed for good, or `signal` says that nobody waits any more. */
  online(signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (this.#isConnected || this.#isClosed || signal?.aborted === true) return resolve();
      const done = (): void => {
        stop();
        signal?.removeEventListener('abort', done);
        resolve();
      };
      const stop = this.listen({ reconnected: done, closed: done });
      signal?.addEventListener('abort', done);
    });
  }

  /**
   * Subscribes, also after every reconnect, until the server refuses. What a callback throws becomes a warning: it
   * would end the client's reading from the socket, silently.
   */
  subscribe(
    subject: string,
    onMessage: (message: Msg) => void,
    onRefused: (error: Error) => void,
  ): Subscription {
    return this.nats.subscribe(subject, {
      callback: (error, message) => {
        try {
          if (error === null) onMessage(message);
          else onRefused(error);
        } catch (thrown) {
          this.warn(`a message on ${subject} cannot be read: ${messageOf(thrown)}`);
        }
      },
    });
  }

  /** Publishes what nobody confirms; while disconnected it is lost. */
  tell(subject: string, data: Uint8Array | string, reply?: string): void {
    if (!this.#isConnected || this.nats.isClosed()) return;
    this.nats.publish(subject, data, reply === undefined ? {} : { reply });
  }

  /** Says something that a person should know, once for each connection. */
  warn(detail: string): void {
    if (this.#said.has(detail)) return;
    if (this.#said.size >= saidAtMost) this.#said.clear();
    this.#said.add(detail);
    busStatus.publish({ status: 'warning', detail });
  }

  /** Returns the milliseconds of a round trip to the server; throws `BUS_UNREACHABLE` while disconnected. */
  async roundTripMs(): Promise<number> {
    try {
      return await this.nats.rtt();
    } catch (cause) {
      throw new SwarmError('BUS_UNREACHABLE', `not connected to ${this.address}: ${messageOf(cause)}`, {
        cause,
      });
    }
  }

  /** Sends what is still in memory, for at most a second, and closes. What awaits a reply is told `BUS_CLOSED`. */
  async close(): Promise<void> {
    if (this.#isConnected && !this.nats.isClosed()) {
      await new Promise(setImmediate); // what was handed over in this turn goes out at its end
      await within(1_000, this.nats.flush());
    }
    this.#isConnected = false;
    await this.nats.close();
    discardSocket(this.nats);
    await this.closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Ends when the connection is closed. The client repeats itself: only a change of state is told. */
  async #watch(changes: AsyncIterable<Status>): Promise<void> {
    for await (const change of changes) {
      switch (change.type) {
        case 'disconnect':
          if (this.#isConnected) this.#onDisconnected(change.server);
          break;
        case 'reconnect':
          if (!this.#isConnected) this.#onReconnected(change.server);
          break;
        case 'error':
          this.#onError(change.error);
          break;
        case 'ldm':
          this.warn(`${change.server} is going to shut down`);
          break;
        case 'staleConnection':
          this.warn(`${this.address} does not answer any more`);
          break;
        default:
      }
    }
  }

  #onDisconnected(server: string): void {
    this.#isConnected = false;
    this.#said.clear();
    busStatus.publish({ status: 'disconnected', detail: `lost nats://${server}` });
    for (const listener of this.#listeners) listener.disconnected?.();
  }

  #onReconnected(server: string): void {
    const { info } = this.nats;
    this.#isConnected = true;
    this.#session += 1;
    this.#said.clear();
    this.#maxPayload = info?.max_payload ?? this.#maxPayload;
    this.#serverName = info?.server_name ?? this.#serverName;
    busStatus.publish({
      status: 'reconnected',
      detail: `connected again to nats://${server} (${this.#serverName})`,
    });
    for (const listener of this.#listeners) listener.reconnected?.();
  }

  #onError(error: Error): void {
    const refused =
      error instanceof PermissionViolationError && error.operation === 'publish' ? error.subject : undefined;
    if (refused === undefined || !isRequest(refused)) this.warn(`${this.address} says: ${error.message}`);
    if (refused === undefined) return;
    for (const listener of this.#listeners) listener.refused?.(refused);
  }
}

/** Reports whether what is sent on `subject` is a request to JetStream, which fails with the same error by itself. */
function isRequest(subject: string): boolean {
  return subject.startsWith('$JS.API.') && !subject.startsWith('$JS.API.CONSUMER.MSG.NEXT.');
}

/** Waits for `work`, whatever comes of it, at most `ms`. */
async function within(ms: number, work: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([work.catch(() => undefined), limit]);
  clearTimeout(timer);
}

/** Closed in the middle of a reconnect, the client leaves its socket open, and the process cannot end. */
function discardSocket(nats: NatsConnection): void {
  const { protocol } = nats as unknown as { protocol?: { transport?: { discard?: () => void } } };
  protocol?.transport?.discard?.();
}
