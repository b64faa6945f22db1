/** Keys over time: what counts of a key that was revoked, and what of it others heard. */
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Sha256Hex } from '../../src/base/encoding.ts';
import { SigningKey } from '../../src/identity/key.ts';
import { Keyring } from '../../src/identity/keyring.ts';
import { openLog } from '../../src/log/writer.ts';
import type { Draft } from '../../src/record/draft.ts';
import { signRecord } from '../../src/record/sign.ts';
import type { SignedRecord } from '../../src/record/signed.ts';
import { verifyLog } from '../../src/verify/verify.ts';
import { said, temporaryFolder } from '../support/log.ts';

const planner = SigningKey.generate();
const renewed = SigningKey.generate();
const listener = SigningKey.generate();

function heard(received: SignedRecord): Draft {
  const delivery = { stream: 'THREADS', seq: 1, consumer: 'listener', attempt: 1 };
  return { ...said('x'), kind: 'BUS.DELIVER', cause: received.leaf, received, delivery };
}

function keyring(revoked: { leaf: Sha256Hex } | { log: string; size: number } | undefined): Keyring {
  const keys = [{ record: planner.publicKey, ...(revoked && { revoked }) }, { record: renewed.publicKey }];
  const agents = [
    { name: 'planner', keys },
    { name: 'listener', keys: [{ record: listener.publicKey }] },
  ];
  return Keyring.from({ version: 1, agents }, 'the keyring of the test');
}

describe('a message of a revoked key', () => {
  test('that was said in time may be heard later', async () => {
    const path = join(temporaryFolder(), 'swarm.jsonl');
    await using speaking = await openLog(path, { key: planner });
    await using hearing = await openLog(path, { key: listener });
    const early = await speaking.append(said('x'));
    const { leaf } = await speaking.append(said('y'));
    await hearing.append(heard(early));
    const report = await verifyLog(path, { keyring: keyring({ leaf }) });
    expect(report.findings.map(({ at, code }) => [at.line, code])).toEqual([[2, 'revoked-key']]);
  });

  test('that nobody shows to have been said in time is not heard', async () => {
    const path = join(temporaryFolder(), 'swarm.jsonl');
    await using hearing = await openLog(path, { key: listener });
    const { leaf } = await hearing.append({ ...said('step', 'agent.step'), kind: 'AGENT.STEP', step: 'x' });
    await hearing.append(heard(signRecord(said('x'), planner)));
    const report = await verifyLog(path, { keyring: keyring({ leaf }) });
    expect(report.findings.map(({ at, code }) => [at.line, code])).toEqual([[2, 'revoked-key']]);
  });

  test('from which on the key is revoked is not heard, in a log that holds only its delivery', async () => {
    const path = join(temporaryFolder(), 'swarm.jsonl');
    await using hearing = await openLog(path, { key: listener });
    const message = signRecord(said('x'), planner);
    await hearing.append(heard(message));
    const report = await verifyLog(path, { keyring: keyring({ leaf: message.leaf }) });
    expect(report.findings.map(({ at, code }) => [at.line, code])).toEqual([[1, 'revoked-key']]);
  });
});

test('a new key beside the old one takes over: old records and new ones count', async () => {
  const path = join(temporaryFolder(), 'swarm.jsonl');
  const old = await openLog(path, { key: planner });
  const first = await old.append(said('x'));
  await old.close();
  await using log = await openLog(path, { key: renewed });
  await log.append(said('y'));
  const revoked = { log: `swarm/${first.leaf.slice(0, 32)}`, size: 1 };
  expect(await verifyLog(path, { keyring: keyring(revoked) })).toMatchObject({ verified: 2, bad: 0 });
});

test('a revocation whose place is not in the log is told, for the key counts here', async () => {
  const path = join(temporaryFolder(), 'swarm.jsonl');
  await using log = await openLog(path, { key: planner });
  await log.append(said('x'));
  const elsewhere = keyring({ leaf: 'ab'.repeat(32) as Sha256Hex });
  const report = await verifyLog(path, { keyring: elsewhere });
  expect(report).toMatchObject({ verified: 1, bad: 0, notRevokedHere: [planner.publicKey] });
  expect((await verifyLog(path, { keyring: keyring(undefined) })).notRevokedHere).toEqual([]);
});
