import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isJsonText } from '../../src/record/payload.ts';

const is = (text: string): boolean => isJsonText(Buffer.from(text));

/** The rule by way of the platform's own parser. */
function isJsonBy(text: string): boolean {
  if (/[\r\n]/.test(text)) return false;
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

const json: string[] = [
  '{"hello":"world","n":1}',
  '[]',
  '{}',
  '""',
  '0',
  '-0',
  '-1.5e-7',
  '1E+9',
  '1e999999',
  '123456789012345678901234567890.123456789012345678901234567890',
  'true',
  'false',
  'null',
  ' \t[ 1 , { "a" : [ ] , "b" : { } } ]\t ',
  '{"a":1,"a":1}',
  '"\\ud800 alone"',
  '"\\u0000\\b\\f\\n\\r\\t\\"\\\\\\/"',
  '"\u007f\u2028\u{1f41d}\uffff"',
  '{"":{"":[[[]]]}}',
];

const notJson: string[] = [
  '',
  ' ',
  '{',
  '}',
  '[',
  ']',
  '[}',
  '{]',
  '[1,]',
  '[,1]',
  '[1 2]',
  '[1,,2]',
  '{,}',
  '{"a"}',
  '{"a":}',
  '{"a":1,}',
  '{"a":1 "b":2}',
  '{"a":1,,"b":2}',
  '{1:2}',
  '{a:1}',
  "{'a':1}",
  '{"a":1}}',
  '[1]]',
  '1 2',
  '{}{}',
  '1,"kind":"X"',
  '01',
  '-',
  '-01',
  '+1',
  '.5',
  '5.',
  '1.e3',
  '1e',
  '1e+',
  '0x10',
  'NaN',
  'Infinity',
  'nul',
  'nulll',
  'True',
  'truefalse',
  '"',
  '"\\',
  '"\\"',
  '"\\x41"',
  '"\\u12"',
  '"\\u12g4"',
  '"\\u123',
  '"tab\there"',
  '"nul\0"',
  '\ufeff1',
  '1\ufeff',
  '\u00a01',
  '1\f',
  '[1,\n2]',
  '{}\r',
  '{}\n',
  '"a\nb"',
  '// comment\t1',
];

test.each(json)('a payload that is %j stands in the line as it is', (text) => {
  expect(is(text)).toBe(true);
});

test.each(notJson)('a payload that is %j goes into base64', (text) => {
  expect(is(text)).toBe(false);
});

describe('of bytes that are not UTF-8', () => {
  test.each([
    ['a lone continuation byte', [0x22, 0x80, 0x22]],
    ['an overlong quote', [0x22, 0xc0, 0xa2, 0x22]],
    ['half a surrogate pair', [0x22, 0xed, 0xa0, 0x80, 0x22]],
    ['a character cut short', [0x22, 0xe2, 0x82, 0x22]],
    ['a code point past U+10FFFF', [0x22, 0xf4, 0x90, 0x80, 0x80, 0x22]],
  ])('%s is not JSON text', (_, bytes) => {
    expect(isJsonText(Uint8Array.from(bytes))).toBe(false);
  });
});

test('512 levels are JSON text, 513 are not, of whatever they are', () => {
  for (const [open, close] of [
    ['[', ']'],
    ['{"a":', '}'],
    ['[{"a":', '}]'],
  ] as const) {
    const unit = open.length === 6 ? 2 : 1;
    const nested = (levels: number): string => open.repeat(levels / unit) + 1 + close.repeat(levels / unit);
    expect(is(nested(512))).toBe(true);
    expect(is(nested(512 + unit))).toBe(false);
  }
  expect(is('['.repeat(512) + ']'.repeat(512))).toBe(true);
  expect(is('['.repeat(513) + ']'.repeat(513))).toBe(false);
  expect(is(`[${'['.repeat(511)}${']'.repeat(511)},${'['.repeat(511)}${']'.repeat(511)}]`)).toBe(true);
  expect(is(JSON.stringify('['.repeat(1000)))).toBe(true);
  expect(is('['.repeat(1_000_000))).toBe(false);
});

test('a payload of millions of empty objects is checked without building them', () => {
  const before = process.memoryUsage().heapUsed;
  expect(isJsonText(Buffer.from(`[${'{},'.repeat(4_000_000)}1]`))).toBe(true);
  expect(process.memoryUsage().heapUsed - before).toBeLessThan(50e6);
});

test('what is JSON text is what JSON.parse takes, without line breaks', () => {
  const pieces = fc.array(
    fc.constantFrom(
      '{',
      '}',
      '[',
      ']',
      ',',
      ':',
      '"',
      '"a"',
      '\\',
      'u00',
      '0',
      '1',
      '-',
      '.',
      'e',
      '+',
      'null',
      'true',
      ' ',
      '\t',
      '\n',
      'é',
    ),
    { maxLength: 12 },
  );
  const edited = fc
    .tuple(fc.json(), fc.nat(), fc.constantFrom('', ',', '"', '}', '[', '\\', '0', ' '))
    .map(([text, at, piece]) => {
      const place = at % (text.length + 1);
      return text.slice(0, place) + piece + text.slice(place + 1);
    });
  fc.assert(
    fc.property(
      fc.oneof(
        fc.json(),
        edited,
        pieces.map((some) => some.join('')),
      ),
      (text) => {
        fc.pre(!/\p{Surrogate}/u.test(text));
        expect(is(text)).toBe(isJsonBy(text));
      },
    ),
    { numRuns: 5000 },
  );
});
