/**
 * Messages that must not reach a handler, sent by a plain NATS client to a real server, each with the reason that its
 * BUS.REJECT must give (docs/format.md, section 5).
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { connect, type NatsConnection, headers as natsHeaders } from '@nats-io/transport-node';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Swarm } from '../../src/agent/swarm.ts';
import { SigningKey } from '../../src/identity/key.ts';
import type { Draft } from '../../src/record/draft.ts';
import type { RejectReason } from '../../src/record/kind.ts';
import { signRecord } from '../../src/record/sign.ts';
import type { SignedRecord } from '../../src/record/signed.ts';
import type { NatsServer } from '../../src/server/nats-server.ts';
import { agentsIn, type Place } from '../support/agents.ts';
import { temporaryFolder } from '../support/log.ts';
import { testServer } from '../support/nats.ts';

let server: NatsServer;
let plain: NatsConnection;
let place: Place;
let listener: Swarm;
let threads = 0;
let subject: string;

beforeAll(async () => {
  server = await testServer();
  plain = await connect({ servers: server.url });
  return async () => {
    await plain.close();
    await server.stop();
  };
});

beforeEach(async () => {
  threads += 1;
  subject = `thread.t${threads}.planner`;
  place = await agentsIn(temporaryFolder(), server.url, ['planner', 'listener', 'revoked']);
  listener = await place.join('listener');
});

afterEach(() => listener.close());

const payload = Buffer.from('{"hello":"world"}');

/** Signs a message as `planner` does, except for what is said otherwise. */
function signed(
  change: Partial<Draft> = {},
  options: { key?: SigningKey; tsNs?: bigint; swarm?: string } = {},
): SignedRecord {
  const { key = keyOf('planner'), ...at } = options;
  return signRecord({ subject, kind: 'BUS.PUBLISH', payload, ...change }, key, at);
}

function keyOf(name: string): SigningKey {
  const key = place.keys[name];
  if (key === undefined) throw new Error(`no agent ${name}`);
  return key;
}

interface Sent {
  readonly on?: string;
  readonly data?: Uint8Array;
  readonly headers: readonly (readonly [name: string, value: string])[];
}

/** The headers that carry `record`. */
function envelope(record: SignedRecord, id: string = record.leaf): [string, string][] {
  const headers: [string, string][] = [
    ['Nats-Msg-Id', id],
    ['Swarm-Record', record.text],
    ['Swarm-Sig', record.signature],
  ];
  if (record.path !== undefined) headers.push(['Swarm-Path', record.path]);
  return headers;
}

async function send({ on = subject, data = payload, headers }: Sent): Promise<void> {
  const sent = natsHeaders();
  for (const [name, value] of headers) sent.append(name, value);
  const reply = await plain.request(on, data, { headers: sent, timeout: 5_000 });
  expect(reply.json()).toMatchObject({ stream: 'THREADS' });
}

const seconds = 1_000_000_000n;
const now = (): bigint => BigInt(Date.now()) * 1_000_000n;

const attacks: Record<string, { send: () => Sent; reason: RejectReason }> = {
  'without headers': { send: () => ({ headers: [] }), reason: 'unsigned' },
  'without a signature': {
    send: () => ({ headers: envelope(signed()).filter(([name]) => name !== 'Swarm-Sig') }),
    reason: 'unsigned',
  },
  'on a subject outside the grammar': {
    send: () => ({ on: `${subject}.a%b`, headers: envelope(signed()) }),
    reason: 'bad-subject',
  },
  'with a record that is no record': {
    send: () => ({
      headers: [
        ['Nats-Msg-Id', 'x'],
        ['Swarm-Record', '{}'],
        ['Swarm-Sig', signed().signature],
      ],
    }),
    reason: 'malformed',
  },
  'with a record of another kind': {
    send: () => ({ headers: envelope(signed({ kind: 'TOOL.CALL' })) }),
    reason: 'malformed',
  },
  'with the id of another': {
    send: () => ({ headers: envelope(signed(), '0'.repeat(64)) }),
    reason: 'malformed',
  },
  'with an id that only looks the same': {
    send: () => ({ headers: [...envelope(signed(), `${'0'.repeat(63)}1`)] }),
    reason: 'malformed',
  },
  'with a Swarm header twice': {
    send: () => ({ headers: [...envelope(signed()), ['Swarm-Sig', signed().signature]] }),
    reason: 'malformed',
  },
  'with the signature of another record': {
    send: () => ({ headers: envelope({ ...signed(), signature: signed().signature }) }),
    reason: 'bad-signature',
  },
  'by a key that is not in the keyring': {
    send: () => ({ headers: envelope(signed({}, { key: SigningKey.generate() })) }),
    reason: 'unknown-key',
  },
  'said in another swarm': {
    send: () => ({ headers: envelope(signed({}, { swarm: 'staging' })) }),
    reason: 'other-swarm',
  },
  'by a known key where it may not publish': {
    send: () => ({ headers: envelope(signed({}, { key: keyOf('listener') })) }),
    reason: 'not-permitted',
  },
  'with a stolen header, on another subject': {
    send: () => ({ on: `${subject}.elsewhere`, headers: envelope(signed()) }),
    reason: 'subject-mismatch',
  },
  'with a stolen header and another payload': {
    send: () => ({ data: Buffer.from('{"hello":"mars"}'), headers: envelope(signed()) }),
    reason: 'payload-mismatch',
  },
  'copied after half the duplicate window': {
    send: () => ({ headers: envelope(signed({}, { tsNs: now() - 16n * seconds })) }),
    reason: 'stale',
  },
  'dated ahead': {
    send: () => ({ headers: envelope(signed({}, { tsNs: now() + 16n * seconds })) }),
    reason: 'stale',
  },
};

describe('a message', () => {
  test.each(Object.entries(attacks))(
    '%s never reaches a handler, and leaves its reason',
    async (_, attack) => {
      const handled: unknown[] = [];
      await listener.handle(`thread.t${threads}.>`, { durable: `d-${threads}` }, ({ payload }) => {
        handled.push(payload);
      });
      await send(attack.send());
      await send({
        headers: envelope(signed({ payload: Buffer.from('"honest"') })),
        data: Buffer.from('"honest"'),
      });
      while (handled.length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
      expect(handled).toEqual(['honest']);
      const refusals = place.records().filter(({ header }) => header.kind === 'BUS.REJECT');
      expect(refusals.map(({ header }) => header.reason)).toEqual([attack.reason]);
      expect(refusals[0]?.header.delivery).toMatchObject({
        stream: 'THREADS',
        consumer: `d-${threads}`,
        attempt: 1,
      });
      expect(await place.verify()).toMatchObject({ bad: 0, verified: 2 });
    },
  );

  test('under a revoked key is refused', async () => {
    await listener.close();
    const keyring = JSON.parse(readFileSync(place.keyring, 'utf8'));
    keyring.agents.find(({ name }: { name: string }) => name === 'revoked').keys[0].revoked = {
      leaf: 'a'.repeat(64),
    };
    writeFileSync(place.keyring, JSON.stringify(keyring));
    listener = await place.join('listener');
    subject = subject.replace('planner', 'revoked');
    await send({ headers: envelope(signed({}, { key: keyOf('revoked') })) });
    const subscription = listener.subscribe(`thread.t${threads}.>`, { durable: `d-${threads}` });
    await send({ on: subject, headers: envelope(signed({ subject }, { key: keyOf('planner') })) });
    await Promise.race([subscription.next(), new Promise((resolve) => setTimeout(resolve, 500))]);
    const reasons = place.records().map(({ header }) => header.reason);
    expect(reasons).toEqual(['revoked-key', 'not-permitted']);
  });

  test('of a refusal over 4 KiB is withheld from the log, and its hash stays', async () => {
    const large = Buffer.from(JSON.stringify('x'.repeat(5_000)));
    await send({ headers: [], data: large });
    const subscription = listener.subscribe(`thread.t${threads}.>`, { durable: `d-${threads}` });
    await Promise.race([subscription.next(), new Promise((resolve) => setTimeout(resolve, 500))]);
    const [refusal] = place.records();
    expect(refusal).toMatchObject({ payload: undefined, header: { kind: 'BUS.REJECT', reason: 'unsigned' } });
    expect(await place.verify()).toMatchObject({ verified: 1, bad: 0, counted: { withheld: 1 } });
  });

  test('copied within the duplicate window is dropped by the broker, and heard once', async () => {
    const record = signed();
    await send({ headers: envelope(record) });
    await send({ headers: envelope(record) });
    const subscription = listener.subscribe(`thread.t${threads}.>`, { durable: `d-${threads}` });
    await (await subscription.next())?.ack();
    const second = await Promise.race([
      subscription.next(),
      new Promise((resolve) => setTimeout(resolve, 300, 'none')),
    ]);
    expect(second).toBe('none');
  });
});
