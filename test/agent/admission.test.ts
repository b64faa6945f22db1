/**
 * Messages that must not reach a handler, sent by a plain NATS client to a real server, each with the reason that its
 * BUS.REJECT must give (docs/format.md, section 5).
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { jetstreamManager } from '@nats-io/jetstream';
import { connect, type NatsConnection } from '@nats-io/transport-node';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type Admission, admit, type Incoming, type Receiver } from '../../src/agent/admission.ts';
import type { Swarm } from '../../src/agent/swarm.ts';
import { EncodedHeaders, ReceivedHeaders } from '../../src/bus/headers.ts';
import { SigningKey } from '../../src/identity/key.ts';
import { Keyring } from '../../src/identity/keyring.ts';
import type { Draft } from '../../src/record/draft.ts';
import { signFlush } from '../../src/record/flush.ts';
import { type RejectReason, rejectReasons } from '../../src/record/kind.ts';
import { receivedHash } from '../../src/record/received.ts';
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

/** The headers as they go over the wire. The client's own would take blanks away. */
function block(headers: Sent['headers']): Buffer {
  const lines = headers.map(([name, value]) => `${name}: ${value}\r\n`);
  return Buffer.from(`NATS/1.0\r\n${lines.join('')}\r\n`);
}

/** Sends a message and returns whether the broker says that it has it already. */
async function send({ on = subject, data = payload, headers }: Sent): Promise<boolean> {
  const options = headers.length === 0 ? {} : { headers: new EncodedHeaders(block(headers)).forClient };
  const ack = (await plain.request(on, data, { ...options, timeout: 5_000 })).json<{ duplicate?: boolean }>();
  expect(ack).toMatchObject({ stream: 'THREADS' });
  return ack.duplicate === true;
}

/** Returns the first of two records that share a flush. */
function ofFlush(text: string): SignedRecord {
  const records = [0, 1].map((n) => signed({ payload: Buffer.from(JSON.stringify(`${text}${n}`)) }));
  const { signature, paths } = signFlush(
    records.map(({ leaf }) => leaf),
    keyOf('planner'),
  );
  const [record] = records;
  if (record === undefined) throw new Error('no record');
  return { ...record, signature, path: paths[0] };
}

const seconds = 1_000_000_000n;
const now = (): bigint => BigInt(Date.now()) * 1_000_000n;

/** `claims`: the Swarm headers have their shape, so the REJECT keeps them and names the record. */
const attacks: Record<string, { send: () => Sent; reason: RejectReason; claims?: false }> = {
  'without headers': { send: () => ({ headers: [] }), reason: 'unsigned', claims: false },
  'without a signature': {
    send: () => ({ headers: envelope(signed()).filter(([name]) => name !== 'Swarm-Sig') }),
    reason: 'unsigned',
    claims: false,
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
    claims: false,
  },
  'with a record of another kind': {
    send: () => ({ headers: envelope(signed({ kind: 'TOOL.CALL' })) }),
    reason: 'malformed',
    claims: false,
  },
  'with the id of another': {
    send: () => ({ headers: envelope(signed(), '0'.repeat(64)) }),
    reason: 'malformed',
  },
  'with an id that only looks the same: a blank follows it': {
    send: () => {
      const record = signed();
      return { headers: envelope(record, `${record.leaf} `) };
    },
    reason: 'malformed',
  },
  'without an id': {
    send: () => ({ headers: envelope(signed()).filter(([name]) => name !== 'Nats-Msg-Id') }),
    reason: 'malformed',
  },
  'with its id twice': {
    send: () => {
      const record = signed();
      return { headers: [...envelope(record), ['Nats-Msg-Id', record.leaf]] };
    },
    reason: 'malformed',
  },
  'with its record twice': {
    send: () => {
      const record = signed();
      return { headers: [...envelope(record), ['Swarm-Record', record.text]] };
    },
    reason: 'malformed',
  },
  'with a signature twice': {
    send: () => ({ headers: [...envelope(signed()), ['Swarm-Sig', signed().signature]] }),
    reason: 'malformed',
  },
  'with its path twice': {
    send: () => {
      const record = ofFlush('a');
      return { data: Buffer.from('"a0"'), headers: [...envelope(record), ['Swarm-Path', record.path ?? '']] };
    },
    reason: 'malformed',
  },
  'without its path': {
    send: () => ({
      data: Buffer.from('"a0"'),
      headers: envelope(ofFlush('a')).filter(([name]) => name !== 'Swarm-Path'),
    }),
    reason: 'bad-signature',
  },
  'with the path of another flush': {
    send: () => ({
      data: Buffer.from('"a0"'),
      headers: envelope({ ...ofFlush('a'), path: ofFlush('b').path }),
    }),
    reason: 'bad-signature',
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
      const sent = attack.send();
      await send(sent);
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
      const { header, received } = refusals[0] ?? {};
      if (attack.claims === false) {
        expect([received, header?.cause, header?.meta]).toEqual([undefined, undefined, undefined]);
      } else {
        const [text] = new ReceivedHeaders(block(sent.headers)).values('Swarm-Record');
        expect(received?.text).toBe(text);
        expect(header?.cause).toBe(received?.leaf);
        expect(header?.meta).toEqual({ received: received && receivedHash(received) });
      }
      expect(await place.verify()).toMatchObject({ bad: 0, verified: 2 });
    },
  );

  test('of a flush of several, with its path, is let in', async () => {
    await send({ data: Buffer.from('"a0"'), headers: envelope(ofFlush('a')) });
    const message = await listener.subscribe(`thread.t${threads}.>`, { durable: `d-${threads}` }).next();
    expect(message?.payload).toBe('a0');
    await message?.ack();
  });

  test.each([
    ['without a swarm is refused by a receiver that is in one', 'production', undefined],
    ['of a swarm is refused by a receiver that is in none', undefined, 'production'],
    ['of another swarm is refused', 'production', 'staging'],
  ])('%s', async (_, ours, theirs) => {
    await listener.close();
    listener = await place.join('listener', ours === undefined ? {} : { swarm: ours });
    await send({ headers: envelope(signed({}, theirs === undefined ? {} : { swarm: theirs })) });
    const right = Buffer.from('"right"');
    const record = signed({ payload: right }, ours === undefined ? {} : { swarm: ours });
    await send({ data: right, headers: envelope(record) });
    const message = await listener.subscribe(`thread.t${threads}.>`, { durable: `d-${threads}` }).next();
    expect(message?.payload).toBe('right');
    await message?.ack();
    expect(place.records().map(({ header }) => header.reason)).toEqual(['other-swarm', undefined]);
  });

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

  test('whose copy carries its id with a blank behind it is heard once, though the broker keeps both', async () => {
    const record = signed();
    expect(await send({ headers: envelope(record) })).toBe(false);
    expect(await send({ headers: envelope(record, `${record.leaf} `) })).toBe(false);
    const subscription = listener.subscribe(`thread.t${threads}.>`, { durable: `d-${threads}` });
    await (await subscription.next())?.ack();
    await Promise.race([subscription.next(), new Promise((resolve) => setTimeout(resolve, 300))]);
    const kinds = place.records().map(({ header }) => [header.kind, header.reason]);
    expect(kinds).toEqual([
      ['BUS.DELIVER', undefined],
      ['BUS.REJECT', 'malformed'],
    ]);
  });

  test('copied byte for byte after the duplicate window is kept by the broker, and heard once', async () => {
    await using own = await testServer();
    const there = await agentsIn(temporaryFolder(), own.url, ['planner', 'listener']);
    const duplicateWindowMs = 2_000;
    await using planner = await there.join('planner', { duplicateWindowMs });
    await using hearing = await there.join('listener', { duplicateWindowMs });
    const heard: unknown[] = [];
    await hearing.handle('thread.>', { durable: 'd' }, ({ payload: said }) => void heard.push(said));
    const thief = await connect({ servers: own.url });
    let stolen: { data: Uint8Array; headers: Sent['headers'] } | undefined;
    thief.subscribe('thread.>', {
      max: 1,
      callback: (_, message) => {
        const headers = message.headers?.keys() ?? [];
        stolen = {
          data: message.data,
          headers: headers.map((name) => [name, message.headers?.get(name) ?? '']),
        };
      },
    });
    await thief.flush();
    await planner.publish('thread.t.planner', 'once');
    await new Promise((resolve) => setTimeout(resolve, 3_000));
    const copy = { headers: new EncodedHeaders(block(stolen?.headers ?? [])).forClient, timeout: 5_000 };
    const ack = (await thief.request('thread.t.planner', stolen?.data ?? '', copy)).json();
    expect(ack).toEqual({ stream: 'THREADS', seq: 2 });
    const kept = await (await jetstreamManager(thief)).streams.info('THREADS');
    expect(kept.state.messages).toBe(2);
    await thief.close();
    const refusals = (): (string | undefined)[] =>
      there
        .records()
        .filter(({ header }) => header.kind === 'BUS.REJECT')
        .map(({ header }) => header.reason);
    while (refusals().length === 0) await new Promise((resolve) => setTimeout(resolve, 20));
    expect(refusals()).toEqual(['stale']);
    expect(heard).toEqual(['once']);
  });
});

/** What a message and its receiver are, with a fault or two. */
interface Situation {
  key: SigningKey;
  signedFor: string;
  sentOn: string;
  data: Buffer;
  swarm: string | undefined;
  ageNs: bigint;
  headers(record: SignedRecord): [string, string][];
}

const keys = { known: SigningKey.generate(), revoked: SigningKey.generate(), unknown: SigningKey.generate() };
const freshForNs = 15n * seconds;
const receiver: Receiver = {
  keyring: Keyring.from(
    {
      version: 1,
      agents: [
        { name: 'planner', keys: [{ record: keys.known.publicKey }] },
        {
          name: 'gone',
          publish: ['thread.*.planner'],
          keys: [{ record: keys.revoked.publicKey, revoked: { leaf: 'a'.repeat(64) } }],
        },
      ],
    },
    'a test',
  ),
  swarm: undefined,
  freshForNs,
};

/** Returns what becomes of a message that is as it should be but for `faults`. */
function admitted(...faults: ((situation: Situation) => void)[]): string {
  const admission = judged(...faults);
  return admission.admitted ? 'admitted' : admission.reason;
}

function judged(...faults: ((situation: Situation) => void)[]): Admission {
  const situation: Situation = {
    key: keys.known,
    signedFor: 'thread.t.planner',
    sentOn: 'thread.t.planner',
    data: payload,
    swarm: undefined,
    ageNs: 0n,
    headers: (record) => envelope(record),
  };
  for (const fault of faults) fault(situation);
  const { key, signedFor, data, swarm, ageNs } = situation;
  const tsNs = 1_000n * seconds;
  const at = swarm === undefined ? { tsNs } : { tsNs, swarm };
  const record = signRecord({ subject: signedFor, kind: 'BUS.PUBLISH', payload }, key, at);
  const message: Incoming = {
    subject: situation.sentOn,
    data,
    headers: new ReceivedHeaders(block(situation.headers(record))),
    timestampNs: tsNs + ageNs,
  };
  return admit(message, receiver);
}

/** Wraps how the headers are made, so that two faults of them add up. */
function mangle(change: (headers: [string, string][]) => [string, string][]): (situation: Situation) => void {
  return (situation) => {
    const before = situation.headers;
    situation.headers = (record) => change(before(record));
  };
}

const replace = (name: string, value: string): ((situation: Situation) => void) =>
  mangle((headers) => headers.map(([key, old]) => [key, key === name ? value : old]));

const faults: Record<RejectReason, (situation: Situation) => void> = {
  'bad-subject': (situation) => {
    situation.sentOn += '.a%b';
  },
  unsigned: mangle((headers) => headers.filter(([name]) => name !== 'Swarm-Sig')),
  malformed: replace('Nats-Msg-Id', '0'.repeat(64)),
  'bad-signature': replace('Swarm-Sig', Buffer.alloc(64).toString('base64')),
  'unknown-key': (situation) => {
    situation.key = keys.unknown;
  },
  'revoked-key': (situation) => {
    situation.key = keys.revoked;
  },
  'other-swarm': (situation) => {
    situation.swarm = 'staging';
  },
  'not-permitted': (situation) => {
    situation.signedFor = 'thread.t.nobody';
    situation.sentOn = situation.sentOn.replace('planner', 'nobody');
  },
  'subject-mismatch': (situation) => {
    situation.sentOn += '.elsewhere';
  },
  'payload-mismatch': (situation) => {
    situation.data = Buffer.from('{"hello":"mars"}');
  },
  stale: (situation) => {
    situation.ageNs = 16n * seconds;
  },
};

const pairs = rejectReasons.flatMap((first, index) =>
  rejectReasons
    .slice(index + 1)
    .filter((second) => !(first === 'unknown-key' && second === 'revoked-key')) // a key is one or the other
    .map((second) => [first, second] as const),
);

describe('of two faults the one that is checked first is named, whichever was made first', () => {
  test.each(pairs)('%s goes before %s', (first, second) => {
    expect(admitted(faults[first])).toBe(first);
    expect(admitted(faults[second])).toBe(second);
    expect(admitted(faults[first], faults[second])).toBe(first);
    expect(admitted(faults[second], faults[first])).toBe(first);
  });
});

test.each([
  [freshForNs, 'admitted'],
  [freshForNs + 1n, 'stale'],
  [-freshForNs, 'admitted'],
  [-freshForNs - 1n, 'stale'],
])('a record that is %d ns older than the broker’s timestamp is %s', (ageNs, becomes) => {
  const aged = (situation: Situation): void => {
    situation.ageNs = ageNs;
  };
  expect(admitted(aged)).toBe(becomes);
});

test.each([
  [45_279_958_023n, 'dated 45.28s before the broker took it; up to 15s counts as fresh'],
  [-60n * seconds, 'dated 60s after the broker took it; up to 15s counts as fresh'],
])('a person is told how far a stale record is off, and on which side: %d ns', (ageNs, detail) => {
  const aged = (situation: Situation): void => {
    situation.ageNs = ageNs;
  };
  expect(judged(aged)).toMatchObject({ reason: 'stale', detail });
});
