import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { encodeBase64 } from '../../src/base/encoding.ts';
import { parsePublicKey, SigningKey } from '../../src/identity/key.ts';
import {
  checkNote,
  isKeyName,
  type Note,
  noteKey,
  parseNote,
  parseNoteKey,
  printNote,
  printNoteKey,
  signNote,
} from '../../src/merkle/note.ts';
import { readVectors, vectorsAreHere } from '../support/vectors.ts';

const alice = SigningKey.fromSeed(Buffer.alloc(32, 1));
const bob = SigningKey.fromSeed(Buffer.alloc(32, 2));
const aliceKey = noteKey('example.com/alice', alice.publicKey);
const bobKey = noteKey('example.com/bob', bob.publicKey);

const text = 'One line,\n\nand another: ä — 😀.\n';
const signed = signNote(text, aliceKey.name, alice);

/** Reads a note that must be one. */
function read(input: string | Uint8Array): Note {
  const parsed = parseNote(input);
  if (!parsed.ok) throw new Error(parsed.detail);
  return parsed.note;
}

const signedByBoth = signNote(read(signed), bobKey.name, bob);

test('a note says who signed it, and prints as it was read', () => {
  const note = read(signedByBoth);
  expect(note.text).toBe(text);
  expect(printNote(note)).toBe(signedByBoth);
  expect(read(Buffer.from(signedByBoth))).toEqual(note);
  expect(checkNote(note, [bobKey, aliceKey])).toEqual({ ok: true, signers: [bobKey, aliceKey] });
  expect(checkNote(note, [bobKey])).toEqual({ ok: true, signers: [bobKey] });
  expect(checkNote(note, [])).toMatchObject({ ok: false, problem: 'unknown-key' });
});

test('signing again replaces the key’s own signature and keeps the others', () => {
  expect(signNote(read(signed), aliceKey.name, alice)).toBe(signed);
  const again = read(signNote(read(signedByBoth), aliceKey.name, alice));
  expect(again.signatures.map(({ name }) => name)).toEqual([bobKey.name, aliceKey.name]);
  const renamed = read(signNote(read(signed), 'other', alice));
  expect(renamed.signatures.map(({ name }) => name)).toEqual([aliceKey.name, 'other']);
});

test('any text that a note may have is signed and found again', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 200 }), fc.boolean(), (random, blank) => {
      const body = `${random.replaceAll(/\p{Cc}/gu, '\n')}${blank ? '\n' : ''}\n`;
      const note = read(signNote(body, aliceKey.name, alice));
      expect(note.text).toBe(body);
      expect(checkNote(note, [aliceKey]).ok).toBe(true);
    }),
  );
});

test('a byte that is changed anywhere leaves no signature of a known key', () => {
  const bytes = Buffer.from(signed);
  for (let at = 0; at < bytes.length; at++) {
    for (const mask of [0x01, 0x20, 0x80]) {
      const changed = Buffer.from(bytes);
      changed[at] = (changed[at] ?? 0) ^ mask;
      const parsed = parseNote(changed);
      if (parsed.ok && checkNote(parsed.note, [aliceKey]).ok) expect.fail(`byte ${at} ^ ${mask}`);
    }
  }
});

describe('signatures', () => {
  const { signatures } = read(signedByBoth);
  const [byAlice, byBob] = signatures;
  if (byAlice === undefined || byBob === undefined) throw new Error('not signed');
  const wrong = { ...byAlice, signature: Buffer.from(byAlice.signature).fill(1, 0, 8) };
  const keys = [aliceKey, bobKey];
  const problemOf = (note: Note, known = keys): string => {
    const checked = checkNote(note, known);
    return checked.ok ? 'none' : checked.problem;
  };

  test.each([
    ['a known key signed wrongly', [wrong], 'bad-signature'],
    ['a known key signed wrongly beside another that signed well', [byBob, wrong], 'bad-signature'],
    ['a known key signed well and then wrongly', [byAlice, wrong], 'bad-signature'],
    ['the signature is shorter', [{ ...byAlice, signature: byAlice.signature.subarray(1) }], 'bad-signature'],
    ['the signature is another key’s', [{ ...byAlice, signature: byBob.signature }], 'bad-signature'],
    ['the name is another', [{ ...wrong, name: 'example.com/eve' }], 'unknown-key'],
    ['the id is another', [{ ...wrong, keyId: 7 }], 'unknown-key'],
    ['an unknown key signed beside a known one', [{ ...wrong, keyId: 7 }, byBob], 'none'],
    ['the same signature stands twice', [byAlice, byAlice], 'none'],
  ])('where %s', (_, found, problem) => {
    const note = read(printNote({ text, signatures: found }));
    expect(problemOf(note)).toBe(problem);
  });

  test('a signer is named once', () => {
    const note = { text, signatures: [byAlice, byAlice] };
    expect(checkNote(note, keys)).toEqual({ ok: true, signers: [aliceKey] });
  });

  test('of two known keys with one name and id, either may have signed', () => {
    const twin = { ...bobKey, name: aliceKey.name, keyId: aliceKey.keyId };
    expect(checkNote({ text, signatures: [byAlice] }, [twin, aliceKey])).toEqual({
      ok: true,
      signers: [aliceKey],
    });
    expect(problemOf({ text, signatures: [byAlice] }, [twin])).toBe('bad-signature');
  });
});

const line = signed.slice(signed.lastIndexOf('\n\n') + 2);
const [, , base64 = ''] = line.trimEnd().split(' ');

const notNotes: Readonly<Record<string, string | Uint8Array>> = {
  'nothing is there': '',
  'there is no blank line': `text\n${line}`,
  'there is no text': `\n${line}`,
  'there is no signature': 'text\n\n',
  'the last line feed is missing': `text\n\n${line.trimEnd()}`,
  'a blank line follows': `text\n\n${line}\n`,
  'two blank lines follow': `text\n\n${line}\n\n`,
  'something follows the signatures': `text\n\n${line}more\n`,
  'the dash is a hyphen': `text\n\n${line.replace('—', '-')}`,
  'the dash is an en dash': `text\n\n${line.replace('—', '–')}`,
  'two spaces follow the dash': `text\n\n${line.replace('— ', '—  ')}`,
  'two spaces follow the name': `text\n\n${line.replace(` ${base64}`, `  ${base64}`)}`,
  'a space ends the line': `text\n\n${line.trimEnd()} \n`,
  'there is no name': `text\n\n— ${base64}\n`,
  'the name has a plus': `text\n\n— a+b ${base64}\n`,
  'the name has a no-break space': `text\n\n— a\u00a0b ${base64}\n`,
  'the name has an ideographic space': `text\n\n— a\u3000b ${base64}\n`,
  'the base64 has no padding': `text\n\n— a ${base64.replace(/=+$/, '')}\n`,
  'the base64 is of the URL alphabet': 'text\n\n— a -_-_-_-_\n',
  'the base64 has stray bits': 'text\n\n— a AAAAAAB=\n',
  'there is no more than an id': 'text\n\n— a AAAAAA==\n',
  'there is less than an id': 'text\n\n— a AAAA\n',
  'the text has a tab': `te\txt\n\n${line}`,
  'the text has a carriage return': `text\r\n\n${line}`,
  'the text has a NUL': `te\0xt\n\n${line}`,
  'the signature has a carriage return': `text\n\n${line.trimEnd()}\r\n`,
  'the text is not UTF-8': Buffer.concat([Buffer.of(0x80), Buffer.from(signed)]),
  'the text has half a surrogate pair': `\ud800\n\n${line}`,
  'there are 101 signatures': `text\n\n${line.repeat(101)}`,
  'it is over 1 MiB': `${'x'.repeat(1 << 20)}\n\n${line}`,
};

test.each(Object.entries(notNotes))('it is not a note where %s', (_, input) => {
  const parsed = parseNote(input);
  expect(parsed).toEqual({ ok: false, detail: expect.stringMatching(/^[a-z].*[^.]$/) });
});

test('a note may have 100 signatures, a name in any script, and a byte order mark that is part of it', () => {
  expect(read(`text\n\n${line.repeat(100)}`).signatures).toHaveLength(100);
  const name = 'пример.рф/журнал';
  expect(read(signNote(text, name, alice)).signatures[0]?.name).toBe(name);
  expect(read(Buffer.from(`\ufeff${signed}`)).text).toBe(`\ufeff${text}`);
});

test('no bytes make reading a note throw', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => typeof parseNote(bytes).ok === 'boolean'),
  );
  const pieces = fc.constantFrom('\n', '\n\n', '— ', 'a', ' ', '=', base64, line, '\t', '\ud800');
  fc.assert(
    fc.property(fc.array(pieces), (parts) => typeof parseNote(parts.join('')).ok === 'boolean'),
    { numRuns: 500 },
  );
});

test.each(['text', 'text\n\n— a AAAAAAA=', 'te\txt\n', '\ud800\n', '', 'x\n\ny'])(
  '%j cannot be signed',
  (body) => {
    expect(() => signNote(body, aliceKey.name, alice)).toThrow(expect.objectContaining({ code: 'USAGE' }));
  },
);

test.each(['', 'a b', 'a+b', 'a\nb', 'a\u2003b', 'a\0b', '\ud800'])('%j is not the name of a key', (name) => {
  expect(isKeyName(name)).toBe(false);
  expect(() => noteKey(name, alice.publicKey)).toThrow(expect.objectContaining({ code: 'USAGE' }));
  expect(() => signNote(text, name, alice)).toThrow(expect.objectContaining({ code: 'USAGE' }));
});

describe('a key as text', () => {
  const vkey = printNoteKey(aliceKey);

  test('is read as it was printed', () => {
    expect(vkey).toMatch(/^example\.com\/alice\+[0-9a-f]{8}\+A[Q-Z]/);
    expect(parseNoteKey(vkey)).toEqual(aliceKey);
  });

  const [name = '', id = '', encoded = ''] = vkey.split('+');
  test.each([
    ['', 'it is not name'],
    [`${name}+${encoded}`, 'it is not name'],
    [`+${id}+${encoded}`, 'it is not name'],
    [`a b+${id}+${encoded}`, 'it is not name'],
    [`${name}+${id.toUpperCase().replace(/^./, 'F')}+${encoded}`, 'it is not name'],
    [`${name}+${id}+${encoded}=`, 'it is not name'],
    [`${name}+${id}+${encoded}\n`, 'it is not name'],
    [`${name}x+${id}+${encoded}`, 'its hash is'],
    [`${name}+00000000+${encoded}`, 'its hash is'],
    [`${name}+${id}+${encodeBase64(Buffer.alloc(32, 1))}`, 'it is not of Ed25519'],
    [`${name}+${id}+${encodeBase64(Buffer.alloc(33, 2))}`, 'it is not of Ed25519'],
    [`${name}+${id}+AQ==`, 'it is not of Ed25519'],
  ])('%j is refused: %s', (bad, reason) => {
    expect(() => parseNoteKey(bad)).toThrow(
      expect.objectContaining({ code: 'KEY_MALFORMED', message: expect.stringContaining(reason) }),
    );
  });
});

interface NoteVectors {
  readonly keys: Readonly<Record<'peter_vkey' | 'peter_skey' | 'enoch_vkey' | 'spec_vkey', string>> & {
    readonly bad_vkeys: readonly string[];
  };
  readonly sign: readonly {
    readonly text: string;
    readonly peter_line?: string;
    readonly enoch_line?: string;
    readonly spec_line?: string;
  }[];
  readonly sumdb_real_checkpoint: { readonly vkey: string; readonly note: string };
}

describe.skipIf(!vectorsAreHere)('the notes of other people', () => {
  const vectors: NoteVectors | undefined = vectorsAreHere
    ? readVectors<NoteVectors>('public/notes/note_vectors.json')
    : undefined;
  if (vectors === undefined) return;
  const { keys, sign, sumdb_real_checkpoint: real } = vectors;

  test('are signed by whom they say', () => {
    for (const { text: body, peter_line: peter, enoch_line: enoch, spec_line: spec } of sign) {
      const lines = [peter, enoch, spec].filter((found) => found !== undefined);
      const vkeys = [peter && keys.peter_vkey, enoch && keys.enoch_vkey, spec && keys.spec_vkey];
      const known = vkeys
        .filter((vkey) => vkey !== undefined && vkey !== '')
        .map((vkey) => parseNoteKey(vkey ?? ''));
      const whole = `${body}\n${lines.join('')}`;
      expect(lines.length).toBeGreaterThan(0);
      expect(checkNote(read(whole), known)).toEqual({ ok: true, signers: known });
      expect(printNote(read(whole))).toBe(whole);
    }
  });

  test('are signed by us as by them', () => {
    const [first] = sign;
    if (first?.peter_line === undefined) throw new Error('no note of Peter’s');
    const seed = Buffer.from(keys.peter_skey.split('+').slice(4).join('+'), 'base64').subarray(1);
    const peter = SigningKey.fromSeed(seed);
    expect(printNoteKey(noteKey('PeterNeumann', peter.publicKey))).toBe(keys.peter_vkey);
    expect(signNote(first.text, 'PeterNeumann', peter)).toBe(`${first.text}\n${first.peter_line}`);
    const enochs = read(`${first.text}\n${first.enoch_line}`);
    expect(signNote(enochs, 'PeterNeumann', peter)).toBe(
      `${first.text}\n${first.enoch_line}${first.peter_line}`,
    );
  });

  test('have keys that print as they were read, and bad keys are refused', () => {
    for (const vkey of [keys.peter_vkey, keys.enoch_vkey, keys.spec_vkey, real.vkey]) {
      const key = parseNoteKey(vkey);
      expect(printNoteKey(key)).toBe(vkey);
      expect(parsePublicKey(key.publicKey)).toBe(key.publicKey);
    }
    expect(keys.bad_vkeys.length).toBeGreaterThan(0);
    for (const bad of keys.bad_vkeys) {
      expect(() => parseNoteKey(bad)).toThrow(expect.objectContaining({ code: 'KEY_MALFORMED' }));
    }
  });

  test('include a checkpoint of sum.golang.org', () => {
    const key = parseNoteKey(real.vkey);
    expect(checkNote(read(real.note), [key])).toEqual({ ok: true, signers: [key] });
    const changed = real.note.replace('35225469', '35225468');
    expect(checkNote(read(changed), [key])).toMatchObject({ ok: false, problem: 'bad-signature' });
  });
});
