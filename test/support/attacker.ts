/**
 * Somebody with a plain NATS client: sends whatever bytes, copies what was said. And what became of it: what a log
 * holds of refused messages, one by one and in sums.
 */
import { jetstreamManager } from '@nats-io/jetstream';
import { connect, type Msg, type NatsConnection } from '@nats-io/transport-node';
import { expect, vi } from 'vitest';
import { EncodedHeaders, headerBlock } from '../../src/bus/headers.ts';
import type { SigningKey } from '../../src/identity/key.ts';
import { signFlush } from '../../src/record/flush.ts';
import type { RejectReason } from '../../src/record/kind.ts';
import type { SignedRecord } from '../../src/record/signed.ts';
import type { Place } from './agents.ts';

export type Headers = readonly (readonly [name: string, value: string])[];

/** A message as it goes over the wire. */
export interface Sent {
  readonly on: string;
  readonly data: Uint8Array;
  readonly headers: Headers | Uint8Array;
  /** Where the answer is to go. */
  readonly reply?: string;
}

/** What the stream says to it. */
export interface Answer {
  readonly stream?: string;
  readonly seq?: number;
  readonly duplicate?: boolean;
  readonly error?: { readonly err_code: number };
}

/** Returns the headers that carry `record`. */
export function envelope(record: SignedRecord, id: string = record.leaf): [string, string][] {
  const headers: [string, string][] = [
    ['Nats-Msg-Id', id],
    ['Swarm-Record', record.text],
    ['Swarm-Sig', record.signature],
  ];
  if (record.path !== undefined) headers.push(['Swarm-Path', record.path]);
  return headers;
}

/** Returns headers as they go over the wire. The client's own would take blanks away. */
export function block(headers: Headers): Buffer {
  const lines = headers.map(([name, value]) => `${name}: ${value}\r\n`);
  return Buffer.from(`NATS/1.0\r\n${lines.join('')}\r\n`);
}

/** Returns `records` as one flush of `key` signs them. */
export function ofOneFlush(records: readonly SignedRecord[], key: SigningKey): SignedRecord[] {
  const { signature, paths } = signFlush(
    records.map(({ leaf }) => leaf),
    key,
  );
  return records.map((record, index) => ({ ...record, signature, path: paths[index] }));
}

/** Returns a connection as anybody makes one, back soon when the server is. */
export function plainClient(url: string): Promise<NatsConnection> {
  return connect({ servers: url, reconnectTimeWait: 50, maxReconnectAttempts: -1 });
}

/** Sends a message, and returns what the stream says to it. */
export async function send(plain: NatsConnection, sent: Sent): Promise<Answer> {
  return (await plain.request(sent.on, sent.data, { ...headersOf(sent), timeout: 5_000 })).json<Answer>();
}

/** Sends a message and waits for nothing. */
export function throwIn(plain: NatsConnection, sent: Sent): void {
  const { on, data, reply } = sent;
  plain.publish(on, data, { ...headersOf(sent), ...(reply !== undefined && { reply }) });
}

function headersOf({ headers }: Sent): { headers?: EncodedHeaders['forClient'] } {
  if (headers.length === 0) return {};
  return { headers: new EncodedHeaders(headers instanceof Uint8Array ? headers : block(headers)).forClient };
}

/** Returns a message that was overheard, to the byte. */
export function overheard(message: Msg): Sent {
  return {
    on: message.subject,
    data: Uint8Array.from(message.data),
    headers: Uint8Array.from(headerBlock(message)),
  };
}

/** What a BUS.REJECT.SUM says. */
export interface Sum {
  readonly stream: string;
  readonly consumer: string;
  readonly refused: number;
  readonly first_seq: number;
  readonly last_seq: number;
  readonly kinds: readonly { reason: RejectReason; subject: string; count: number }[];
  readonly others: Readonly<Record<string, number>>;
}

export function sumOf({ payload }: { readonly payload?: Uint8Array | undefined }): Sum {
  return JSON.parse(Buffer.from(payload ?? '').toString('utf8')) as Sum;
}

export interface RefusedOnLog {
  readonly rejects: readonly SignedRecord[];
  readonly sums: readonly Sum[];
  /** How many messages, one by one and in sums. */
  readonly byReason: Readonly<Partial<Record<RejectReason, number>>>;
}

/** Returns what the log holds of refused messages. A sum whose numbers do not add up is an error. */
export function refusedOnLog(place: Pick<Place, 'records'>): RefusedOnLog {
  const records = place.records();
  const rejects = records.filter(({ header }) => header.kind === 'BUS.REJECT');
  const sums = records.filter(({ header }) => header.kind === 'BUS.REJECT.SUM').map(sumOf);
  const byReason: Partial<Record<string, number>> = {};
  const add = (reason: string, count: number): void => {
    byReason[reason] = (byReason[reason] ?? 0) + count;
  };
  for (const { header } of rejects) add(header.reason ?? '', 1);
  for (const { refused, kinds, others } of sums) {
    const counts = [...kinds.map(({ reason, count }) => [reason, count] as const), ...Object.entries(others)];
    for (const [reason, count] of counts) add(reason, count);
    expect(counts.reduce((total, [, count]) => total + count, 0)).toBe(refused);
  }
  return { rejects, sums, byReason };
}

/** Resolves once a durable has handed out all that there is, and heard of each that it is done with. */
export async function settled(plain: NatsConnection, durable: string): Promise<void> {
  const manager = await jetstreamManager(plain, { checkAPI: false, timeout: 500 });
  await vi.waitFor(
    async () => {
      const info = await manager.consumers.info('THREADS', durable);
      expect([info.num_pending, info.num_ack_pending]).toEqual([0, 0]);
    },
    { timeout: 100_000, interval: 50 },
  );
}
