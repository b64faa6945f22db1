/** One record explained: what `verifyLog` finds at a line is a step that does not hold. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { keyringOfOne } from '../../src/agent/self.ts';
import { SigningKey } from '../../src/identity/key.ts';
import { openLog } from '../../src/log/writer.ts';
import { explainLine } from '../../src/verify/explain.ts';
import { findLine } from '../../src/verify/prove.ts';
import { verifyLog } from '../../src/verify/verify.ts';
import { linesOf, logOf, said, temporaryFolder } from '../support/log.ts';
import { vectorPath } from '../support/vectors.ts';

test.each([
  ['in one file', false],
  ['in a later one', true],
])('a record of version 1 that stands after one of version 2, %s, is misplaced', async (_, isLater) => {
  const [one = '', two = '', three = ''] = linesOf(vectorPath('record-v1.jsonl'));
  const path = join(temporaryFolder(), 'swarm.jsonl');
  const first = isLater ? path.replace('.jsonl', '.000001.jsonl') : path;
  writeFileSync(first, `${one}\nno record\n${two}\n${readFileSync(await logOf(1), 'utf8')}`);
  writeFileSync(path, `${three}\n`, { flag: 'a' });
  const { findings } = await verifyLog(path);
  const line = isLater ? 1 : 5;
  expect(findings.map(({ code, at }) => [code, at.file, at.line])).toEqual([
    ['malformed', first, 2],
    ['misplaced', path, line],
  ]);
  const explained = async (file: string, line: number): Promise<string[]> => {
    const found = await findLine(path, { file, line });
    if (found === undefined) throw new Error('not found');
    const steps = await explainLine(path, found, undefined);
    return steps.filter(({ ok }) => !ok).map(({ name, sentence }) => `${name}: ${sentence}`);
  };
  expect(await explained(first, 1)).toEqual([]);
  expect(await explained(first, 3)).toEqual([]);
  expect(await explained(path, line)).toEqual([
    `chain: It stands after a record of version 2, at ${first}:4, where none of version 1 may.`,
  ]);
});

test('a torn line is excused by a recovery of somebody whom the keyring knows, and by no other', async () => {
  const key = SigningKey.generate();
  const path = join(temporaryFolder(), 'swarm.jsonl');
  writeFileSync(path, '{"ts_ns":17');
  await using log = await openLog(path, { key });
  await log.append(said('after the crash'));
  const explained = async (keyring: SigningKey): Promise<unknown> => {
    const found = await findLine(path, { file: path, line: 1 });
    return found && (await explainLine(path, found, keyringOfOne(keyring)))[0];
  };
  expect(await explained(key)).toMatchObject({ name: 'line', ok: true });
  expect(await explained(SigningKey.generate())).toMatchObject({ name: 'line', ok: false });
  writeFileSync(path, readFileSync(path, 'utf8').replace('"thread_id":"-"', '"thread_id":"x"'));
  expect(await explained(key)).toMatchObject({ name: 'line', ok: false });
});

test('a recovery excuses one torn line, and of several alike the last', async () => {
  const key = SigningKey.generate();
  const path = join(temporaryFolder(), 'swarm.jsonl');
  writeFileSync(path, '{"ts_ns":17');
  {
    await using log = await openLog(path, { key });
    await log.append(said('after the crash'));
  }
  writeFileSync(path, `{"ts_ns":17\n${readFileSync(path, 'utf8')}`);
  const { findings, counted } = await verifyLog(path);
  expect(findings.map(({ code, at }) => [code, at.line])).toEqual([['malformed', 1]]);
  expect(counted.recovered).toBe(1);
  for (const line of [1, 2]) {
    const found = await findLine(path, { file: path, line });
    const [step] = found === undefined ? [] : await explainLine(path, found, undefined);
    expect(step).toMatchObject({ name: 'line', ok: line === 2 });
  }
});

test('a forged record of version 2 puts none of version 1 out of its place', async () => {
  const forged = linesOf(await logOf(1))[0]?.replace('"seq":0', '"seq":7');
  const path = join(temporaryFolder(), 'swarm.jsonl');
  writeFileSync(path, `${forged}\n${linesOf(vectorPath('record-v1.jsonl'))[0]}\n`);
  const { findings } = await verifyLog(path);
  expect(findings.map(({ code, at }) => [code, at.line])).toEqual([['bad-signature', 1]]);
  const found = await findLine(path, { file: path, line: 2 });
  const steps = found === undefined ? [] : await explainLine(path, found, undefined);
  expect(steps.filter(({ ok }) => !ok)).toEqual([]);
});

test('a line whose signature does not hold is not what the next one of its session follows', async () => {
  const path = await logOf(3);
  const lines = linesOf(path);
  const forged = (lines[0] ?? '').replace('"seq":0', '"seq":7');
  writeFileSync(path, `${lines.toSpliced(2, 0, forged).join('\n')}\n`);
  const { findings } = await verifyLog(path);
  expect(findings.map(({ code, at }) => [code, at.line])).toEqual([['bad-signature', 3]]);
  const found = await findLine(path, { file: path, line: 4 });
  if (found === undefined) throw new Error('not found');
  const steps = await explainLine(path, found, undefined);
  expect(steps.filter(({ ok }) => !ok)).toEqual([]);
});
