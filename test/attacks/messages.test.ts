/**
 * Messages that must not reach a handler, sent by a plain NATS client to a broker that lets in anybody, each with the
 * reason that its BUS.REJECT must give (docs/format.md, section 5). All are heard by one listener, which goes on
 * handling what is honest.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import type { NatsConnection } from '@nats-io/transport-node';
import { beforeAll, describe, expect, test, vi } from 'vitest';
import type { Swarm } from '../../src/agent/swarm.ts';
import { EncodedHeaders, ReceivedHeaders } from '../../src/bus/headers.ts';
import { SigningKey } from '../../src/identity/key.ts';
import type { Draft } from '../../src/record/draft.ts';
import { signFlush } from '../../src/record/flush.ts';
import { leafOf } from '../../src/record/header.ts';
import type { RejectReason } from '../../src/record/kind.ts';
import { receivedHash } from '../../src/record/received.ts';
import { signRecord } from '../../src/record/sign.ts';
import type { SignedRecord } from '../../src/record/signed.ts';
import type { NatsServer } from '../../src/server/nats-server.ts';
import { agentsIn, type Place } from '../support/agents.ts';
import {
  block,
  envelope,
  ofOneFlush,
  plainClient,
  refusedOnLog,
  type Sent,
  send,
} from '../support/attacker.ts';
import { temporaryFolder } from '../support/folder.ts';
import { testServer } from '../support/nats.ts';

let server: NatsServer;
let plain: NatsConnection;
let place: Place;
let planner: Swarm;
const handled: { readonly subject: string; readonly payload: unknown }[] = [];
let threads = 0;
/** Where the planner speaks in the thread of this test. */
let subject: string;

beforeAll(async () => {
  const folder = await temporaryFolder();
  server = await testServer();
  plain = await plainClient(server.url);
  place = await agentsIn(folder.path, server.url, ['planner', 'listener', 'revoked']);
  const keyring = JSON.parse(readFileSync(place.keyring, 'utf8'));
  keyring.agents.find(({ name }: { name: string }) => name === 'revoked').keys[0].revoked = {
    leaf: 'a'.repeat(64),
  };
  writeFileSync(place.keyring, JSON.stringify(keyring));
  planner = await place.join('planner');
  const listener = await place.join('listener');
  await listener.handle('thread.>', { durable: 'listener' }, (message) => void handled.push(message));
  return async () => {
    await listener.close();
    await planner.close();
    await plain.close();
    await server.stop();
    await folder[Symbol.asyncDispose]();
  };
});

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

/** Returns the first of two records that share a flush. */
function ofFlush(text: string): SignedRecord {
  const records = [0, 1].map((n) => signed({ payload: Buffer.from(JSON.stringify(`${text}${n}`)) }));
  const [record] = ofOneFlush(records, keyOf('planner'));
  if (record === undefined) throw new Error('no record');
  return record;
}

/** Returns `record` with the part of its header that is `old` replaced by `by`, under the leaf that it then has. */
function edited(record: SignedRecord, old: string, by: string): [string, string][] {
  const text = record.text.replace(old, by);
  if (text === record.text) throw new Error(`nothing to replace: ${old}`);
  return envelope({ ...record, text }, leafOf(text));
}

const seconds = 1_000_000_000n;
const now = (): bigint => BigInt(Date.now()) * 1_000_000n;

/** The order of Ed25519's group: S and S + L check alike where nobody looks. */
const groupOrder = 2n ** 252n + 27742317777372353535851937790883648493n;

function withOrderAdded(signature: string): string {
  const bytes = Buffer.from(signature, 'base64');
  let rest = BigInt(`0x${Buffer.from(bytes.subarray(32)).reverse().toString('hex')}`) + groupOrder;
  for (let at = 32; at < 64; at += 1, rest >>= 8n) bytes[at] = Number(rest & 0xffn);
  return bytes.toString('base64');
}

interface Attack {
  /** What differs from the honest message on `subject`. */
  readonly send: () => Partial<Sent>;
  readonly reason: RejectReason;
  /** The Swarm headers have not their shape, so that the REJECT does not keep them. */
  readonly claims?: false;
}

const attacks: Record<string, Attack> = {
  'without headers': { send: () => ({ headers: [] }), reason: 'unsigned', claims: false },
  'without a signature': {
    send: () => ({ headers: envelope(signed()).filter(([name]) => name !== 'Swarm-Sig') }),
    reason: 'unsigned',
    claims: false,
  },
  'with its headers in lower case': {
    send: () => ({ headers: envelope(signed()).map(([name, value]) => [name.toLowerCase(), value]) }),
    reason: 'unsigned',
    claims: false,
  },
  'with its headers inside another': {
    send: () => ({
      headers: [['X', envelope(signed()).reduce((text, [name, value]) => `${text}\n${name}: ${value}`, '')]],
    }),
    reason: 'unsigned',
    claims: false,
  },
  'with headers that are none': {
    send: () => ({ headers: Buffer.from(`NATS/1.0\r\n${'\u0000: \r\n::\r\n'.repeat(50)}\r\n`) }),
    reason: 'unsigned',
    claims: false,
  },
  'with ten thousand headers': {
    send: () => ({ headers: Array.from({ length: 10_000 }, () => ['a', '']) }),
    reason: 'unsigned',
    claims: false,
  },
  'with a record of 60,000 bytes': {
    send: () => ({ headers: envelope({ ...signed(), text: `{"ts_ns":${'1'.repeat(60_000)}}` }) }),
    reason: 'malformed',
    claims: false,
  },
  'with a path of 60,000 bytes': {
    send: () => ({ headers: envelope({ ...signed(), path: `0/2/${'A'.repeat(60_000)}` }) }),
    reason: 'malformed',
    claims: false,
  },
  'on a subject outside the grammar': {
    send: () => ({ on: `${subject}.a%b`, headers: envelope(signed()) }),
    reason: 'bad-subject',
  },
  'on a subject that acts on a terminal': {
    send: () => ({ on: `${subject}.\u001b[2J`, headers: envelope(signed()) }),
    reason: 'bad-subject',
  },
  'on a subject of 3,000 bytes': {
    send: () => ({ on: `${subject}.${'é'.repeat(1_500)}`, headers: envelope(signed()) }),
    reason: 'bad-subject',
  },
  'on a subject of 100 tokens': {
    send: () => ({ on: `${subject}${'.a'.repeat(98)}`, headers: envelope(signed()) }),
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
  'with a record of another version': {
    send: () => ({ headers: edited(signed(), '"version":2', '"version":3') }),
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
  'with an id that some brokers find in another header': {
    send: () => {
      const record = signed();
      return { headers: [['X-Nats-Msg-Id', 'y'], ...envelope(record)] };
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
  'with a signature that only looks different: the order of the group is added': {
    send: () => {
      const record = signed();
      return { headers: envelope({ ...record, signature: withOrderAdded(record.signature) }) };
    },
    reason: 'bad-signature',
  },
  "with a record that names the planner's key, signed by a stranger": {
    send: () => {
      const stranger = SigningKey.generate();
      const text = signed({}, { key: stranger }).text.replace(stranger.publicKey, keyOf('planner').publicKey);
      const leaf = leafOf(text);
      const { signature } = signFlush([leaf], stranger);
      return { headers: envelope({ ...signed(), text, signature }, leaf) };
    },
    reason: 'bad-signature',
  },
  'by the key whose signature of zeros holds for any message, to some': {
    send: () => {
      const [weak, none] = [Buffer.alloc(32), Buffer.alloc(64)];
      weak[0] = 1;
      none[0] = 1;
      const record = { ...signed(), signature: none.toString('base64') };
      return { headers: edited(record, keyOf('planner').publicKey, weak.toString('base64')) };
    },
    reason: 'bad-signature',
  },
  'by a key that is not in the keyring': {
    send: () => ({ headers: envelope(signed({}, { key: SigningKey.generate() })) }),
    reason: 'unknown-key',
  },
  'by a key that was revoked': {
    send: () => {
      const on = subject.replace('planner', 'revoked');
      return { on, headers: envelope(signed({ subject: on }, { key: keyOf('revoked') })) };
    },
    reason: 'revoked-key',
  },
  'said in another swarm': {
    send: () => ({ headers: envelope(signed({}, { swarm: 'staging' })) }),
    reason: 'other-swarm',
  },
  'by a known key where it may not publish': {
    send: () => ({ headers: envelope(signed({}, { key: keyOf('listener') })) }),
    reason: 'not-permitted',
  },
  'by a known key below the subject of another': {
    send: () => {
      const on = `${subject}.listener`;
      return { on, headers: envelope(signed({ subject: on }, { key: keyOf('listener') })) };
    },
    reason: 'not-permitted',
  },
  'with a stolen header, on another subject': {
    send: () => ({ on: `${subject}.elsewhere`, headers: envelope(signed()) }),
    reason: 'subject-mismatch',
  },
  'with a stolen header, in another thread': {
    send: () => ({ on: subject.replace('thread.t', 'thread.other'), headers: envelope(signed()) }),
    reason: 'subject-mismatch',
  },
  'with a stolen header and another payload': {
    send: () => ({ data: Buffer.from('{"hello":"mars"}'), headers: envelope(signed()) }),
    reason: 'payload-mismatch',
  },
  'with a stolen header and a payload that is no text': {
    send: () => ({ data: Buffer.from([0xff, 0xfe, 0, 10, 13]), headers: envelope(signed()) }),
    reason: 'payload-mismatch',
  },
  'with a stolen header and no payload': {
    send: () => ({ data: Buffer.alloc(0), headers: envelope(signed()) }),
    reason: 'payload-mismatch',
  },
  'dated half the duplicate window ago': {
    send: () => ({ headers: envelope(signed({}, { tsNs: now() - 16n * seconds })) }),
    reason: 'stale',
  },
  'dated half the duplicate window ahead': {
    send: () => ({ headers: envelope(signed({}, { tsNs: now() + 16n * seconds })) }),
    reason: 'stale',
  },
  'dated at the end of time': {
    send: () => ({ headers: envelope(signed({}, { tsNs: 2n ** 63n - 1n })) }),
    reason: 'stale',
  },
  'dated at its beginning': {
    send: () => ({ headers: envelope(signed({}, { tsNs: 0n })) }),
    reason: 'stale',
  },
};

/** Resolves once the listener has handled an honest message that was said after all that was sent before. */
async function honestlySpoken(): Promise<void> {
  await planner.publish(subject, 'honest');
  await vi.waitFor(() => expect(handledHere()).toContain('honest'), 60_000);
}

/** Returns what was handled of this test's thread, wherever in it. */
function handledHere(): unknown[] {
  const thread = subject.split('.').slice(0, 2).join('.').replace('thread.', '');
  return handled
    .filter((message) => message.subject.split('.')[1] === thread)
    .map((message) => message.payload);
}

describe('a message', () => {
  test.each(Object.entries(attacks))(
    '%s never reaches a handler, and leaves its reason',
    async (_, attack) => {
      threads += 1;
      subject = `thread.t${threads}.planner`;
      const before = handled.length;
      const sent: Sent = { on: subject, data: payload, headers: [], ...attack.send() };
      const { seq } = await send(plain, sent);
      await honestlySpoken();
      expect(handled.slice(before).map((message) => message.payload)).toEqual(['honest']);
      const about = place.records().filter(({ header }) => header.delivery?.seq === seq);
      expect(about.map(({ header }) => [header.kind, header.reason])).toEqual([
        ['BUS.REJECT', attack.reason],
      ]);
      const { header, received, payload: kept } = about[0] as SignedRecord;
      expect(header.delivery).toMatchObject({ stream: 'THREADS', consumer: 'listener', attempt: 1 });
      expect(kept?.equals(sent.data)).toBe(true);
      if (attack.claims === false) {
        expect([received, header.cause, header.meta]).toEqual([undefined, undefined, undefined]);
      } else {
        const bytes = sent.headers instanceof Uint8Array ? sent.headers : block(sent.headers);
        const [text] = new ReceivedHeaders(bytes).values('Swarm-Record');
        expect(received?.text).toBe(text);
        expect(header.cause).toBe(received?.leaf);
        expect(header.meta).toEqual({ received: received && receivedHash(received) });
      }
    },
  );

  test('of a flush of several, with its path, is let in', async () => {
    threads += 1;
    subject = `thread.t${threads}.planner`;
    await send(plain, { on: subject, data: Buffer.from('"a0"'), headers: envelope(ofFlush('a')) });
    await vi.waitFor(() => expect(handledHere()).toEqual(['a0']), 60_000);
  });

  test('of more than 4 KiB is withheld when it is refused, and its hash stays', async () => {
    threads += 1;
    subject = `thread.t${threads}.planner`;
    const data = Buffer.from(JSON.stringify('x'.repeat(5_000)));
    const { seq } = await send(plain, { on: subject, data, headers: [] });
    await honestlySpoken();
    const refusal = place.records().find(({ header }) => header.delivery?.seq === seq);
    expect(refusal).toMatchObject({ payload: undefined, header: { kind: 'BUS.REJECT', reason: 'unsigned' } });
    expect(await place.verify()).toMatchObject({ counted: { withheld: 1 } });
  });

  test('whose headers are more than 64 KiB is not for the broker, and nobody hears of it', async () => {
    threads += 1;
    subject = `thread.t${threads}.planner`;
    const headers: [string, string][] = [...envelope(signed()), ['X', 'x'.repeat(66_000)]];
    const answer = await send(plain, { on: subject, data: payload, headers });
    expect(answer.error?.err_code).toBe(10097);
    await honestlySpoken();
    expect(handledHere()).toEqual(['honest']);
  });
});

test('who overhears where a listener is answered cannot answer it, and the listener goes on', async () => {
  threads += 1;
  subject = `thread.t${threads}.planner`;
  const inboxes = new Set<string>();
  const overhearing = plain.subscribe('$JS.API.CONSUMER.MSG.NEXT.THREADS.listener', {
    callback: (_, { reply }) => void inboxes.add(reply ?? ''),
  });
  await plain.flush();
  for (let n = 0; n < 300; n += 1) await planner.publish(subject, n); // it asks for more as it goes
  await vi.waitFor(() => expect(inboxes.size).toBeGreaterThan(0), 60_000);
  overhearing.unsubscribe();
  const words = envelope(signed());
  for (const inbox of inboxes) {
    const answers: [data: string, headers: Buffer | undefined, reply?: string][] = [
      ['', undefined],
      ['junk', undefined, 'junk'],
      [payload.toString(), block(words), 'thread.t.junk'],
      [payload.toString(), block(words), '$JS.ACK.THREADS.listener.1.900.900.1764000000000000000.0'],
      ['', Buffer.from('NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: x\r\n\r\n')],
      ['', Buffer.from('NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: -9000\r\n\r\n')],
      ['', Buffer.from('NATS/1.0 409 Consumer Deleted\r\n\r\n')],
    ];
    for (const [data, headers, reply] of answers) {
      plain.publish(inbox, data, {
        ...(headers && { headers: new EncodedHeaders(headers).forClient }),
        ...(reply !== undefined && { reply }),
      });
    }
  }
  await plain.flush();
  await honestlySpoken();
  expect(handledHere()).toEqual([...Array.from({ length: 300 }, (_, n) => n), 'honest']);
  expect(place.records().filter(({ header }) => header.delivery?.seq === 900)).toEqual([]);
});

test('after all that, the log verifies, and holds each of them once', async () => {
  const { rejects, sums } = refusedOnLog(place);
  expect(sums).toEqual([]);
  expect(rejects).toHaveLength(Object.keys(attacks).length + 1);
  expect(await place.verify()).toMatchObject({ bad: 0, findings: [] });
});
