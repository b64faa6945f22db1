/** Proofs of single records: each holds, and nothing else does. */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { Sha256Hex } from '../../src/base/encoding.ts';
import { SigningKey } from '../../src/identity/key.ts';
import { Keyring } from '../../src/identity/keyring.ts';
import type { Revocation } from '../../src/identity/keyring-file.ts';
import { closedSegments } from '../../src/log/files.ts';
import { openLog } from '../../src/log/writer.ts';
import {
  checkRecordProof,
  type FoundLine,
  findLine,
  proveLine,
  type RecordName,
} from '../../src/verify/prove.ts';
import { checkpointBeside, checkpointKey, keyringOf, writeSealed } from '../log/sealed.ts';
import { linesOf, said, temporaryFolder } from '../support/log.ts';

const planner = SigningKey.generate();
const clerk = SigningKey.generate();
const keyring = keyringOf({ planner, clerk });

async function found(path: string, name: RecordName): Promise<FoundLine> {
  const line = await findLine(path, name);
  if (line === undefined) throw new Error('not found');
  return line;
}

async function sealed(count: number, rotateBytes?: number): Promise<string> {
  const path = join(temporaryFolder(), 'swarm.jsonl');
  await writeSealed(path, count, planner, rotateBytes === undefined ? {} : { rotateBytes });
  return path;
}

const codesOf = (proof: string | Uint8Array, ring = keyring): string[] =>
  checkRecordProof(proof, ring).faults.map(({ code }) => code);

test('every record of a log of 600 in several files is proved, with its payload and without', async () => {
  const path = await sealed(600, 150_000);
  const files = [...closedSegments(path), path];
  expect(files.length).toBeGreaterThan(2);
  let number = 0;
  for (const file of files) {
    for (const [index, line] of linesOf(file).entries()) {
      const record = await found(path, { file, line: index + 1 });
      expect(record).toMatchObject({ file, line: index + 1, index });
      const proof = checkRecordProof(await proveLine(record), keyring);
      expect(proof).toMatchObject({ faults: [], index, checkpoint: checkpointBeside(file, planner) });
      expect(proof.record?.payload?.toString()).toBe(`{"text":"number ${number}"}`);
      expect(line).toContain(`number ${number}`);
      const silent = checkRecordProof(await proveLine(record, { withholdPayload: true }), keyring);
      expect(silent.faults).toEqual([]);
      expect(silent.record?.payload).toBeUndefined();
      expect(silent.record?.leaf).toBe(proof.record?.leaf);
      number += 1;
    }
  }
  expect(number).toBe(600);
});

test('a record is found by its leaf, in whichever file it is, and one that is none is not', async () => {
  const path = await sealed(60, 10_000);
  const [first = ''] = closedSegments(path);
  const record = await found(path, { file: first, line: 4 });
  expect(await findLine(path, { leaf: record.leaf })).toEqual(record);
  expect(await findLine(path, { leaf: 'ab'.repeat(32) as Sha256Hex })).toBeUndefined();
  expect(await findLine(path, { file: first, line: 1_000 })).toBeUndefined();
});

test('no byte of a proof can be changed unseen', async () => {
  const path = await sealed(20);
  for (const withholdPayload of [false, true]) {
    const proof = Buffer.from(
      await proveLine(await found(path, { file: path, line: 11 }), { withholdPayload }),
    );
    expect(codesOf(proof)).toEqual([]);
    const unseen: string[] = [];
    for (const mask of [0x01, 0x20, 0x80]) {
      for (let at = 0; at < proof.length; at += 1) {
        const changed = Buffer.from(proof);
        changed[at] = (changed[at] ?? 0) ^ mask;
        if (codesOf(changed).length === 0) unseen.push(`byte ${at} with ${mask}`);
      }
    }
    expect(unseen).toEqual([]);
  }
});

test('no proof can be cut, or lengthened, unseen', async () => {
  const path = await sealed(20);
  const proof = Buffer.from(await proveLine(await found(path, { file: path, line: 11 })));
  for (let end = 0; end < proof.length; end += 1)
    expect(codesOf(proof.subarray(0, end)), `cut at ${end}`).not.toEqual([]);
  expect(codesOf(Buffer.concat([proof, Buffer.from('\n')]))).not.toEqual([]);
});

test('one record’s proof is not another’s', async () => {
  const path = await sealed(20);
  const [one = '', other = ''] = await Promise.all(
    [11, 12].map(async (line) => proveLine(await found(path, { file: path, line }))),
  );
  const lineOf = (proof: string): string => /^extra .*$/m.exec(proof)?.[0] ?? '';
  expect(codesOf(one.replace(lineOf(one), lineOf(other)))).toEqual(['proof-mismatch']);
  expect(codesOf(one.replace('index 10', 'index 11'))).toEqual(['proof-mismatch']);
  expect(codesOf(one.replace(/^extra .*\n/m, ''))).toEqual(['proof-malformed']);
});

test('a record that no checkpoint has yet is not proved', async () => {
  const path = await sealed(5);
  await using log = await openLog(path, { key: planner });
  const { leaf } = await log.append(said('later'));
  await expect(proveLine(await found(path, { leaf }))).rejects.toMatchObject({ code: 'NOT_SEALED' });
  const never = join(temporaryFolder(), 'swarm.jsonl');
  await using other = await openLog(never, { key: planner });
  const first = await other.append(said('x'));
  await expect(proveLine(await found(never, { leaf: first.leaf }))).rejects.toMatchObject({
    code: 'NOT_SEALED',
  });
});

test('a proof is nothing to who does not know its key, or knows that it is revoked', async () => {
  const path = join(temporaryFolder(), 'swarm.jsonl');
  await writeSealed(path, 20, planner, { key: checkpointKey(clerk) });
  const record = await found(path, { file: path, line: 11 });
  const proof = await proveLine(record);
  const { origin } = checkpointBeside(path, clerk);
  const without = (revoked: Revocation): Keyring =>
    Keyring.from(
      {
        version: 1,
        agents: [
          { name: 'planner', publish: ['>'], keys: [{ record: planner.publicKey, revoked }] },
          { name: 'clerk', keys: [{ record: clerk.publicKey, checkpoint: checkpointKey(clerk).publicKey }] },
        ],
      },
      'the keyring of the test',
    );
  expect(codesOf(proof)).toEqual([]);
  expect(codesOf(proof, keyringOf({ clerk }))).toEqual(['unknown-key']);
  expect(codesOf(proof, keyringOf({ planner }))).toEqual(['checkpoint-unknown-key']);
  expect(codesOf(proof, without({ leaf: record.leaf }))).toEqual(['revoked-key']);
  expect(codesOf(proof, without({ leaf: 'ab'.repeat(32) as Sha256Hex }))).toEqual(['revoked-key']); // who knows
  expect(codesOf(proof, without({ log: origin, size: 10 }))).toEqual(['revoked-key']);
  expect(codesOf(proof, without({ log: origin, size: 11 }))).toEqual([]);
});

test('a proof whose checkpoint was signed by a key that was revoked before its end is refused', async () => {
  const path = join(temporaryFolder(), 'swarm.jsonl');
  await writeSealed(path, 20, planner, { key: checkpointKey(clerk) });
  const proof = await proveLine(await found(path, { file: path, line: 11 }));
  const { origin } = checkpointBeside(path, clerk);
  const ring = (size: number): Keyring =>
    Keyring.from(
      {
        version: 1,
        agents: [
          { name: 'planner', publish: ['>'], keys: [{ record: planner.publicKey }] },
          {
            name: 'clerk',
            keys: [
              {
                record: clerk.publicKey,
                checkpoint: checkpointKey(clerk).publicKey,
                revoked: { log: origin, size },
              },
            ],
          },
        ],
      },
      'the keyring of the test',
    );
  expect(codesOf(proof, ring(20))).toEqual([]);
  expect(codesOf(proof, ring(19))).toEqual(['checkpoint-revoked-key']);
});

test('a record is proved out of the segment it is in, closed or not by then', async () => {
  const path = await sealed(10);
  const record = await found(path, { file: path, line: 3 });
  await writeSealed(path, 10, planner, { rotateBytes: 3_000 });
  expect(closedSegments(path).length).toBeGreaterThan(1);
  expect(checkRecordProof(await proveLine(record), keyring)).toMatchObject({ faults: [], index: 2 });
});
