/** What a whole log shows beyond its lines: segments, keyrings, revocation, withheld payloads. */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { SigningKey } from '../../src/identity/key.ts';
import { type AgentEntry, Keyring } from '../../src/identity/keyring.ts';
import { closedSegments } from '../../src/log/segment.ts';
import { openLog } from '../../src/log/writer.ts';
import { verifyLog } from '../../src/verify/verify.ts';
import { linesOf, logOf, said, temporaryFolder } from '../support/log.ts';

const planner = SigningKey.generate();

/** Writes a log of four segments, of three records each, and returns the files in order. */
async function segments(): Promise<{ path: string; files: string[] }> {
  const path = join(temporaryFolder(), 'swarm.jsonl');
  await using log = await openLog(path, { key: planner, rotateBytes: 1_800 });
  for (let n = 0; closedSegments(path).length < 3; n += 1) await log.append(said(`number ${n}`));
  return { path, files: [...closedSegments(path), path] };
}

describe('a log of several files', () => {
  test('is whole where each continues the one before', async () => {
    const { path } = await segments();
    expect(await verifyLog(path)).toMatchObject({ bad: 0, counted: { continues: 0 } });
  });

  test('without its first file says that it continues another', async () => {
    const { path, files } = await segments();
    rmSync(files[0] ?? '');
    expect(await verifyLog(path)).toMatchObject({ bad: 0, counted: { continues: 1 } });
  });

  test('without one from its middle names the file after the gap', async () => {
    const { path, files } = await segments();
    rmSync(files[1] ?? '');
    const { findings } = await verifyLog(path);
    expect(findings.map(({ code, at }) => [code, at.file, at.line])).toEqual([
      ['segment-missing', files[2], 1],
    ]);
  });

  test('whose closed segment lost its last line names the file after it', async () => {
    const { path, files } = await segments();
    const lines = linesOf(files[1] ?? '');
    writeFileSync(files[1] ?? '', `${lines.slice(0, -1).join('\n')}\n`);
    const { findings } = await verifyLog(path);
    expect(findings.map(({ code, at }) => [code, at.file, at.line])).toEqual([
      ['segment-missing', files[2], 1],
    ]);
  });

  test('with two files exchanged names both', async () => {
    const { path, files } = await segments();
    const [, second = '', third = ''] = files;
    renameSync(second, `${second}.kept`);
    renameSync(third, second);
    renameSync(`${second}.kept`, third);
    const { findings } = await verifyLog(path);
    expect(findings.map(({ code, at }) => [code, at.file])).toEqual([
      ['segment-missing', second],
      ['segment-missing', third],
      ['segment-missing', path],
    ]);
  });
});

describe('a withheld payload', () => {
  test('is counted, and a finding only where payloads are demanded', async () => {
    const path = await logOf(3, planner);
    const lines = linesOf(path);
    writeFileSync(path, `${lines.with(1, (lines[1] ?? '').replace(/,"payload":.*/, '}')).join('\n')}\n`);
    expect(await verifyLog(path)).toMatchObject({ verified: 3, bad: 0, counted: { withheld: 1 } });
    const { findings } = await verifyLog(path, { requirePayloads: true });
    expect(findings.map(({ code, at }) => [code, at.line])).toEqual([['payload-withheld', 2]]);
  });
});

describe('against a keyring', () => {
  const keyring = (agents: AgentEntry[], swarm?: string): Keyring =>
    Keyring.from({ version: 1, ...(swarm !== undefined && { swarm }), agents }, 'test');
  const codes = async (path: string, ring: Keyring): Promise<(string | number)[][]> =>
    (await verifyLog(path, { keyring: ring })).findings.map(({ code, at }) => [at.line, code]);

  test('a key that it does not hold is named on each line', async () => {
    const path = await logOf(2, planner);
    expect(await codes(path, keyring([]))).toEqual([
      [1, 'unknown-key'],
      [2, 'unknown-key'],
    ]);
  });

  test('a publish where the agent may not is named; elsewhere it may', async () => {
    const path = join(temporaryFolder(), 'swarm.jsonl');
    await using log = await openLog(path, { key: planner });
    await log.append(said('mine', 'thread.t.planner'));
    await log.append(said('not mine', 'thread.t.listener'));
    const ring = keyring([{ name: 'planner', keys: [{ record: planner.publicKey }] }]);
    expect(await codes(path, ring)).toEqual([[2, 'not-permitted']]);
  });

  test('a record of another swarm is named', async () => {
    const path = join(temporaryFolder(), 'swarm.jsonl');
    await using log = await openLog(path, { key: planner, swarm: 'staging' });
    await log.append(said('x'));
    const agents = [{ name: 'planner', keys: [{ record: planner.publicKey }] }];
    expect(await codes(path, keyring(agents, 'production'))).toEqual([[1, 'other-swarm']]);
    expect(await codes(path, keyring(agents, 'staging'))).toEqual([]);
    expect(await codes(path, keyring(agents))).toEqual([]);
  });

  test('a key counts up to the leaf from which it is revoked, and no further', async () => {
    const path = join(temporaryFolder(), 'swarm.jsonl');
    await using log = await openLog(path, { key: planner });
    await log.append(said('before'));
    const { leaf } = await log.append(said('the first that no longer counts'));
    await log.append(said('after'));
    const ring = keyring([{ name: 'planner', keys: [{ record: planner.publicKey, revoked: { leaf } }] }]);
    expect(await codes(path, ring)).toEqual([
      [2, 'revoked-key'],
      [3, 'revoked-key'],
    ]);
  });

  test("a key counts up to the size of the log's tree at which it is revoked", async () => {
    const path = join(temporaryFolder(), 'swarm.jsonl');
    await using log = await openLog(path, { key: planner });
    const { leaf } = await log.append(said('0'));
    await log.append(said('1'));
    await log.append(said('2'));
    const revoked = { log: `swarm.jsonl/${leaf.slice(0, 32)}`, size: 2 };
    const ring = keyring([{ name: 'planner', keys: [{ record: planner.publicKey, revoked }] }]);
    expect(await codes(path, ring)).toEqual([[3, 'revoked-key']]);
  });
});

test('the root of a file is that of its lines as they stand, whoever wrote them', async () => {
  const path = await logOf(7);
  const before = (await verifyLog(path)).trees[0];
  writeFileSync(path, `${readFileSync(path)}no record\n`);
  const after = (await verifyLog(path)).trees[0];
  expect([before?.size, after?.size]).toEqual([7, 8]);
  expect(after?.root).not.toBe(before?.root);
});
