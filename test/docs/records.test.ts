/** The records that the documentation shows are real ones. */
import { createHash, hash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { SigningKey, verifySignature } from '../../src/identity/key.ts';
import { Keyring } from '../../src/identity/keyring.ts';
import { verifyRecord } from '../../src/record/line.ts';
import { verifyLog } from '../../src/verify/verify.ts';
import { temporaryFolder } from '../support/log.ts';
import { blockOf, codeIn, namesIn, tablesOf } from './markdown.ts';

const exampleLog = blockOf('docs/format.md', 'jsonl example');
const keyOf = (name: string): SigningKey =>
  SigningKey.fromSeed(createHash('sha256').update(`can-swarm test key ${name}`).digest());

test('the log of docs/format.md, section 9, verifies under the keys and with the root that it names', async () => {
  const path = join(temporaryFolder(), 'swarm.jsonl');
  writeFileSync(path, exampleLog);
  const agents = ['planner', 'listener'].map((name) => ({ name, keys: [{ record: keyOf(name).publicKey }] }));
  const report = await verifyLog(path, {
    keyring: Keyring.from({ version: 1, agents }, 'the example'),
    requirePayloads: true,
  });
  expect(report).toMatchObject({ verified: 4, bad: 0, counted: { unresolved: 0, flushCut: 0 } });
  const records = exampleLog.trimEnd().split('\n').map(verifyRecord);
  const facts = Object.fromEntries(
    tablesOf('docs/format.md', '').flatMap((rows) =>
      rows.map(([name = '', code = '']) => [name, codeIn(code)[0]]),
    ),
  );
  const leaves = records.map(({ record }) => record?.leaf ?? '');
  leaves.forEach((leaf, index) => {
    expect(facts[`leaf of line ${index + 1}`]).toBe(leaf);
  });
  expect(facts["root of the file's tree"]).toBe(report.trees[0]?.root);
  const flush = hash('sha256', Buffer.concat([Buffer.of(1), ...leaves.slice(2).map(fromHex)]), 'hex');
  expect(facts['root of the flush of lines 3 and 4']).toBe(flush);
  const signed = fromHex(facts['what is signed in line 1, in hex'] ?? '');
  const first = records[0]?.record;
  expect(
    verifySignature(keyOf('planner').publicKey, signed, Buffer.from(first?.signature ?? '', 'base64')),
  ).toBe(true);
});

test('the line of README.md verifies, and is explained member by member', () => {
  const line = blockOf('README.md', 'jsonl').trimEnd();
  expect(verifyRecord(line)).toMatchObject({
    ok: true,
    record: { header: { signer: keyOf('planner').publicKey } },
  });
  const tables = tablesOf('README.md', 'member');
  const members = [...line.matchAll(/"(\w+)":("[^"]*"|\d+|\{.*\}(?=\}$))/g)].filter(
    ([, name]) => name !== 'hello' && name !== 'n',
  );
  expect(namesIn(tables)).toEqual(Object.keys(JSON.parse(line)));
  for (const [index, [, here = '']] of (tables[0] ?? []).entries()) {
    const value = members[index]?.[2]?.replace(/^"|"$/g, '') ?? '';
    const [shown = ''] = codeIn(here);
    expect(value.startsWith(shown.replace(/…$/, ''))).toBe(true);
    if (!shown.endsWith('…')) expect(shown).toBe(value);
  }
});

function fromHex(text: string): Buffer {
  return Buffer.from(text, 'hex');
}
