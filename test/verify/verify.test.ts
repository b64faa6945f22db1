/** What a whole log shows beyond its lines: segments, keyrings, revocation, withheld payloads. */
import { appendFileSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, test } from 'vitest';
import type { Sha256Hex } from '../../src/base/encoding.ts';
import { SigningKey } from '../../src/identity/key.ts';
import { type AgentEntry, Keyring } from '../../src/identity/keyring.ts';
import { closedSegments } from '../../src/log/files.ts';
import { openLog } from '../../src/log/writer.ts';
import { leafOfLine } from '../../src/record/entry.ts';
import { signRecord } from '../../src/record/sign.ts';
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

  test('with the first line of one moved to the end of the one before names the line after it', async () => {
    const { path, files } = await segments();
    const [first = '', second = ''] = files;
    const [moved, ...others] = linesOf(second);
    appendFileSync(first, `${moved}\n`);
    writeFileSync(second, `${others.join('\n')}\n`);
    const { findings } = await verifyLog(path);
    expect(findings.map(({ code, at }) => [code, at.file, at.line])).toEqual([['chain-broken', second, 1]]);
  });

  test('whose last was still empty when two writers opened it is whole with and without its first', async () => {
    const path = await logOf(3, planner);
    const first = path.replace('.jsonl', '.000001.jsonl');
    renameSync(path, first);
    await using one = await openLog(path, { key: planner });
    await using other = await openLog(path, { key: planner });
    await one.append(said('one'));
    await other.append(said('other'));
    expect(await verifyLog(path)).toMatchObject({ verified: 5, bad: 0, counted: { continues: 0 } });
    rmSync(first);
    expect(await verifyLog(path)).toMatchObject({ verified: 2, bad: 0, counted: { continues: 1 } });
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

  test('a key is revoked from a line that another wrote, or nobody', async () => {
    const path = join(temporaryFolder(), 'swarm.jsonl');
    const listener = SigningKey.generate();
    await using log = await openLog(path, { key: planner });
    await log.append(said('before'));
    await using other = await openLog(path, { key: listener });
    const { leaf } = await other.append(said('other', 'thread.t.listener'));
    await log.append(said('after'));
    appendFileSync(path, 'no record\n');
    await log.append(said('at last'));
    const revokedAt = (from: Sha256Hex): Keyring =>
      keyring([
        { name: 'planner', keys: [{ record: planner.publicKey, revoked: { leaf: from } }] },
        { name: 'listener', keys: [{ record: listener.publicKey }] },
      ]);
    expect(await codes(path, revokedAt(leaf))).toEqual([
      [3, 'revoked-key'],
      [4, 'malformed'],
      [5, 'revoked-key'], // the recovery of the line before: it, too, counts no more
      [6, 'revoked-key'],
    ]);
    expect(await codes(path, revokedAt(leafOfLine(Buffer.from('no record'))))).toEqual([
      [4, 'malformed'],
      [5, 'revoked-key'],
      [6, 'revoked-key'],
    ]);
  });

  test('a key that is revoked where a segment ends is revoked in those after it', async () => {
    const { path, files } = await segments();
    const [, second = ''] = files.map((file) => linesOf(file)[0]);
    const size = linesOf(files[1] ?? '').length;
    const revoked = { log: `swarm.jsonl/${leafOfLine(Buffer.from(second)).slice(0, 32)}`, size };
    const ring = keyring([{ name: 'planner', keys: [{ record: planner.publicKey, revoked }] }]);
    const { findings } = await verifyLog(path, { keyring: ring });
    const after = files.slice(2).flatMap((file) => linesOf(file).map((_, index) => [file, index + 1]));
    expect(findings.map(({ at }) => [at.file, at.line])).toEqual(after);
    expect(new Set(findings.map(({ code }) => code))).toEqual(new Set(['revoked-key']));
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

test('what is kept of deliveries whose publish is not there is small beside their lines', async () => {
  const path = join(temporaryFolder(), 'swarm.jsonl');
  await using log = await openLog(path, { key: planner, durability: 'os' });
  const message = said('x'.repeat(12_000));
  await Promise.all(
    Array.from({ length: 2_000 }, (_, index) => {
      const received = signRecord(message, planner);
      const delivery = { stream: 'THREADS', seq: index + 1, consumer: 'd', attempt: 1 };
      return log.append({ ...message, kind: 'BUS.DELIVER', cause: received.leaf, received, delivery });
    }),
  );
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const heap: number[] = [];
  const onProgress = (): void => {
    collect();
    heap.push(process.memoryUsage().heapUsed);
  };
  const { counted } = await verifyLog(path, { onProgress });
  expect(counted.unresolved).toBe(2_000);
  expect((heap.at(-1) ?? 0) - (heap[0] ?? 0)).toBeLessThan(4 << 20); // of 27 MiB
});

test('the root of a file is that of its lines as they stand, whoever wrote them', async () => {
  const path = await logOf(7);
  const before = (await verifyLog(path)).trees[0];
  writeFileSync(path, `${readFileSync(path)}no record\n`);
  const after = (await verifyLog(path)).trees[0];
  expect([before?.size, after?.size]).toEqual([7, 8]);
  expect(after?.root).not.toBe(before?.root);
});
