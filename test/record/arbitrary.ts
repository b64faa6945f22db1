/** Headers, drafts and keys as fast-check makes them up: every member, in every shape that the grammar has. */
import fc from 'fast-check';
import { type Sha256Hex, sha256 } from '../../src/base/encoding.ts';
import { threadIdOf } from '../../src/base/subject.ts';
import { SigningKey } from '../../src/identity/key.ts';
import type { Header } from '../../src/record/header.ts';

export const key: SigningKey = SigningKey.fromSeed(sha256(Buffer.from('a test key')));
export const otherKey: SigningKey = SigningKey.fromSeed(sha256(Buffer.from('another test key')));

const letters = 'abcdefghijklmnopqrstuvwxyz';
const capitals = letters.toUpperCase();
const digits = '0123456789';

function text(characters: string, minLength: number, maxLength: number): fc.Arbitrary<string> {
  return fc.string({ unit: fc.constantFrom(...characters), minLength, maxLength });
}

function hex(length: number): fc.Arbitrary<string> {
  return text('0123456789abcdef', length, length);
}

export const hashes: fc.Arbitrary<Sha256Hex> = hex(64) as fc.Arbitrary<Sha256Hex>;

const token = text(`${letters}${capitals}${digits}_%-`, 1, 80);
const tokens = (minLength: number, maxLength: number): fc.Arbitrary<string> =>
  fc.array(token, { minLength, maxLength }).map((some) => some.join('.'));

export const subjects: fc.Arbitrary<string> = fc
  .oneof(
    tokens(2, 16),
    tokens(1, 4).map((rest) => `thread.${rest}`),
  )
  .filter((subject) => subject.length <= 255);

const threadTokens = text(`${letters}${digits}_-`, 1, 64);
const names = text(`${letters}${capitals}${digits}_-`, 1, 64);

const metas = fc.dictionary(
  fc.tuple(text(letters, 1, 1), text(`${letters}${digits}._-`, 0, 31)).map((parts) => parts.join('')),
  text(`${letters}${capitals}${digits}_.:/+=;,@-`, 1, 128),
  { minKeys: 1, maxKeys: 8, noNullPrototype: true },
);

/** Members that a header may go without. */
export const optionalMembers = {
  refs: fc.array(hashes, { minLength: 1, maxLength: 16 }),
  trace: fc
    .tuple(hex(31), hex(15), hex(2))
    .map(([trace, parent, flags]) => `00-${trace}1-${parent}2-${flags}`),
  meta: metas,
};

export const deliveries: fc.Arbitrary<NonNullable<Header['delivery']>> = fc.record({
  stream: names,
  seq: fc.maxSafeNat().map((seq) => Math.max(1, seq)),
  consumer: fc.oneof(fc.constant(''), names),
  attempt: fc.integer({ min: 1, max: 999_999_999 }),
});

export const reasons: fc.Arbitrary<string> = fc
  .tuple(text(letters, 1, 1), text(`${letters}${digits}-`, 0, 63))
  .map((parts) => parts.join(''));

/** Headers of a kind that has no row of its own, so that any members go together. */
export const headers: fc.Arbitrary<Header> = fc
  .record(
    {
      tsNs: fc.bigInt({ min: 0n, max: 2n ** 63n - 1n }),
      subject: fc.oneof(
        subjects,
        threadTokens.map((id) => `thread.${id}.planner`),
      ),
      kind: fc
        .array(text(capitals, 1, 7), { minLength: 1, maxLength: 4 })
        .map((parts) => ['X', ...parts].join('.').slice(0, 32)),
      payloadHash: hashes,
      version: fc.oneof({ weight: 8, arbitrary: fc.constant(2) }, fc.maxSafeNat()),
      swarm: text(`${letters}${capitals}${digits}_.-`, 1, 64),
      session: hex(32),
      seq: fc.maxSafeNat(),
      prev: hashes,
      cause: hashes,
      ...optionalMembers,
      delivery: deliveries,
      reason: reasons,
      step: text(`${letters}${capitals}${digits}_.:-`, 1, 64),
      signer: fc.constantFrom(key.publicKey, otherKey.publicKey),
    },
    {
      requiredKeys: ['tsNs', 'subject', 'kind', 'payloadHash', 'version', 'session', 'seq', 'prev', 'signer'],
      noNullPrototype: true,
    },
  )
  .map((members) => ({ ...members, threadId: threadIdOf(members.subject) }));

/** Payloads: JSON, nearly JSON, text, and bytes of any kind. */
export const payloads: fc.Arbitrary<Buffer> = fc.oneof(
  fc.json().map((json) => Buffer.from(json)),
  fc.json().map((json) => Buffer.from(` ${json}\t`)),
  fc.json().map((json) => Buffer.from(`${json}\n`)),
  fc.string({ unit: 'binary' }).map((some) => Buffer.from(JSON.stringify(some))),
  fc.string().map((some) => Buffer.from(some)),
  fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
);
