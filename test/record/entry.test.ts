import { describe, expect, test } from 'vitest';
import { sha256, sha256Hex } from '../../src/base/encoding.ts';
import { CompactTree } from '../../src/merkle/tree.ts';
import { entryOfLine, leafOfLine } from '../../src/record/entry.ts';
import { linesBytes } from '../../src/record/line.ts';
import { signRecord } from '../../src/record/sign.ts';
import { key } from './arbitrary.ts';
import { logVectors } from './vectors.ts';

describe.skipIf(logVectors === undefined)("the trees of a second implementation's logs", () => {
  test.each(logVectors?.logs ?? [])('$name', ({ lines_hex, root }) => {
    const tree = new CompactTree();
    for (const hex of lines_hex) {
      const line = Buffer.from(hex, 'hex');
      if (line.length > 0) tree.append(Buffer.from(leafOfLine(line), 'hex'));
    }
    expect(tree.root().toString('hex')).toBe(root);
  });
});

const record = signRecord({ subject: 'thread.demo.x', kind: 'BUS.PUBLISH', payload: Buffer.from('1') }, key);
const line = linesBytes([record]).toString().trimEnd();

test('the entry of a record is its header, whatever follows it', () => {
  for (const text of [
    line,
    line.replace('"payload":1', '"payload":2'),
    line.replace(/"sig_b64":".*/, '"sig_b64":"'),
  ]) {
    expect(entryOfLine(Buffer.from(text)).toString()).toBe(record.text);
    expect(leafOfLine(Buffer.from(text))).toBe(record.leaf);
  }
});

test('the entry of a header that breaks the rule of its kind is the header', () => {
  const text = line.replace('BUS.PUBLISH', 'BUS.DELIVER');
  expect(entryOfLine(Buffer.from(text)).toString()).toBe(record.text.replace('BUS.PUBLISH', 'BUS.DELIVER'));
});

test.each([
  ['is torn before its signature', line.slice(0, 300)],
  ['has a header with a space in it', line.replace('"seq":0', '"seq": 0')],
  ['has a time past 2^63-1', line.replace(/"ts_ns":\d+/, '"ts_ns":9223372036854775808')],
  ['begins with a space', ` ${line}`],
  ['is not a record', 'hello'],
  ['names the signature alone', ',"sig_b64":"'],
  ['is one byte that is not UTF-8', Buffer.of(0xff)],
])('the entry of a line that %s is its hash', (_, text) => {
  const bytes = Buffer.from(text as string);
  expect(entryOfLine(bytes)).toEqual(sha256(bytes));
  expect(leafOfLine(bytes)).toBe(sha256Hex(Buffer.concat([Buffer.of(0), sha256(bytes)])));
});
