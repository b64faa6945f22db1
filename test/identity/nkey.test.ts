import { createAccount, createUser, fromPublic } from '@nats-io/nkeys';
import { expect, test } from 'vitest';
import { generateKey } from '../../src/identity/key.ts';
import { parseNkey, printNkey } from '../../src/identity/nkey.ts';

const encoder = new TextEncoder();

test('a signature of ours verifies under the NKey we print, in NATS’s own library', () => {
  for (let round = 0; round < 50; round++) {
    const key = generateKey();
    const message = encoder.encode(`nonce ${round}`);
    const nkey = printNkey(key.publicKey);
    expect(fromPublic(nkey).verify(message, key.sign(message))).toBe(true);
    expect(fromPublic(nkey).getPublicKey()).toBe(nkey);
    expect(parseNkey(nkey)).toBe(key.publicKey);
  }
});

test('an NKey that NATS’s own library made is read, and printed as it was', () => {
  for (let round = 0; round < 50; round++) {
    const nkey = createUser().getPublicKey();
    expect(printNkey(parseNkey(nkey))).toBe(nkey);
  }
});

test('every change of one character of an NKey is refused', () => {
  const nkey = printNkey(generateKey().publicKey);
  for (let index = 0; index < nkey.length; index++) {
    for (const other of 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567') {
      if (other === nkey[index]) continue;
      const changed = nkey.slice(0, index) + other + nkey.slice(index + 1);
      expect(() => parseNkey(changed)).toThrow(expect.objectContaining({ code: 'KEY_MALFORMED' }));
    }
  }
});

const good = printNkey(generateKey().publicKey);
test.each<[string, string]>([
  ['nothing', ''],
  ['lower case', good.toLowerCase()],
  ['padding', `${good}====`],
  ['white space', `${good}\n`],
  ['a character too few', good.slice(0, -1)],
  ['a character outside the alphabet', `${good.slice(0, -1)}1`],
  ['an account’s prefix', createAccount().getPublicKey()],
  ['a secret seed’s prefix', new TextDecoder().decode(createUser().getSeed())],
])('an NKey with %s is refused', (_, text) => {
  expect(() => parseNkey(text)).toThrow(expect.objectContaining({ code: 'KEY_MALFORMED' }));
});
