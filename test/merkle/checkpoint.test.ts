import fc from 'fast-check';
import { expect, test } from 'vitest';
import { encodeBase64, sha256 } from '../../src/base/encoding.ts';
import { SigningKey } from '../../src/identity/key.ts';
import {
  type Checkpoint,
  openCheckpoint,
  parseCheckpoint,
  printCheckpoint,
  signCheckpoint,
} from '../../src/merkle/checkpoint.ts';
import { parseNote, signNote } from '../../src/merkle/note.ts';
import { readVectors, vectorsAreHere } from '../support/vectors.ts';

const key = SigningKey.fromSeed(Buffer.alloc(32, 1));
const witness = SigningKey.fromSeed(Buffer.alloc(32, 2));
const root = sha256(Buffer.from('root'));
const checkpoint: Checkpoint = { origin: 'swarm.jsonl/0123456789abcdef', size: 1234, root };
const signed = signCheckpoint(checkpoint, key);

test('a checkpoint is three lines and a signature under its origin', () => {
  expect(printCheckpoint(checkpoint)).toBe(`${checkpoint.origin}\n1234\n${encodeBase64(root)}\n`);
  expect(signed.startsWith(`${printCheckpoint(checkpoint)}\n— ${checkpoint.origin} `)).toBe(true);
  expect(openCheckpoint(signed, [witness.publicKey, key.publicKey])).toEqual({
    ok: true,
    checkpoint,
    signers: [key.publicKey],
  });
  expect(openCheckpoint(Buffer.from(signed), [key.publicKey])).toMatchObject({ ok: true, checkpoint });
});

test('a checkpoint that a witness signed too opens with the log’s key', () => {
  const note = parseNote(signed);
  if (!note.ok) throw new Error(note.detail);
  const witnessed = signNote(note.note, 'witness.example', witness);
  expect(openCheckpoint(witnessed, [key.publicKey])).toMatchObject({ ok: true, signers: [key.publicKey] });
  expect(openCheckpoint(witnessed, [witness.publicKey])).toMatchObject({ ok: false, problem: 'unknown-key' });
  const twoKeys = signNote(note.note, checkpoint.origin, witness);
  expect(openCheckpoint(twoKeys, [witness.publicKey, key.publicKey])).toMatchObject({
    ok: true,
    signers: [witness.publicKey, key.publicKey],
  });
});

test.each([
  ['its size is changed', signed.replace('\n1234', '\n1235'), 'bad-signature'],
  ['its origin is changed', signed.replace('swarm', 'storm'), 'unknown-key'],
  ['its origin is changed in both places', signed.replaceAll('swarm', 'storm'), 'unknown-key'],
  ['a line is added', signed.replace('\n\n', '\nmore\n\n'), 'bad-signature'],
  ['its size is not one', signed.replace('\n1234', '\n01234'), 'malformed'],
  ['its signature is gone', signed.slice(0, signed.indexOf('—')), 'malformed'],
  ['it is signed by another', signCheckpoint(checkpoint, witness), 'unknown-key'],
])('a checkpoint does not open when %s', (_, text, problem) => {
  expect(openCheckpoint(text, [key.publicKey])).toEqual({ ok: false, problem, detail: expect.any(String) });
});

test('extension lines of other logs are read, and printed', () => {
  const extended = { ...checkpoint, extensions: ['extra one', 'extra two'] };
  expect(parseCheckpoint(printCheckpoint(extended))).toEqual({ ok: true, checkpoint: extended });
  expect(openCheckpoint(signCheckpoint(extended, key), [key.publicKey])).toMatchObject({
    checkpoint: extended,
  });
});

test('any checkpoint is read as it was printed', () => {
  const line = fc.string({ unit: 'binary', minLength: 1 }).filter((text) => !text.includes('\n'));
  const any = fc.record({
    origin: line,
    size: fc.maxSafeNat(),
    root: fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes)),
    extensions: fc.array(line, { minLength: 1, maxLength: 3 }),
  });
  fc.assert(
    fc.property(any, (made) => {
      expect(parseCheckpoint(printCheckpoint(made))).toEqual({ ok: true, checkpoint: made });
    }),
  );
});

const hash = encodeBase64(root);

test.each([
  '',
  '\n',
  'origin\n',
  'origin\n1\n',
  `origin\n1\n${hash}`,
  `\n1\n${hash}\n`,
  `origin\n\n${hash}\n`,
  `origin\n1\n${hash}\n\n`,
  `origin\n1\n${hash}\n\nmore\n`,
  `origin\n01\n${hash}\n`,
  `origin\n+1\n${hash}\n`,
  `origin\n-1\n${hash}\n`,
  `origin\n1.0\n${hash}\n`,
  `origin\n1e3\n${hash}\n`,
  `origin\n 1\n${hash}\n`,
  `origin\n١\n${hash}\n`,
  `origin\n9007199254740992\n${hash}\n`,
  `origin\n18446744073709551615\n${hash}\n`,
  `origin\n1\n${hash.slice(4)}\n`,
  `origin\n1\n${hash.replace('=', '')}\n`,
  `origin\n1\n${hash} \n`,
  `origin\n1\n${encodeBase64(Buffer.alloc(33))}\n`,
])('%j is not a checkpoint', (text) => {
  expect(parseCheckpoint(text)).toEqual({ ok: false, detail: expect.stringMatching(/^[a-z].*[^.]$/) });
});

test.each([
  { ...checkpoint, size: -1 },
  { ...checkpoint, size: 2 ** 53 },
  { ...checkpoint, size: 0.5 },
  { ...checkpoint, size: 1e21 },
  { ...checkpoint, origin: '' },
  { ...checkpoint, origin: 'two\nlines' },
  { ...checkpoint, origin: `two\n12\n${hash}` },
  { ...checkpoint, origin: 'a space' },
  { ...checkpoint, root: Buffer.alloc(31) },
  { ...checkpoint, extensions: [''] },
  { ...checkpoint, extensions: ['two\nlines'] },
])('what cannot be a checkpoint is not signed', (bad) => {
  expect(() => signCheckpoint(bad, key)).toThrow(expect.objectContaining({ code: 'USAGE' }));
});

interface NoteVectors {
  readonly tree: { readonly golden: string };
  readonly sumdb_real_checkpoint: { readonly note: string };
}

test.skipIf(!vectorsAreHere)('checkpoints of the go.sum database are read, and are not ours to open', () => {
  const vectors = readVectors<NoteVectors>('public/notes/note_vectors.json');
  const { golden } = vectors.tree;
  const parsed = parseCheckpoint(golden);
  expect(parsed).toEqual({
    ok: true,
    checkpoint: {
      origin: 'go.sum database tree',
      size: 123456789012,
      root: Buffer.from('TszzRgjTG6xce+z2AG31kAXYKBgQVtCSCE40HmuwBb0=', 'base64'),
    },
  });
  if (parsed.ok) expect(printCheckpoint(parsed.checkpoint)).toBe(golden);
  expect(openCheckpoint(vectors.sumdb_real_checkpoint.note, [key.publicKey])).toMatchObject({
    ok: false,
    problem: 'unknown-key',
  });
});
