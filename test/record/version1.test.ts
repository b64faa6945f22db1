import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { encodeBase64 } from '../../src/base/encoding.ts';
import { canonicalMembers, printCanonical } from '../../src/record/canonical.ts';
import { printLine } from '../../src/record/line.ts';
import { signRecord } from '../../src/record/sign.ts';
import { isVersion1, verifyVersion1 } from '../../src/record/version1.ts';
import { version1Line as lineOf } from '../support/version1.ts';
import { key, otherKey } from './arbitrary.ts';
import { recordVectors, version1Lines } from './vectors.ts';

/** `text`, an object, in canonical form, or why it has none. */
function canonical(text: string): string {
  const members = canonicalMembers(Buffer.from(text));
  return typeof members === 'string' ? `refused: ${members}` : printCanonical(members);
}

describe.skipIf(version1Lines === undefined)('lines of a second implementation', () => {
  const lines = version1Lines ?? [];

  test('are version 1, and verify', () => {
    expect(lines.length).toBe(3);
    for (const line of lines) {
      expect(isVersion1(line)).toBe(true);
      expect(verifyVersion1(line)).toMatchObject({ ok: true, record: { threadId: 'demo-thread' } });
    }
  });

  test('do not verify with any one bit flipped', () => {
    for (const line of lines.map((text) => Buffer.from(text))) {
      for (let bit = 0; bit < line.length * 8; bit++) {
        const changed = Buffer.from(line);
        changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        if (verifyVersion1(changed).ok)
          expect.fail(`bit ${bit & 7} of byte ${bit >> 3} can be flipped: ${changed}`);
      }
    }
  });

  test('do not verify cut short', () => {
    for (const line of lines) {
      for (let end = 0; end < line.length; end++) expect(verifyVersion1(line.slice(0, end)).ok).toBe(false);
    }
  });
});

test.each([
  ['names by code point', '{"b":1,"a":2,"":3,"a\\u0000":4}', '{"":3,"a":2,"a\\u0000":4,"b":1}'],
  [
    'names past the basic plane after all of it',
    '{"\\ud83d\\udc1d":1,"\\uff5e":2}',
    '{"\\uff5e":2,"\\ud83d\\udc1d":1}',
  ],
  [
    'lone surrogates before the end of the basic plane',
    '{"\\uffff":1,"\\ud83d":2,"\\ud83d\\udc1d":3}',
    '{"\\ud83d":2,"\\uffff":1,"\\ud83d\\udc1d":3}',
  ],
  ['numbers of names as text', '{"10":1,"9":2,"-1":3}', '{"-1":3,"10":1,"9":2}'],
  [
    'names that mean something to JavaScript',
    '{"toString":1,"__proto__":{"z":1,"a":2},"constructor":3}',
    '{"__proto__":{"a":2,"z":1},"constructor":3,"toString":1}',
  ],
])('%s are sorted', (_, text, form) => {
  expect(canonical(text)).toBe(form);
});

test.each([
  ['-0', '-0'],
  ['-0.0', '-0.0'],
  ['1e+16', '1e+16'],
  ['1E5', '1E5'],
  ['1e5', '1e5'],
  ['0.10', '0.10'],
  ['1152921504606846976', '1152921504606846976'],
  ['1e400', '1e400'],
  ['[1, 2,3 ]', '[1,2,3]'],
  ['[ ]', '[]'],
  ['[{"b":1,"a":2},{ }]', '[{"a":2,"b":1},{}]'],
  ['[1,[ 2],3]', '[1,[2],3]'],
  ['[1, {"b":[], "a":[ ]}]', '[1,{"a":[],"b":[]}]'],
  ['null', 'null'],
  ['"\\u0041\\/\\u000a\\u001f"', '"A/\\n\\u001f"'],
  ['"\\b\\f\\n\\r\\t\\"\\\\"', '"\\b\\f\\n\\r\\t\\"\\\\"'],
  ['"zażółć \u{1f41d} \u007f"', '"za\\u017c\\u00f3\\u0142\\u0107 \\ud83d\\udc1d \\u007f"'],
  ['"\\ud800\\\\u00AB"', '"\\ud800\\\\u00AB"'],
])('the payload %s is signed as %s', (payload, form) => {
  expect(canonical(`{"payload":${payload}}`)).toBe(`{"payload":${form}}`);
  expect(canonical(`{"payload":${form}}`)).toBe(`{"payload":${form}}`);
  expect(verifyVersion1(lineOf(payload, form))).toMatchObject({
    ok: true,
    record: { payload: Buffer.from(form) },
  });
  expect(verifyVersion1(lineOf(payload, `${form} `))).toMatchObject({ problem: 'payload-mismatch' });
});

test('what is canonical stays as it is, and says what the text said', () => {
  fc.assert(
    fc.property(
      fc.dictionary(fc.string({ unit: 'binary' }), fc.jsonValue(), { noNullPrototype: true }),
      (value) => {
        const form = canonical(JSON.stringify(value, undefined, 0));
        expect(form).toMatch(/^[ -~]*$/);
        expect(JSON.parse(form)).toEqual(JSON.parse(JSON.stringify(value)));
        expect(canonical(form)).toBe(form);
      },
    ),
    { numRuns: 500 },
  );
});

describe('a line is malformed', () => {
  const line = lineOf('{"a":[1,2]}', undefined, ',"version":1');
  const edit = (from: string | RegExp, to: string): string => {
    const edited = line.replace(from, () => to);
    if (edited === line) throw new Error(`${from} is not in the line`);
    return edited;
  };
  const refused: Record<string, string> = {
    'of no bytes': '',
    'that is an array': '[]',
    'that is an empty object': '{}',
    'that is followed by another': `${line}{}`,
    'with a repeated name': edit('"kind"', '"payload":{},"kind"'),
    'with a repeated name, said the same': edit('"version":1', '"version":1,"version":1'),
    'with a repeated name in its payload': edit('{"a":', '{"a":1,"a":'),
    'with a name repeated by way of an escape': edit('{"a":', '{"\\u0061":[1,2],"a":'),
    'with an escape in uppercase': edit('[1,2]', '"\\u00AB"'),
    'with a tab between members': edit('"kind"', '\t"kind"'),
    'with CR at its end': `${line}\r`,
    'with LF at its end': `${line}\n`,
    'with a comma too many': edit('[1,2]', '[1,2,]'),
    'with a comma too many in an object': edit('[1,2]}', '[1,2],}'),
    'with a comma alone': edit('[1,2]', '[,]'),
    'with a number that Python alone reads': edit('[1,2]', 'NaN'),
    'with half a surrogate pair': edit('[1,2]', '"\ud800"'),
    'nested deeper than 512': edit('[1,2]', '['.repeat(512) + ']'.repeat(512)),
    'of version 2': edit('"version":1', '"version":2'),
    'of version 1.0': edit('"version":1', '"version":1.0'),
    'of version "1"': edit('"version":1', '"version":"1"'),
    'without a payload': edit('"payload":{"a":[1,2]},', ''),
    'without a signature': edit(/,"sig_b64":"[^"]*"/, ''),
    'with a signature of 63 bytes': edit(
      /"sig_b64":"[^"]*"/,
      `"sig_b64":"${encodeBase64(Buffer.alloc(63))}"`,
    ),
    'with a key that is none': edit(key.publicKey, 'x'),
    'with a hash in uppercase': edit(/"payload_hash":"[^"]*"/, `"payload_hash":"${'AB'.repeat(32)}"`),
    'with a time that is a text': edit('1761742380738047001', '"1761742380738047001"'),
    'with a subject that is a number': edit('"thread.demo.x"', '1'),
  };

  test.each(Object.entries(refused))('%s', (_, text) => {
    expect(verifyVersion1(line).ok).toBe(true);
    expect(verifyVersion1(text)).toMatchObject({ ok: false, problem: 'malformed' });
  });

  test('or signed by someone else, or in another spelling of its signature', () => {
    expect(verifyVersion1(edit(key.publicKey, otherKey.publicKey))).toMatchObject({
      problem: 'bad-signature',
    });
    const stray = (end: string): string => `${String.fromCharCode(end.charCodeAt(0) + 1)}=="`;
    expect(verifyVersion1(line.replace(/.=="/, stray))).toMatchObject({ problem: 'bad-signature' });
    expect(verifyVersion1(edit('[1,2]', '[1,3]'))).toMatchObject({ problem: 'bad-signature' });
    expect(verifyVersion1(edit('[1,2]', '[1,2.0]'))).toMatchObject({ problem: 'bad-signature' });
  });
});

test('a line is of version 1 if it is an object that says so, or names no version', () => {
  const line = lineOf('1');
  for (const text of [
    line,
    lineOf('1', '1', ',"version":1'),
    '{}',
    '{"version":1}',
    '{ "a" : {"version":2} }',
  ]) {
    expect(isVersion1(text), text).toBe(true);
    expect(isVersion1(Buffer.from(text)), text).toBe(true);
  }
  const record = printLine(
    signRecord({ subject: 'a.b', kind: 'X', payload: Buffer.from('{"version":1}') }, key),
  );
  for (const text of [
    record,
    '',
    'hello',
    '[]',
    '1',
    '{"version":2}',
    '{"version":1.0}',
    '{"version":null}',
    line.slice(1),
    record.slice(0, 300),
  ]) {
    expect(isVersion1(text), text).toBe(false);
  }
  expect(isVersion1(record.replace('"version":2', '"version":1'))).toBe(true);
  for (const accepted of recordVectors?.accepted ?? []) expect(isVersion1(accepted.line)).toBe(false);
});

test('a hostile line of megabytes is answered', () => {
  for (const text of [
    '['.repeat(5e6),
    `{"a":[${'{},'.repeat(1e6)}{}]}`,
    `{"a":"${'\\n'.repeat(3e6)}"}`,
    '{"a":'.repeat(1e6),
  ]) {
    expect(verifyVersion1(text)).toMatchObject({ ok: false, problem: 'malformed' });
  }
});
