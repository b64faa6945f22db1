import fc from 'fast-check';
import { expect, test } from 'vitest';
import { encodeBase64 } from '../../src/base/encoding.ts';
import { SigningKey } from '../../src/identity/key.ts';
import { openCheckpoint, signCheckpoint } from '../../src/merkle/checkpoint.ts';
import { parseProof, printProof } from '../../src/merkle/proof.ts';
import { checkInclusion } from '../../src/merkle/prove.ts';
import { inclusionPaths } from '../../src/merkle/tree.ts';
import { leavesOf } from './leaves.ts';

const key = SigningKey.fromSeed(Buffer.alloc(32, 1));
const leaves = leavesOf(100);
const { root, paths } = inclusionPaths(leaves);
const checkpoint = signCheckpoint({ origin: 'swarm.jsonl/0123', size: leaves.length, root }, key);
const index = 73;
const path = paths[index] ?? [];
const proof = { extra: Buffer.from('the line'), index, path, checkpoint };
const text = printProof(proof);

test('a proof is the lines of C2SP tlog-proof, and leads from a leaf to the checkpoint it holds', () => {
  expect(text).toBe(
    [
      'c2sp.org/tlog-proof@v1',
      `extra ${encodeBase64(Buffer.from('the line'))}`,
      'index 73',
      ...path.map(encodeBase64),
      '',
      checkpoint,
    ].join('\n'),
  );
  const parsed = parseProof(Buffer.from(text));
  expect(parsed).toEqual({ ok: true, proof });
  if (!parsed.ok) return;
  const opened = openCheckpoint(parsed.proof.checkpoint, [key.publicKey]);
  if (!opened.ok) throw new Error(opened.detail);
  const [leaf, other] = [leaves[index], leaves[index + 1]];
  if (leaf === undefined || other === undefined) throw new Error('no leaf');
  expect(checkInclusion(parsed.proof.path, leaf, parsed.proof.index, opened.checkpoint)).toBe(true);
  expect(checkInclusion(parsed.proof.path, other, parsed.proof.index, opened.checkpoint)).toBe(false);
});

test('any proof is read as it was printed', () => {
  const hash = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes));
  const bytes = fc.uint8Array({ minLength: 1 }).map((some) => Buffer.from(some));
  const any = fc.record(
    { extra: bytes, index: fc.maxSafeNat(), path: fc.array(hash), checkpoint: fc.constant(checkpoint) },
    { requiredKeys: ['index', 'path', 'checkpoint'] },
  );
  fc.assert(
    fc.property(any, (made) => {
      expect(parseProof(printProof(made))).toEqual({ ok: true, proof: made });
    }),
  );
});

const without = (line: string | RegExp): string => text.replace(line, '');
const [firstNode = ''] = path.map(encodeBase64);

const notProofs: Readonly<Record<string, string | Uint8Array>> = {
  'nothing is there': '',
  'the first line is another version’s': text.replace('@v1', '@v2'),
  'the first line is gone': without('c2sp.org/tlog-proof@v1\n'),
  'something stands before it': `\n${text}`,
  'a byte order mark stands before it': `\ufeff${text}`,
  'the index is gone': without('index 73\n'),
  'the index is there twice': text.replace('index 73', 'index 73\nindex 73'),
  'the index has a leading zero': text.replace('index 73', 'index 073'),
  'the index is negative': text.replace('index 73', 'index -1'),
  'the index is past 2^53': text.replace('index 73', 'index 9007199254740992'),
  'the index follows two spaces': text.replace('index 73', 'index  73'),
  'what is extra is empty': text.replace(/extra .*/, 'extra '),
  'what is extra is not base64': text.replace(/extra .*/, 'extra *'),
  'what is extra is not padded': text.replace(/extra .*/, 'extra AA'),
  'what is extra is there twice': text.replace(/extra .*\n/, '$&$&'),
  'what is extra follows the index': without(/extra .*\n/).replace('index 73', 'index 73\nextra AAAA'),
  'a node is short': text.replace(firstNode, firstNode.slice(4)),
  'a node is not base64': text.replace(firstNode, `${firstNode.slice(1)}*`),
  'a line ends with a carriage return': text.replace('index 73', 'index 73\r'),
  'a node ends with a carriage return': text.replace(firstNode, `${firstNode}\r`),
  'the path is longer than any': text.replace(firstNode, `${firstNode}\n`.repeat(64).trimEnd()),
  'the blank line is gone': text.replace('\n\n', '\n'),
  'there are two blank lines': text.replace('\n\n', '\n\n\n'),
  'the checkpoint is gone': text.slice(0, text.indexOf('\n\n') + 2),
  'the checkpoint is not signed': text.slice(0, text.lastIndexOf('\n\n') + 1),
  'the checkpoint is not one': text.replace('\n100\n', '\n0100\n'),
  'something follows the checkpoint': `${text}\n`,
  'it is not UTF-8': Buffer.concat([Buffer.from(text), Buffer.of(0xff)]),
};

test.each(Object.entries(notProofs))('it is not a proof where %s', (_, input) => {
  expect(parseProof(input)).toEqual({ ok: false, detail: expect.stringMatching(/^[a-z].*[^.]$/) });
});

test.each([
  ['an index that is none', { ...proof, index: -1 }],
  ['an index past 2^53', { ...proof, index: 2 ** 53 }],
  ['a node that is no hash', { ...proof, path: [Buffer.alloc(31)] }],
  ['nothing for extra', { ...proof, extra: Buffer.alloc(0) }],
  ['a checkpoint that is none', { ...proof, checkpoint: 'origin\n' }],
  ['a checkpoint after a blank line', { ...proof, checkpoint: `\n${checkpoint}` }],
])('a proof is not printed of %s', (_, bad) => {
  expect(() => printProof(bad)).toThrow(expect.objectContaining({ code: 'USAGE' }));
});

test('a proof may be of the one leaf of a log, whose path is empty', () => {
  const [leaf = Buffer.alloc(0)] = leaves;
  const alone = signCheckpoint({ origin: 'swarm.jsonl/0123', size: 1, root: leaf }, key);
  const one = { index: 0, path: [], checkpoint: alone };
  expect(parseProof(printProof(one))).toEqual({ ok: true, proof: one });
});

test('no bytes make reading a proof throw', () => {
  const pieces = fc.constantFrom(...text.split('\n'), '\n', '\n\n', 'index ', 'extra ', '\ud800', text);
  fc.assert(
    fc.property(fc.array(pieces), (parts) => typeof parseProof(parts.join('\n')).ok === 'boolean'),
    { numRuns: 500 },
  );
});
