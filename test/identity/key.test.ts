import { createHash, createPrivateKey, verify as opensslVerify, randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { format, inspect } from 'node:util';
import { serialize } from 'node:v8';
import { describe, expect, test } from 'vitest';
import { encodeBase64 } from '../../src/base/encoding.ts';
import { messageOf } from '../../src/base/errors.ts';
import {
  generateKey,
  type PublicKey,
  parsePublicKey,
  SigningKey,
  verifySignature,
} from '../../src/identity/key.ts';

const vectors = join(import.meta.dirname, '../../../shared/vectors');

function read<T>(path: string): T {
  return JSON.parse(readFileSync(join(vectors, path), 'utf8')) as T;
}

function publicKeyOf(hex: string): PublicKey {
  return encodeBase64(Buffer.from(hex, 'hex')) as PublicKey;
}

describe.skipIf(!existsSync(vectors))('other people’s vectors (skipped where the folder is absent)', () => {
  test('of the C2SP edge cases exactly the 43 without a fault are accepted', () => {
    interface Case {
      number: number;
      key: string;
      sig: string;
      msg: string;
      flags: string[] | null;
    }
    const faults = [
      'low_order_A',
      'low_order_R',
      'low_order_residue',
      'non_canonical_A',
      'non_canonical_R',
      'reencoded_k',
    ];
    const cases = read<Case[]>('public/c2sp-cctv-ed25519/ed25519/ed25519vectors.json');
    const wanted = cases
      .filter(({ flags }) => !faults.some((fault) => flags?.includes(fault)))
      .map(({ number }) => number);
    const accepted = cases
      .filter(({ key, sig, msg }) =>
        verifySignature(publicKeyOf(key), Buffer.from(msg), Buffer.from(sig, 'hex')),
      )
      .map(({ number }) => number);
    expect(cases).toHaveLength(914);
    expect(wanted).toHaveLength(43);
    expect(accepted).toEqual(wanted);
  });

  test('each of Wycheproof’s 151 signatures is judged as Wycheproof judges it', () => {
    interface Group {
      publicKey: { pk: string };
      tests: { tcId: number; msg: string; sig: string; result: 'valid' | 'invalid' }[];
    }
    const { testGroups } = read<{ testGroups: Group[] }>(
      'public/wycheproof/testvectors_v1/ed25519_test.json',
    );
    const judged = testGroups.flatMap(({ publicKey, tests }) =>
      tests.map(({ tcId, msg, sig, result }) => ({
        tcId,
        result,
        ours: verifySignature(publicKeyOf(publicKey.pk), Buffer.from(msg, 'hex'), Buffer.from(sig, 'hex'))
          ? 'valid'
          : 'invalid',
      })),
    );
    expect(judged).toHaveLength(151);
    expect(judged.filter(({ ours, result }) => ours !== result)).toEqual([]);
  });

  test('derived keys are those of a second implementation', () => {
    interface Derived {
      from: string;
      seed_hex: string;
      public_b64: string;
    }
    const { keys, derived } = read<{
      keys: Record<string, { seed_hex: string; sig_pk_b64: string }>;
      derived: Record<'can-swarm/checkpoint/v1' | 'can-swarm/nkey/v1', Derived>;
    }>('record-v2.json');
    for (const purpose of ['can-swarm/checkpoint/v1', 'can-swarm/nkey/v1'] as const) {
      const wanted = derived[purpose];
      const parent = SigningKey.fromSeed(Buffer.from(keys[wanted.from]?.seed_hex ?? '', 'hex'));
      expect(parent.publicKey).toBe(keys[wanted.from]?.sig_pk_b64);
      const key = parent.derive(purpose);
      expect(key.exportSeed().toString('hex')).toBe(wanted.seed_hex);
      expect(key.publicKey).toBe(wanted.public_b64);
    }
  });
});

describe('signing', () => {
  test('what is signed verifies, here and in OpenSSL, and with any one bit changed does not', () => {
    const key = generateKey();
    const message = randomBytes(100);
    const signature = key.sign(message);
    expect(signature).toHaveLength(64);
    expect(verifySignature(key.publicKey, message, signature)).toBe(true);

    const prefix = Buffer.from('302e020100300506032b657004220420', 'hex'); // PKCS #8 of an Ed25519 seed
    const pkcs8 = createPrivateKey({
      key: Buffer.concat([prefix, key.exportSeed()]),
      format: 'der',
      type: 'pkcs8',
    });
    expect(opensslVerify(null, message, pkcs8, signature)).toBe(true);

    for (let bit = 0; bit < 512; bit++) {
      const changed = Buffer.from(signature);
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(verifySignature(key.publicKey, message, changed)).toBe(false);
    }
    expect(verifySignature(key.publicKey, message.subarray(1), signature)).toBe(false);
    expect(verifySignature(generateKey().publicKey, message, signature)).toBe(false);
  });

  test.each([0, 1, 63, 65, 128])('a signature of %i bytes is not one, and does not throw', (length) => {
    const key = generateKey();
    const bytes = Buffer.concat([key.sign(Buffer.from('x')), Buffer.alloc(64)]).subarray(0, length);
    expect(verifySignature(key.publicKey, Buffer.from('x'), bytes)).toBe(false);
  });

  test('a key that only a cast made one verifies nothing, and does not throw', () => {
    for (const text of ['', 'AAAA', 'nonsense', encodeBase64(Buffer.alloc(33))]) {
      expect(verifySignature(text as PublicKey, Buffer.from('x'), Buffer.alloc(64))).toBe(false);
    }
  });

  test('checking goes on being right after more keys than the cache keeps', () => {
    const message = Buffer.from('many');
    const signed = Array.from({ length: 1500 }, (_, index) => {
      const key = SigningKey.fromSeed(createHash('sha256').update(String(index)).digest());
      return { key: key.publicKey, signature: key.sign(message) };
    });
    for (const round of [0, 1]) {
      for (const [index, { key, signature }] of signed.entries()) {
        expect(verifySignature(key, message, signature), `round ${round}, key ${index}`).toBe(true);
      }
    }
  });

  test('a key neither follows later changes to its seed nor lets its copy change it', () => {
    const seed = randomBytes(32);
    const key = SigningKey.fromSeed(seed);
    const before = key.sign(Buffer.from('x'));
    seed.fill(0);
    key.exportSeed().fill(0);
    expect(key.sign(Buffer.from('x'))).toEqual(before);
  });
});

describe('parsing', () => {
  const good = generateKey().publicKey;

  test('a public key parses to itself', () => {
    expect(parsePublicKey(good)).toBe(good);
  });

  test.each<[string, string]>([
    ['nothing', ''],
    ['31 bytes', encodeBase64(Buffer.alloc(31))],
    ['33 bytes', encodeBase64(Buffer.alloc(33))],
    ['no padding', good.slice(0, -1)],
    ['white space', `${good}\n`],
    ['stray bits', `${'A'.repeat(42)}B=`],
    ['the URL alphabet', `${'_'.repeat(42)}8=`],
    ['hex', 'ab'.repeat(32)],
  ])('a public key with %s is refused', (_, text) => {
    expect(() => parsePublicKey(text)).toThrow(expect.objectContaining({ code: 'KEY_MALFORMED' }));
  });

  test.each([0, 31, 33, 64])('a seed of %i bytes is refused', (length) => {
    expect(() => SigningKey.fromSeed(Buffer.alloc(length))).toThrow(
      expect.objectContaining({ code: 'KEY_MALFORMED' }),
    );
  });
});

describe('the secret', () => {
  const key = generateKey();
  const seed = key.exportSeed();
  const spellings = [
    seed.toString('hex'),
    seed.toString('base64'),
    seed.toString('base64url'),
    seed.subarray(0, 8).toString('hex'),
    [...seed.subarray(0, 6)].join(', '),
    [...seed.subarray(0, 6)].join(','),
    seed
      .subarray(0, 6)
      .toString('hex')
      .replace(/..(?=.)/g, '$& '), // as a Buffer is inspected
  ];
  const ways: Record<string, () => string> = {
    'console.log': () => format(key),
    'console.log within an object': () => format('%o %j', { key }, { key }),
    'util.inspect': () => inspect({ key }, { depth: null }),
    'util.inspect, hidden properties too': () => inspect(key, { showHidden: true, depth: null }),
    'util.inspect, custom printing off': () =>
      inspect(key, { customInspect: false, showHidden: true, depth: null }),
    'JSON.stringify': () => JSON.stringify({ key }),
    'String()': () => `${String(key)} ${key}`,
    'structured clone': () => serialize({ ...key }).toString('latin1'),
    'an error message': () => {
      try {
        key.sign(undefined as unknown as Uint8Array);
        return 'did not throw';
      } catch (thrown) {
        return `${messageOf(thrown)} ${inspect(thrown)}`;
      }
    },
    'an error message about a seed of the wrong length': () => {
      try {
        SigningKey.fromSeed(Buffer.concat([seed, seed]));
        return 'did not throw';
      } catch (thrown) {
        return `${messageOf(thrown)} ${inspect(thrown)}`;
      }
    },
  };

  test.each(Object.entries(ways))('does not appear by %s', (name, print) => {
    const printed = print();
    expect(printed).not.toContain('did not throw');
    if (!name.includes('error')) expect(printed).toContain(key.publicKey);
    for (const spelling of spellings) expect(printed).not.toContain(spelling);
  });
});
