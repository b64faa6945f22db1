import { expect, test } from 'vitest';
import { parseHandover, printHandover } from '../../src/identity/handover.ts';
import { generateKey } from '../../src/identity/key.ts';
import { printNkey } from '../../src/identity/nkey.ts';

const key = generateKey();
const line = printHandover('planner', key);
const [name = '', record = '', checkpoint = '', nkey = ''] = line.split(' ');

test('what is handed over is the name and the public key of each purpose, and nothing secret', () => {
  expect(parseHandover(line)).toEqual({
    name: 'planner',
    record: key.publicKey,
    checkpoint: key.derive('can-swarm/checkpoint/v1').publicKey,
    nkey: printNkey(key.derive('can-swarm/nkey/v1').publicKey),
  });
  expect(line).not.toContain(key.exportSeed().toString('base64'));
});

test('white space around the line is let pass', () => {
  expect(parseHandover(`  \t${line}\r\n`)).toEqual(parseHandover(line));
});

test.each<[string, string, string]>([
  ['nothing', '', 'USAGE'],
  ['three words', `${name} ${record} ${checkpoint}`, 'USAGE'],
  ['five words', `${line} more`, 'USAGE'],
  ['two lines', `${line}\n${line}`, 'USAGE'],
  ['two spaces', line.replace(' ', '  '), 'USAGE'],
  ['tabs', line.replaceAll(' ', '\t'), 'USAGE'],
  ['a name with a dot', `a.b ${record} ${checkpoint} ${nkey}`, 'USAGE'],
  ['a malformed record key', `${name} x ${checkpoint} ${nkey}`, 'KEY_MALFORMED'],
  ['a malformed checkpoint key', `${name} ${record} ${checkpoint.slice(1)} ${nkey}`, 'KEY_MALFORMED'],
  ['a malformed NKey', `${name} ${record} ${checkpoint} ${nkey.toLowerCase()}`, 'KEY_MALFORMED'],
  ['keys in another order', `${name} ${nkey} ${checkpoint} ${record}`, 'KEY_MALFORMED'],
])('a line of %s is refused', (_, text, code) => {
  expect(() => parseHandover(text)).toThrow(expect.objectContaining({ code }));
});

test.each(['', 'a b', 'a.b', 'ä', 'x'.repeat(65)])('no line is made for the name “%s”', (bad) => {
  expect(() => printHandover(bad, key)).toThrow(expect.objectContaining({ code: 'USAGE' }));
});
