import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { sha256Hex } from '../../src/base/encoding.ts';
import { isHeaderText, leafOf, parseHeader, printHeader } from '../../src/record/header.ts';
import { headers } from './arbitrary.ts';

const leaf = 'ab'.repeat(32);
const plain =
  `{"ts_ns":1730216238594927800,"thread_id":"demo","subject":"thread.demo.planner","kind":"TOOL.CALL",` +
  `"payload_hash":"${leaf}","version":2,"session":"${'0f'.repeat(16)}","seq":0,"prev":"${'0'.repeat(64)}",` +
  `"sig_pk_b64":"yLmhfaS3Su3aFhsQb9SMEdncbv2bp53JuMJwIG8Tf3I="}`;
const full = plain
  .replace(',"session"', ',"swarm":"acme.prod","session"')
  .replace(
    ',"sig_pk_b64"',
    `,"cause":"${leaf}","refs":["${leaf}"],"trace":"00-${'1'.repeat(32)}-${'2'.repeat(16)}-01",` +
      `"delivery":{"stream":"S","seq":1,"consumer":"","attempt":1},"reason":"slow","step":"llm:plan",` +
      `"meta":{"a":"1","b":"2"},"sig_pk_b64"`,
  );

test('a printed header reads back as it was, and what is read prints as it was', () => {
  fc.assert(
    fc.property(headers, (header) => {
      const text = printHeader(header);
      const read = parseHeader(text);
      expect(read).toEqual(header);
      expect(read && printHeader(read)).toBe(text);
      expect(isHeaderText(text)).toBe(true);
    }),
    { numRuns: 500 },
  );
});

test('a header without a character of it is never another header', () => {
  for (const text of [plain, full]) {
    const original = parseHeader(text);
    expect(original).toBeDefined();
    for (let at = 0; at < text.length; at++) {
      const shorter = text.slice(0, at) + text.slice(at + 1);
      const read = parseHeader(shorter);
      if (read !== undefined) expect(read).not.toEqual(original);
    }
  }
});

test('the leaf is the hash of a zero byte and the header', () => {
  expect(leafOf(plain)).toBe(sha256Hex(Buffer.concat([Buffer.of(0), Buffer.from(plain)])));
});

const edit = (from: string | RegExp, to: string): string => {
  const edited = full.replace(from, to);
  if (edited === full) throw new Error(`${from} is not in the header`);
  return edited;
};

describe('a header does not parse', () => {
  const refused: Record<string, string> = {
    'that is empty': '',
    'with a line feed after it': `${full}\n`,
    'with a space before it': ` ${full}`,
    'that is only part of the text': `${full}}`,
    'with white space between members': edit('","subject"', '", "subject"'),
    'with an unknown member': edit('"session"', '"x":1,"session"'),
    'with members in another order': edit(/("reason":"slow"),("step":"llm:plan")/, '$2,$1'),
    'with a member twice': edit('"version":2', '"version":2,"version":2'),
    'with an escape': edit('planner', '\\u0070lanner'),
    'with a letter outside ASCII': edit('planner', 'płanner'),
    'whose time has a leading zero': edit('"ts_ns":1', '"ts_ns":01'),
    'whose time is past 2^63-1': edit('1730216238594927800', '9223372036854775808'),
    'whose time is negative': edit('"ts_ns":', '"ts_ns":-'),
    'whose time has a fraction': edit('1730216238594927800', '1730216238594927800.0'),
    'whose time has an exponent': edit('1730216238594927800', '1e18'),
    'whose seq is past 2^53-1': edit('"seq":0', '"seq":9007199254740992'),
    'whose seq has a leading zero': edit('"seq":0', '"seq":00'),
    'whose version has a leading zero': edit('"version":2', '"version":02'),
    'whose version is negative': edit('"version":2', '"version":-2'),
    'whose version is a text': edit('"version":2', '"version":"2"'),
    'whose subject has one token': edit('thread.demo.planner', 'thread'),
    'whose subject has an empty token': edit('thread.demo.planner', 'thread..planner'),
    'whose subject has a wildcard': edit('thread.demo.planner', 'thread.demo.*'),
    'whose subject has 17 tokens': edit('thread.demo.planner', Array(17).fill('t').join('.')),
    'whose subject has 256 bytes': edit('thread.demo.planner', `thread.${'x'.repeat(249)}`),
    "whose thread_id is not the subject's": edit('"thread_id":"demo"', '"thread_id":"other"'),
    'whose kind is in lowercase': edit('TOOL.CALL', 'tool.call'),
    'whose kind has 33 characters': edit('TOOL.CALL', 'K'.repeat(33)),
    'whose hash is in uppercase': edit(`"payload_hash":"${leaf}"`, `"payload_hash":"${leaf.toUpperCase()}"`),
    'whose session is short': edit('0f0f', '0f0'),
    'whose swarm is empty': edit('acme.prod', ''),
    'whose swarm has 65 characters': edit('acme.prod', 's'.repeat(65)),
    'with no refs in refs': edit(`["${leaf}"]`, '[]'),
    'with 17 refs': edit(`["${leaf}"]`, JSON.stringify(Array(17).fill(leaf))),
    'with a trace of zeros': edit('1'.repeat(32), '0'.repeat(32)),
    'with a parent span of zeros': edit('2'.repeat(16), '0'.repeat(16)),
    'with a trace of a later version': edit('"00-', '"01-'),
    'whose delivery has number 0': edit('"stream":"S","seq":1', '"stream":"S","seq":0'),
    'whose delivery has a number past 2^53-1': edit(
      '"stream":"S","seq":1',
      '"stream":"S","seq":9007199254740992',
    ),
    'whose delivery is attempt 0': edit('"attempt":1', '"attempt":0'),
    'whose delivery is attempt 10^9': edit('"attempt":1', '"attempt":1000000000'),
    'whose delivery has no stream': edit('"stream":"S"', '"stream":""'),
    'whose reason has 65 characters': edit('"slow"', `"${'r'.repeat(65)}"`),
    'whose step has a space': edit('llm:plan', 'llm plan'),
    'whose meta is empty': edit('{"a":"1","b":"2"}', '{}'),
    'whose meta repeats a key': edit('{"a":"1","b":"2"}', '{"a":"1","a":"2"}'),
    'whose meta does not ascend': edit('{"a":"1","b":"2"}', '{"b":"1","a":"2"}'),
    'whose meta has nine pairs': edit(
      '{"a":"1","b":"2"}',
      `{${[...'abcdefghi'].map((name) => `"${name}":"1"`).join(',')}}`,
    ),
    'whose meta has a value of 129 characters': edit('"b":"2"', `"b":"${'v'.repeat(129)}"`),
    'whose key is short': edit('Tf3I=', 'Tf3='),
    'whose key has stray bits': edit('Tf3I=', 'Tf3J='),
    'whose key has no padding': edit('Tf3I=', 'Tf3I'),
  };

  test.each(Object.entries(refused))('%s', (_, text) => {
    expect(parseHeader(full)).toBeDefined();
    expect(parseHeader(text)).toBeUndefined();
  });
});

test.each([
  ['the latest time', edit('1730216238594927800', '9223372036854775807')],
  ['the largest seq', edit('"seq":0', '"seq":9007199254740991')],
  ['a subject of 255 bytes', edit('thread.demo.planner', `thread.demo.${'x'.repeat(243)}`)],
  ['a kind of 32 characters', edit('TOOL.CALL', 'K'.repeat(32))],
  ['a swarm of 64 characters', edit('acme.prod', 's'.repeat(64))],
  ['a version that nobody knows', edit('"version":2', '"version":12345678901234567890')],
  ['sixteen refs', edit(`["${leaf}"]`, JSON.stringify(Array(16).fill(leaf)))],
])('a header may have %s', (_, text) => {
  expect(parseHeader(text)).toBeDefined();
});

test('a header that breaks the rule of its kind is still a header text, for the tree', () => {
  const text = plain.replace('TOOL.CALL', 'BUS.DELIVER');
  expect(parseHeader(text)).toBeUndefined();
  expect(isHeaderText(text)).toBe(true);
  expect(isHeaderText(plain.replace('1730216238594927800', '9223372036854775808'))).toBe(false);
});
