import { describe, expect, test } from 'vitest';
import { parseHandover, printHandover, refuseSecrets } from '../../src/identity/handover.ts';
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

describe('a secret key that was pasted into a line', () => {
  const secret = key.exportSeed().toString('base64');
  const places: Record<string, string> = {
    'in place of the record key': `${name} ${secret} ${checkpoint} ${nkey}`,
    'in place of the checkpoint key': `${name} ${record} ${secret} ${nkey}`,
    'in place of the NKey': `${name} ${record} ${checkpoint} ${secret}`,
    'without its padding': `${name} ${secret.slice(0, -1)} ${checkpoint} ${nkey}`,
    'as the name': `${secret} ${record} ${checkpoint} ${nkey}`,
    'as an env file has it': `SWARM_SIGNING_SK_B64=${secret} SWARM_VERIFY_PK_B64=${record} ${record}`,
  };

  test.each(Object.entries(places))('%s, is known by what else stands there', (_, text) => {
    expect(() => refuseSecrets(text, () => false)).toThrow(
      expect.objectContaining({ code: 'KEY_IS_SECRET' }),
    );
  });

  test('alone is known by whose it is', () => {
    expect(() => refuseSecrets(`${name} ${secret}`, (known) => known === key.publicKey)).toThrow('word 2 ');
    expect(() => refuseSecrets(`${name} ${secret}`, () => false)).not.toThrow();
  });

  test.each([...Object.entries(places), ['alone', secret], ['in hex', key.exportSeed().toString('hex')]])(
    '%s, is not repeated in any error',
    (_, text) => {
      for (const read of [() => refuseSecrets(text, () => true), () => parseHandover(text)]) {
        const message = messageThrownBy(read);
        expect(message).not.toContain(secret.slice(0, 12));
        expect(message).not.toContain(key.exportSeed().toString('hex').slice(0, 12));
      }
    },
  );

  test('is not found where there are only public ones', () => {
    expect(() => refuseSecrets(line, (known) => known === key.publicKey)).not.toThrow();
  });
});

function messageThrownBy(work: () => unknown): string {
  try {
    work();
    return '';
  } catch (thrown) {
    return String(thrown);
  }
}
