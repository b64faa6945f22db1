import { expect, test } from 'vitest';
import { connectBus } from '../../src/bus/connection.ts';
import { openConsumer } from '../../src/bus/consumer.ts';
import { EncodedHeaders, encodeHeaders, ReceivedHeaders } from '../../src/bus/headers.ts';
import type { BusMessage } from '../../src/bus/message.ts';
import { testServer } from '../support/nats.ts';
import { newStream } from './broker.ts';

const read = (text: string): ReceivedHeaders =>
  new ReceivedHeaders(Buffer.from(`NATS/1.0\r\n${text}\r\n\r\n`));

test('headers are read back as they were written, the id first', () => {
  const { bytes } = encodeHeaders('abc', { 'Swarm-Record': '{"a":1}', 'Swarm-Sig': 'x==' });
  expect(Buffer.from(bytes).toString()).toBe(
    'NATS/1.0\r\nNats-Msg-Id: abc\r\nSwarm-Record: {"a":1}\r\nSwarm-Sig: x==\r\n\r\n',
  );
  const headers = new ReceivedHeaders(bytes);
  expect(headers.names()).toEqual(['Nats-Msg-Id', 'Swarm-Record', 'Swarm-Sig']);
  expect(headers.values('Swarm-Record')).toEqual(['{"a":1}']);
  expect(headers.messageId).toBe('abc');
});

test.each([
  ['a line break in a value', 'id', { A: 'b\r\nSwarm-Sig: forged' }],
  ['a line feed alone', 'id', { A: 'b\nc' }],
  ['a line break in the id', 'id\r\nA: b', {}],
  ['what is not ASCII', 'id', { A: 'é' }],
  ['a colon in a name', 'id', { 'A: b\r\nC': 'd' }],
  ['a blank in a name', 'id', { 'A ': 'd' }],
  ['no name', 'id', { '': 'd' }],
])('%s cannot be sent', (_, id, headers) => {
  expect(() => encodeHeaders(id, headers)).toThrow(expect.objectContaining({ code: 'USAGE' }));
});

test('every value of a header comes back, untrimmed, under the name as it was spelled', () => {
  const headers = read('A: 1 \r\na: 2\r\nA:   3\r\nA : 4\r\nA: \u00a05\r\nno colon\r\nB:');
  expect(headers.values('A')).toEqual(['1 ', '3', '\u00a05']);
  expect(headers.values('a')).toEqual(['2']);
  expect(headers.values('A ')).toEqual(['4']);
  expect(headers.values('B')).toEqual(['']);
  expect(headers.values('C')).toEqual([]);
});

/**
 * Copies of a message under headers that the client itself reads as the id AAA. Where the broker stores a
 * copy it took the id for another one, and then we must not take it for AAA.
 */
const copies: Record<string, string> = {
  'the same id': 'Nats-Msg-Id: AAA',
  'the same id without a blank': 'Nats-Msg-Id:AAA',
  'the same id after many blanks': 'Nats-Msg-Id:    AAA',
  'a blank behind the id': 'Nats-Msg-Id: AAA ',
  'a tab before the id': 'Nats-Msg-Id:\tAAA',
  'a no-break space behind the id': 'Nats-Msg-Id: AAA\u00a0',
  'the name inside an earlier header': 'X: Nats-Msg-Id\r\nNats-Msg-Id: AAA',
  'the name at the start of an earlier one': 'Nats-Msg-Id2: X\r\nNats-Msg-Id: AAA',
  'two ids, ours second': 'Nats-Msg-Id: BBB\r\nNats-Msg-Id: AAA',
  'two ids, ours first': 'Nats-Msg-Id: AAA\r\nNats-Msg-Id: BBB',
  'a line feed before another id': 'X: y\nNats-Msg-Id: AAA\r\nNats-Msg-Id: CCC',
  'a name in lower case': 'nats-msg-id: AAA',
  'a blank before the colon': 'Nats-Msg-Id : AAA',
};

test('a copy that the broker does not recognise as a repeat does not have the id for us either', async () => {
  await using server = await testServer();
  await using bus = await connectBus({ url: server.url });
  const { name, subject } = await newStream(bus);
  for (const text of Object.values({ original: 'Nats-Msg-Id: AAA', ...copies })) {
    const bytes = Buffer.from(`NATS/1.0\r\n${text}\r\n\r\n`);
    const { forClient } = new EncodedHeaders(bytes);
    await bus.nats.request(subject, text, { timeout: 2_000, headers: forClient });
  }
  const deliveries = await openConsumer(bus, { stream: name, filter: '>' });
  const received: BusMessage[] = [];
  for await (const message of deliveries) {
    received.push(message);
    if (message.delivery.pending === 0) break;
  }
  const withId = received.filter(({ headers }) => headers.messageId === 'AAA');
  expect(withId.map(({ data }) => Buffer.from(data).toString())).toEqual(['Nats-Msg-Id: AAA']);
  expect(received.length).toBeGreaterThan(5); // the broker did store doctored copies
});
