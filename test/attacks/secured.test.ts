/**
 * Attackers at a broker that knows the agents (`swarm up --secure`): outsiders without a key that counts, and agents of
 * the keyring with a client of their own making, who try what nobody gave them leave to. After all of it the streams are as
 * they were, and a listener has heard what is honest and nothing else.
 */
import { once } from 'node:events';
import { connect as connectSocket } from 'node:net';
import { connect, type NatsConnection } from '@nats-io/transport-node';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { busOptionsOf } from '../../src/agent/self.ts';
import { readSettings } from '../../src/agent/settings.ts';
import type { Swarm } from '../../src/agent/swarm.ts';
import { sha256Hex } from '../../src/base/encoding.ts';
import { connectBus } from '../../src/bus/connection.ts';
import { isPermissionRefused } from '../../src/bus/requirements.ts';
import { readMessages } from '../../src/bus/stored.ts';
import { SigningKey } from '../../src/identity/key.ts';
import { loadKeyring } from '../../src/identity/keyring.ts';
import { updateKeyring, withOperator } from '../../src/identity/keyring-edit.ts';
import { printNkey } from '../../src/identity/nkey.ts';
import { verifyLog } from '../../src/verify/verify.ts';
import { failureOf } from '../bus/broker.ts';
import { SecuredPlace } from '../cli/secured.ts';
import type { Running } from '../cli/swarm.ts';
import { recordsOf } from '../support/agents.ts';
import { type Headers, refusedOnLog, send, settled, throwIn } from '../support/attacker.ts';

const place = new SecuredPlace();
let broker: Running;
let listener: Swarm;
let planner: Swarm;
const heard: unknown[] = [];
/** What the broker kept before anybody attacked. */
let before: Kept;

beforeAll(async () => {
  await place.add('boss');
  await place.add('planner');
  await place.add('listener', { durables: { listener: 'thread.>' } });
  await place.add('insider', { durables: { insider: 'thread.*.insider' } });
  await place.add('braggart', { publish: ['>'] });
  await updateKeyring(place.keyring, (keyring) => withOperator(keyring, 'boss'));
  broker = await place.up('--env', 'boss.env');
  listener = await place.joinAs('listener');
  planner = await place.joinAs('planner');
  await listener.handle('thread.>', { durable: 'listener' }, async (message) => {
    heard.push(message.payload);
    if (message.payload === 'hopeless') await message.dead('hopeless');
  });
  for (const text of ['honest', 'hopeless']) await planner.publish('thread.t.planner', text);
  await planner.close(); // and its last checkpoint is kept
  planner = await place.joinAs('planner');
  await vi.waitFor(async () => {
    before = await kept();
    expect(before.messages.THREADS).toHaveLength(2);
    expect(before.messages.DEAD).toHaveLength(1);
    expect(before.messages.CHECKPOINTS?.length).toBeGreaterThan(0);
  }, 60_000);
});

afterAll(async () => {
  await listener.close();
  await planner.close();
  broker.signal('SIGINT');
  await broker.ended;
});

const streams = ['THREADS', 'CHECKPOINTS', 'DEAD'] as const;

interface Kept {
  readonly messages: Readonly<Record<string, readonly string[]>>;
  /** Configurations, and the names of consumers. */
  readonly facts: unknown;
}

/** Returns what the broker keeps, as its operator sees it. */
async function kept(): Promise<Kept> {
  await using bus = await place.busOf('boss');
  const messages: Record<string, string[]> = {};
  const facts: unknown[] = [];
  for await (const { config } of bus.manager.streams.list()) facts.push(config);
  for (const stream of streams) {
    for await (const { name, config } of bus.manager.consumers.list(stream)) {
      if (config.durable_name !== undefined) facts.push([name, config]); // who reads makes others for a moment
    }
    messages[stream] = [];
    for await (const { seq, subject, data, headers } of readMessages(bus, { stream }))
      messages[stream].push(`${seq} ${subject} ${headers.messageId} ${sha256Hex(data)}`);
  }
  return { messages, facts };
}

const api = '$JS.API';
const planning = { name: 'MINE', subjects: ['mine.>'], sources: [{ name: 'THREADS' }] };

/** What an agent may try with its own key, and the server does not let it. */
const attacks: Readonly<Record<string, { as: string; on: string; with?: object }>> = {
  "speaks on another agent's subject": { as: 'planner', on: 'thread.t1.listener' },
  'speaks below the subject of another': { as: 'planner', on: 'thread.t1.listener.planner' },
  'speaks of no thread': { as: 'planner', on: 'planner' },
  'speaks of no thread, and may say everything': { as: 'braggart', on: 'orders.braggart' },
  'purges the stream': { as: 'planner', on: `${api}.STREAM.PURGE.THREADS` },
  'purges the stream, and may say everything': { as: 'braggart', on: `${api}.STREAM.PURGE.THREADS` },
  'deletes the stream': { as: 'planner', on: `${api}.STREAM.DELETE.THREADS` },
  'changes the stream': { as: 'planner', on: `${api}.STREAM.UPDATE.THREADS`, with: { name: 'THREADS' } },
  'makes a stream': { as: 'planner', on: `${api}.STREAM.CREATE.MINE`, with: planning },
  'restores a stream': { as: 'planner', on: `${api}.STREAM.RESTORE.THREADS`, with: { config: planning } },
  'takes a copy of the stream away': {
    as: 'planner',
    on: `${api}.STREAM.SNAPSHOT.THREADS`,
    with: { deliver_subject: '_INBOX_planner.copy' },
  },
  'moves the stream': { as: 'planner', on: `${api}.STREAM.LEADER.STEPDOWN.THREADS` },
  'takes a copy of the stream from the cluster': {
    as: 'planner',
    on: `${api}.STREAM.PEER.REMOVE.THREADS`,
    with: { peer: 'n1' },
  },
  'lists the streams': { as: 'planner', on: `${api}.STREAM.LIST` },
  'lists the durables': { as: 'planner', on: `${api}.CONSUMER.NAMES.THREADS` },
  'deletes a message': { as: 'planner', on: `${api}.STREAM.MSG.DELETE.THREADS`, with: { seq: 1 } },
  'deletes the durable of another': { as: 'planner', on: `${api}.CONSUMER.DELETE.THREADS.listener` },
  'deletes its own durable': { as: 'listener', on: `${api}.CONSUMER.DELETE.THREADS.listener` },
  'pauses the durable of another': { as: 'planner', on: `${api}.CONSUMER.PAUSE.THREADS.listener` },
  'looks at the durable of another': { as: 'planner', on: `${api}.CONSUMER.INFO.THREADS.listener` },
  'changes its own durable': { as: 'listener', on: `${api}.CONSUMER.CREATE.THREADS.listener.thread.>` },
  'makes a durable': {
    as: 'planner',
    on: `${api}.CONSUMER.DURABLE.CREATE.THREADS.mine`,
    with: { stream_name: 'THREADS', config: { durable_name: 'mine', ack_policy: 'explicit' } },
  },
  'has a consumer deliver elsewhere': {
    as: 'planner',
    on: `${api}.CONSUMER.CREATE.THREADS`,
    with: { stream_name: 'THREADS', config: { deliver_subject: `${api}.STREAM.PURGE.THREADS` } },
  },
  'reads the durable of another': { as: 'planner', on: `${api}.CONSUMER.MSG.NEXT.THREADS.listener` },
  'acks what another was handed': {
    as: 'planner',
    on: '$JS.ACK.THREADS.listener.1.1.1.1764000000000000000.0',
  },
  'keeps a checkpoint as another': { as: 'planner', on: 'checkpoint.listener' },
  'gives up what it never heard': { as: 'planner', on: 'dead.thread.t1.boss' },
  'answers a request of another': { as: 'planner', on: '_INBOX_listener.x' },
  'speaks in the place of the JetStream of a domain': {
    as: 'planner',
    on: '$JS.hub.API.STREAM.DELETE.THREADS',
  },
  'speaks as one server to another': { as: 'braggart', on: '$NRG.V._meta_' },
  'keeps keys and values': { as: 'braggart', on: '$KV.any.key' },
  'asks the system': { as: 'braggart', on: '$SYS.REQ.SERVER.PING' },
  'asks the system who it is': { as: 'planner', on: '$SYS.REQ.USER.INFO' },
};

const overhearing = [
  '>',
  '*',
  'thread.>',
  'thread.*.planner',
  'dead.>',
  'checkpoint.>',
  '_INBOX_listener.>',
  '_INBOX.>',
  '$JS.>',
  '$JS.EVENT.ADVISORY.>',
  '$SYS.>',
];

describe('the server refuses an agent that', () => {
  test.each(Object.entries(attacks))('%s', async (_, { as, on, with: body = {} }) => {
    const client = await place.clientOf(as);
    const thrown = await failureOf(client.request(on, JSON.stringify(body), { timeout: 5_000 }));
    expect([isPermissionRefused(thrown), thrown.message]).toEqual([true, expect.stringContaining(on)]);
    await client.close();
  });

  test.each(overhearing)('listens on %s', async (subject) => {
    const client = await place.clientOf('planner');
    for (const queue of ['', 'listener']) {
      const refused = new Promise<unknown>((resolve) => {
        client.subscribe(subject, { callback: (error) => resolve(error), ...(queue !== '' && { queue }) });
      });
      expect(isPermissionRefused(await refused)).toBe(true);
    }
    await client.close();
  });
});

/** Returns how a client logs in that shows the key of `shown` and signs with another. */
function forger(shown: SigningKey, sign: (nonce: Uint8Array) => Uint8Array): Promise<NatsConnection> {
  const user = printNkey(shown.derive('can-swarm/nkey/v1').publicKey);
  return connect({
    servers: place.url,
    reconnect: false,
    authenticator: (nonce) => ({
      nkey: user,
      sig: Buffer.from(sign(Buffer.from(nonce ?? ''))).toString('base64url'),
    }),
  });
}

const stranger = SigningKey.generate();

describe('the server refuses an outsider who', () => {
  test('has no key, or one that is not in the keyring, with a message that says what to do', async () => {
    const settings = await readSettings({ url: place.url, environment: {} });
    expect(await failureOf(connectBus({ url: place.url }))).toMatchObject({
      code: 'BUS_AUTH',
      message: expect.stringContaining('use the key of an agent'),
    });
    expect(await failureOf(connectBus(busOptionsOf(settings, stranger, 'planner')))).toMatchObject({
      code: 'BUS_AUTH',
      message: expect.stringMatching(
        /refused this agent's key, as the NATS user U[A-Z2-7]{55} \(.*swarm keys add/,
      ),
    });
  });

  const logins: Readonly<Record<string, () => Promise<unknown>>> = {
    "shows an agent's key and signs with another": () => {
      const own = stranger.derive('can-swarm/nkey/v1');
      return forger(place.keyOf('planner'), (nonce) => own.sign(nonce));
    },
    'signs what was asked another time': () => {
      const key = place.keyOf('planner').derive('can-swarm/nkey/v1');
      return forger(place.keyOf('planner'), () => key.sign(Buffer.from('a nonce of another connection')));
    },
    'logs in with the key that an agent signs its records with': () => {
      const user = printNkey(place.keyOf('planner').publicKey);
      const sign = (nonce?: string): Uint8Array => place.keyOf('planner').sign(Buffer.from(nonce ?? ''));
      const authenticator = (nonce?: string) => ({
        nkey: user,
        sig: Buffer.from(sign(nonce)).toString('base64url'),
      });
      return connect({ servers: place.url, reconnect: false, authenticator });
    },
    'has a name and a password': () => connect({ servers: place.url, user: 'boss', pass: 'boss' }),
    'has a token': () => connect({ servers: place.url, token: 'boss' }),
  };

  test.each(Object.entries(logins))('%s', async (_, login) => {
    const thrown = await failureOf(login());
    expect(thrown.message).toMatch(/authorization/i);
  });

  test('speaks before it has logged in', async () => {
    const { hostname, port } = new URL(place.url);
    const socket = connectSocket(Number(port), hostname);
    let answer = '';
    socket.on('data', (text) => {
      answer += text;
    });
    socket.on('error', () => undefined); // it may be cut off while it speaks
    socket.write('PUB thread.t.planner 1\r\n1\r\n'.repeat(10));
    await once(socket, 'close');
    expect(answer).toContain("-ERR 'Authorization Violation'");
  });
});

/**
 * Where an agent may ask it may name any subject for the answer, and the server asks nothing about that. So it can have
 * answers, acknowledgements and what its durable hands out put anywhere in the account. What comes of that?
 */
const asked: Readonly<Record<string, { on: string; reply: string; copies?: true }>> = {
  'has THREADS purged by an acknowledgement': {
    on: 'thread.t.insider',
    reply: `${api}.STREAM.PURGE.THREADS`,
  },
  'has DEAD purged by an acknowledgement': { on: 'thread.t.insider', reply: `${api}.STREAM.PURGE.DEAD` },
  'has CHECKPOINTS purged by an acknowledgement': {
    on: 'checkpoint.insider',
    reply: `${api}.STREAM.PURGE.CHECKPOINTS`,
  },
  'has the message of another deleted by the acknowledgement of a copy': {
    on: 'thread.t.insider',
    reply: `${api}.STREAM.MSG.DELETE.THREADS`,
    copies: true,
  },
  'has the stream deleted by an answer': {
    on: `${api}.STREAM.INFO.THREADS`,
    reply: `${api}.STREAM.DELETE.THREADS`,
  },
  'has the stream changed by an answer': {
    on: `${api}.STREAM.INFO.THREADS`,
    reply: `${api}.STREAM.UPDATE.THREADS`,
  },
  'has a stream made by an answer': { on: `${api}.STREAM.INFO.THREADS`, reply: `${api}.STREAM.CREATE.MINE` },
  'has a durable changed by an answer': {
    on: `${api}.CONSUMER.INFO.THREADS.insider`,
    reply: `${api}.CONSUMER.DURABLE.CREATE.THREADS.listener`,
  },
  'has the durable of another deleted by what its own hands out': {
    on: `${api}.CONSUMER.MSG.NEXT.THREADS.insider`,
    reply: `${api}.CONSUMER.DELETE.THREADS.listener`,
  },
  'has a stream made by what its durable hands out': {
    on: `${api}.CONSUMER.MSG.NEXT.THREADS.insider`,
    reply: `${api}.STREAM.CREATE.MINE`,
  },
  'has what its durable hands out put on the subject of another': {
    on: `${api}.CONSUMER.MSG.NEXT.THREADS.insider`,
    reply: 'thread.t.planner',
  },
  'has what its durable hands out put among the checkpoints of another': {
    on: `${api}.CONSUMER.MSG.NEXT.THREADS.insider`,
    reply: 'checkpoint.planner',
  },
  'has an answer put on the subject of another': {
    on: `${api}.STREAM.INFO.THREADS`,
    reply: 'thread.t.planner',
  },
  'has the messages of another acked': {
    on: 'thread.t.insider',
    reply: '$JS.ACK.THREADS.listener.1.1.1.1.0',
  },
};

let said = 0;

describe('nothing is lost or heard when an agent', () => {
  test.each(Object.entries(asked))('%s', async (_, { on, reply, copies }) => {
    said += 1;
    const { record } = await planner.publish('thread.t.planner', said);
    const client = await place.clientOf('insider');
    if (on.includes('MSG.NEXT')) {
      // What there is to hand out: nothing at all, and what would make a stream.
      for (const data of ['', JSON.stringify(planning)])
        await send(client, { on: 'thread.t.insider', data: Buffer.from(data), headers: [] });
    }
    const data = on.includes('MSG.NEXT') ? '{"batch":100,"no_wait":true}' : '';
    const headers: Headers = copies === true ? [['Nats-Msg-Id', record.leaf]] : [];
    throwIn(client, { on, data: Buffer.from(data), headers, reply });
    await client.flush();
    await client.close();
    said += 1;
    await planner.publish('thread.t.planner', said);
    await vi.waitFor(() => expect(heard.at(-1)).toBe(said), 60_000);
  });

  test('and after all that everything is there, what was put there is refused, and only honest words were heard', async () => {
    await using bus = await place.busOf('boss');
    await settled(bus.nats, 'listener');
    const { messages, facts } = await kept();
    expect(facts).toEqual(before.facts);
    for (const stream of streams) {
      const then = before.messages[stream] ?? [];
      expect(messages[stream]?.slice(0, then.length)).toEqual(then);
    }
    expect(heard).toEqual(['honest', 'hopeless', ...Array.from({ length: said }, (_, n) => n + 1)]);
    const log = place.logOf('listener');
    const { byReason } = refusedOnLog({ records: () => recordsOf(log) });
    const refused = Object.values(byReason).reduce((one, other) => one + other, 0);
    expect(Object.keys(byReason)).toEqual(['unsigned']);
    expect(refused).toBeGreaterThan(0);
    expect(messages.THREADS?.length).toBe(heard.length + refused);
    const { keyring } = await loadKeyring(place.keyring);
    expect(await verifyLog(log, { keyring })).toMatchObject({ bad: 0, findings: [] });
  });
});
