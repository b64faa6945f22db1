/**
 * Somebody who reads in an agent's log what it could not send yet, and stores another message under its id: the broker then
 * drops the message itself. The agent looks at what is there, and says it anew.
 */
import { describe, expect, test } from 'vitest';
import { printEnvelope } from '../../src/agent/envelope.ts';
import { systemClock } from '../../src/base/clock.ts';
import { connectBus } from '../../src/bus/connection.ts';
import { findSent } from '../../src/bus/find.ts';
import { encodeHeaders } from '../../src/bus/headers.ts';
import { readMessages } from '../../src/bus/stored.ts';
import { openLog } from '../../src/log/writer.ts';
import type { SignedRecord } from '../../src/record/signed.ts';
import { agentsIn } from '../support/agents.ts';
import { envelope, type Headers, plainClient, send } from '../support/attacker.ts';
import { cableTo } from '../support/cable.ts';
import { temporaryFolder } from '../support/log.ts';
import { testServer } from '../support/nats.ts';

const own = 'thread.t.planner';

/** What is stored under the id of `record`, which says "genuine" on `own`. */
const forgeries: Readonly<
  Record<string, (record: SignedRecord) => { on: string; data: string; headers: Headers }>
> = {
  'on another subject': (record) => ({ on: 'thread.t.thief', data: '"genuine"', headers: envelope(record) }),
  'without the record': ({ leaf }) => ({ on: own, data: '"genuine"', headers: [['Nats-Msg-Id', leaf]] }),
  'with other words': (record) => ({ on: own, data: '"forged!"', headers: envelope(record) }),
  'with another signature': (record) => ({
    on: own,
    data: '"genuine"',
    headers: envelope({ ...record, signature: 'A'.repeat(record.signature.length) }),
  }),
};

describe('a message is not taken for sent because its id is there', () => {
  test.each(Object.entries(forgeries))('%s', async (_, forge) => {
    await using server = await testServer();
    const cable = await cableTo(server.port);
    const folder = temporaryFolder();
    const place = await agentsIn(folder, `nats://127.0.0.1:${cable.port}`, ['planner']);
    const plain = await plainClient(server.url);
    await using planner = await place.join('planner');
    await planner.publish(own, 'before');
    cable.cut();
    const published = planner.publish(own, 'genuine');
    await expect.poll(() => place.records().length).toBe(2);
    const [, unsent] = place.records();
    if (unsent === undefined) throw new Error('nothing is logged');
    const { on, data, headers } = forge(unsent);
    expect(await send(plain, { on, data: Buffer.from(data), headers })).toMatchObject({ seq: 2 });
    await cable.mend();
    const { seq, record } = await published;
    expect([seq, record.header.cause]).toEqual([3, unsent.leaf]);

    await using bus = await connectBus({ url: server.url });
    const asked = { stream: 'THREADS', sinceNs: systemClock()() - 60_000_000_000n };
    const sent = ({ leaf }: SignedRecord, from: SignedRecord) => ({
      subject: own,
      data: Buffer.from('"genuine"'),
      headers: encodeHeaders(leaf, printEnvelope(from)),
    });
    expect(await findSent(bus, { ...asked, message: sent(unsent, unsent) })).toBeUndefined();
    expect(await findSent(bus, { ...asked, message: sent(record, record) })).toMatchObject({ seq: 3 });
    await plain.close();
    expect(await place.verify()).toMatchObject({ bad: 0 });
  });

  // At joining the headers alone are read: of the payload they say nothing.
  const atJoining = Object.entries(forgeries).filter(([how]) => how !== 'with other words');

  test.each(atJoining)('%s, nor when its agent joins again', async (_, forge) => {
    await using server = await testServer();
    const place = await agentsIn(temporaryFolder(), server.url, ['planner']);
    await (await place.join('planner')).close();
    const { planner: key } = place.keys;
    if (key === undefined) throw new Error('no planner');
    const log = await openLog(place.log, { key });
    const unsent = await log.append({
      subject: own,
      kind: 'BUS.PUBLISH',
      payload: Buffer.from('"genuine"'),
    });
    await log.close(); // as one that was killed
    const plain = await plainClient(server.url);
    const { on, data, headers } = forge(unsent);
    expect(await send(plain, { on, data: Buffer.from(data), headers })).toMatchObject({ seq: 1 });
    await plain.close();
    const again = await place.join('planner');
    await again.caughtUp();
    await again.close();
    const [, anew] = place.records();
    expect(anew?.header).toMatchObject({ subject: own, kind: 'BUS.PUBLISH', cause: unsent.leaf });
    await using bus = await connectBus({ url: server.url });
    const ids = [];
    for await (const message of readMessages(bus, { stream: 'THREADS' })) ids.push(message.headers.messageId);
    expect(ids).toEqual([unsent.leaf, anew?.leaf]);
  });
});
