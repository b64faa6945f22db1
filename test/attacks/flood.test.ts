/**
 * Messages by the ten thousand that nobody may hear, all at speed: each is on the log or in a sum of its reason, memory
 * and the log stay small, and honest messages are handled meanwhile.
 */
import { statSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { NatsConnection } from '@nats-io/transport-node';
import { expect, test, vi } from 'vitest';
import { messageRefused, refusalsCounted } from '../../src/base/events.ts';
import { SigningKey } from '../../src/identity/key.ts';
import type { RejectReason } from '../../src/record/kind.ts';
import { signRecord } from '../../src/record/sign.ts';
import type { SignedRecord } from '../../src/record/signed.ts';
import { agentsIn, type Place } from '../support/agents.ts';
import { envelope, plainClient, refusedOnLog, type Sent, settled, throwIn } from '../support/attacker.ts';
import { temporaryFolder } from '../support/log.ts';
import { testServer } from '../support/nats.ts';

const data = Buffer.from(JSON.stringify('x'.repeat(500)));
const stranger = SigningKey.generate();

function signed(subject: string, key: SigningKey, tsNs?: bigint): SignedRecord {
  return signRecord({ subject, kind: 'BUS.PUBLISH', payload: data }, key, tsNs === undefined ? {} : { tsNs });
}

function keyOf(place: Place, name: string): SigningKey {
  const key = place.keys[name];
  if (key === undefined) throw new Error(`no agent ${name}`);
  return key;
}

type Kind = (on: string, place: Place) => Pick<Sent, 'headers'> & Partial<Sent>;

/** One message of each reason that somebody without a key of the planner's can be refused for. */
const kinds: Readonly<Partial<Record<RejectReason, Kind>>> = {
  'bad-subject': (on) => ({ on: `${on}.%`, headers: envelope(signed(on, stranger)) }),
  unsigned: () => ({ headers: [] }),
  malformed: (on) => ({ headers: envelope(signed(on, stranger), `no leaf ${Math.random()}`) }),
  'bad-signature': (on, place) => {
    const { signature } = signed(on, stranger);
    return { headers: envelope({ ...signed(on, keyOf(place, 'planner')), signature }) };
  },
  'unknown-key': (on) => ({ headers: envelope(signed(on, stranger)) }),
  'not-permitted': (on, place) => ({ headers: envelope(signed(on, keyOf(place, 'other'))) }),
  'subject-mismatch': (on, place) => ({
    headers: envelope(signed(on.replace('planner', 'other'), keyOf(place, 'other'))),
  }),
  'payload-mismatch': (on, place) => ({
    on: on.replace('planner', 'other'),
    data: Buffer.from('1'),
    headers: envelope(signed(on.replace('planner', 'other'), keyOf(place, 'other'))),
  }),
  stale: (on, place) => ({
    on: on.replace('planner', 'other'),
    headers: envelope(signed(on.replace('planner', 'other'), keyOf(place, 'other'), 0n)),
  }),
};
const reasons = Object.keys(kinds) as RejectReason[];

const floods: Readonly<
  Record<string, (n: number) => { readonly reason: RejectReason; readonly on: string }>
> = {
  'malformed messages, on 500 subjects,': (n) => ({
    reason: 'malformed',
    on: `thread.t${n % 500}.planner`,
  }),
  'messages of every sort': (n) => ({
    reason: reasons[n % reasons.length] ?? 'unsigned',
    on: `thread.t${n % 40}.planner`,
  }),
};

/** Sends `count` messages at speed, and returns how many there are of each reason. */
async function flood(
  plain: NatsConnection,
  place: Place,
  count: number,
  sort: (n: number) => { readonly reason: RejectReason; readonly on: string },
): Promise<Partial<Record<RejectReason, number>>> {
  const sent: Partial<Record<RejectReason, number>> = {};
  for (let n = 0; n < count; n += 1) {
    const { reason, on } = sort(n);
    throwIn(plain, { on, data, headers: [], ...kinds[reason]?.(on, place) });
    sent[reason] = (sent[reason] ?? 0) + 1;
    if (n % 250 === 0) await plain.flush(); // the client keeps what is not sent in memory, which is ours here
  }
  return sent;
}

function heapInUse(): number {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
  return process.memoryUsage().heapUsed + process.memoryUsage().external;
}

test.each(Object.entries(floods))(
  '10,000 %s at speed are on the log or in its sums, and honest ones are handled meanwhile',
  async (_, sort) => {
    await using server = await testServer();
    const place = await agentsIn(temporaryFolder(), server.url, ['planner', 'other', 'listener']);
    const plain = await plainClient(server.url);
    await using listener = await place.join('listener');
    await using planner = await place.join('planner');
    const handled: unknown[] = [];
    await listener.handle('thread.>', { durable: 'listener' }, ({ payload }) => void handled.push(payload));
    const told = { refused: 0, counted: 0 };
    const stops = [
      messageRefused.subscribe(() => {
        told.refused += 1;
      }),
      refusalsCounted.subscribe(({ refused }) => {
        told.counted += refused;
      }),
    ];
    const subject = 'thread.honest.planner';
    await planner.publish(subject, 'before');
    const first = await flood(plain, place, 2_000, sort);
    await settled(plain, 'listener');
    const [size, heap] = [statSync(place.log).size, heapInUse()];

    const flooding = flood(plain, place, 10_000, sort);
    for (let n = 0; n < 20; n += 1) await planner.publish(subject, n);
    const then = await flooding;
    await vi.waitFor(() => expect(handled).toHaveLength(21), 100_000);
    await settled(plain, 'listener');
    const grownBy = statSync(place.log).size - size;
    // What the last messages took is given back in a moment, in more than one round of the collector.
    await vi.waitFor(() => expect(heapInUse() - heap).toBeLessThan(20 << 20), 60_000);
    for (const stop of stops) stop();
    await plain.close();

    expect(handled).toEqual(['before', ...Array.from({ length: 20 }, (_, n) => n)]);
    const { rejects, sums, byReason } = refusedOnLog(place);
    const sent = Object.fromEntries(
      Object.keys(first).map((reason) => [
        reason,
        (first[reason as RejectReason] ?? 0) + (then[reason as RejectReason] ?? 0),
      ]),
    );
    expect(byReason).toEqual(sent);
    expect(rejects.length).toBeLessThan(70 * Object.keys(sent).length);
    const summed = sums.reduce((total, { refused }) => total + refused, 0);
    expect([rejects.length + summed, told]).toEqual([12_000, { refused: rejects.length, counted: summed }]);
    expect(grownBy).toBeLessThan(1.5 * 2 ** 20); // one by one they would take 20 MB
    expect(await place.verify()).toMatchObject({ bad: 0 });
  },
  200_000,
);
