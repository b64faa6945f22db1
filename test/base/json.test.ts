import fc from 'fast-check';
import { expect, test } from 'vitest';
import { describeJsonFault, printJsonPath, repeatedMembers } from '../../src/base/json.ts';

test.each<[string, string, string[]]>([
  ['at the top', '{"a":1,"a":2}', ['a']],
  ['with equal values', '{"a":1,"a":1}', ['a']],
  ['under another spelling', '{"a":1,"\\u0061":1}', ['a']],
  ['in an object of an array', '{"x":[1,{"b":{},"c":[2,3],"b":{}}]}', ['x[1].b']],
  ['three times', '{"a":1,"a":2,"a":3}', ['a', 'a']],
  ['with white space before the colon', '{"a" : 1 , "a"\n: 2}', ['a']],
  ['named __proto__', '{"__proto__":1,"__proto__":1}', ['__proto__']],
  ['named nothing', '{"":1,"":2}', ['[""]']],
])('a name repeated %s is found', (_, text, paths) => {
  expect(repeatedMembers(text)).toEqual(paths);
});

test.each<[string, string]>([
  ['the same name in two objects', '[{"a":1},{"a":1}]'],
  ['the same name inside itself', '{"a":{"a":{"a":1}}}'],
  ['equal strings in an array', '["a","a"]'],
  ['a value that looks like members', '{"a":"\\"b\\":1,\\"b\\":2","c":"}","d":"{"}'],
  ['names that inherit', '{"toString":1,"constructor":2}'],
  ['a bare string', '"a:a"'],
])('%s is no repetition', (_, text) => {
  expect(repeatedMembers(text)).toEqual([]);
});

test('nothing that JSON.stringify prints holds a repetition, and every doubled member is found', () => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.string(), (value, name) => {
      const text = JSON.stringify(value);
      expect(repeatedMembers(text)).toEqual([]);
      const member = `${JSON.stringify(name)}:${text}`;
      expect(repeatedMembers(`[${text},{${member},${member}}]`)).toEqual([printJsonPath([1, name])]);
    }),
  );
});

test.each([
  ['', 'line 1, column 1: Unexpected end'],
  ['{', 'line 1, column 2: Expected property name'],
  ['{\n  "a": 1,\n  }', 'line 3, column 3: Expected double-quoted property name'],
  ['[\n 1,\n x]', "line 3, column 2: Unexpected token 'x'"],
  ['[1,,2]', "line 1, column 4: Unexpected token ','"],
  ['{"a": 1\n "b": 2}', "line 2, column 2: Expected ',' or '}'"],
  [`{\n"a": "${'x'.repeat(100)}",\n"b": ?}`, "line 3, column 6: Unexpected token '?'"],
  ['{}\n// x', 'line 2, column 1: Unexpected non-whitespace character'],
])('the place of the fault in %j is told', (text, begin) => {
  const told = describeJsonFault(text);
  expect(told.slice(0, begin.length)).toBe(begin);
  expect(told).not.toMatch(/position|JSON(?! input)/);
});
