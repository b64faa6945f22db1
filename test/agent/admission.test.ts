/** The checks of docs/format.md, section 5, in their order. What becomes of real messages is in test/attacks. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Admission, admit, type Incoming, type Receiver } from '../../src/agent/admission.ts';
import { ReceivedHeaders } from '../../src/bus/headers.ts';
import { SigningKey } from '../../src/identity/key.ts';
import { Keyring } from '../../src/identity/keyring.ts';
import { type RejectReason, rejectReasons } from '../../src/record/kind.ts';
import { signRecord } from '../../src/record/sign.ts';
import type { SignedRecord } from '../../src/record/signed.ts';
import { block, envelope } from '../support/attacker.ts';

const payload = Buffer.from('{"hello":"world"}');
const seconds = 1_000_000_000n;

/** What a message and its receiver are, with a fault or two. */
interface Situation {
  key: SigningKey;
  signedFor: string;
  sentOn: string;
  data: Buffer;
  swarm: string | undefined;
  ageNs: bigint;
  /** The receiver's. */
  ours: string | undefined;
  headers(record: SignedRecord): [string, string][];
}

const keys = { known: SigningKey.generate(), revoked: SigningKey.generate(), unknown: SigningKey.generate() };
const freshForNs = 15n * seconds;
const receiver: Receiver = {
  keyring: Keyring.from(
    {
      version: 1,
      agents: [
        { name: 'planner', keys: [{ record: keys.known.publicKey }] },
        {
          name: 'gone',
          publish: ['thread.*.planner'],
          keys: [{ record: keys.revoked.publicKey, revoked: { leaf: 'a'.repeat(64) } }],
        },
      ],
    },
    'a test',
  ),
  swarm: undefined,
  freshForNs,
};

/** Returns what becomes of a message that is as it should be but for `faults`. */
function admitted(...faults: ((situation: Situation) => void)[]): string {
  const admission = judged(...faults);
  return admission.admitted ? 'admitted' : admission.reason;
}

function judged(...faults: ((situation: Situation) => void)[]): Admission {
  const situation: Situation = {
    key: keys.known,
    signedFor: 'thread.t.planner',
    sentOn: 'thread.t.planner',
    data: payload,
    swarm: undefined,
    ageNs: 0n,
    ours: undefined,
    headers: (record) => envelope(record),
  };
  for (const fault of faults) fault(situation);
  const { key, signedFor, data, swarm, ageNs } = situation;
  const tsNs = 1_000n * seconds;
  const at = swarm === undefined ? { tsNs } : { tsNs, swarm };
  const record = signRecord({ subject: signedFor, kind: 'BUS.PUBLISH', payload }, key, at);
  const message: Incoming = {
    subject: situation.sentOn,
    data,
    headers: new ReceivedHeaders(block(situation.headers(record))),
    timestampNs: tsNs + ageNs,
  };
  return admit(message, { ...receiver, swarm: situation.ours });
}

/** Wraps how the headers are made, so that two faults of them add up. */
function mangle(change: (headers: [string, string][]) => [string, string][]): (situation: Situation) => void {
  return (situation) => {
    const before = situation.headers;
    situation.headers = (record) => change(before(record));
  };
}

const replace = (name: string, value: string): ((situation: Situation) => void) =>
  mangle((headers) => headers.map(([key, old]) => [key, key === name ? value : old]));

const faults: Record<RejectReason, (situation: Situation) => void> = {
  'bad-subject': (situation) => {
    situation.sentOn += '.a%b';
  },
  unsigned: mangle((headers) => headers.filter(([name]) => name !== 'Swarm-Sig')),
  malformed: replace('Nats-Msg-Id', '0'.repeat(64)),
  'bad-signature': replace('Swarm-Sig', Buffer.alloc(64).toString('base64')),
  'unknown-key': (situation) => {
    situation.key = keys.unknown;
  },
  'revoked-key': (situation) => {
    situation.key = keys.revoked;
  },
  'other-swarm': (situation) => {
    situation.swarm = 'staging';
  },
  'not-permitted': (situation) => {
    situation.signedFor = 'thread.t.nobody';
    situation.sentOn = situation.sentOn.replace('planner', 'nobody');
  },
  'subject-mismatch': (situation) => {
    situation.sentOn += '.elsewhere';
  },
  'payload-mismatch': (situation) => {
    situation.data = Buffer.from('{"hello":"mars"}');
  },
  stale: (situation) => {
    situation.ageNs = 16n * seconds;
  },
};

const pairs = rejectReasons.flatMap((first, index) =>
  rejectReasons
    .slice(index + 1)
    .filter((second) => !(first === 'unknown-key' && second === 'revoked-key')) // a key is one or the other
    .map((second) => [first, second] as const),
);

describe('of two faults the one that is checked first is named, whichever was made first', () => {
  test.each(pairs)('%s goes before %s', (first, second) => {
    expect(admitted(faults[first])).toBe(first);
    expect(admitted(faults[second])).toBe(second);
    expect(admitted(faults[first], faults[second])).toBe(first);
    expect(admitted(faults[second], faults[first])).toBe(first);
  });
});

test.each([
  [freshForNs, 'admitted'],
  [freshForNs + 1n, 'stale'],
  [-freshForNs, 'admitted'],
  [-freshForNs - 1n, 'stale'],
])('a record that is %d ns older than the broker’s timestamp is %s', (ageNs, becomes) => {
  const aged = (situation: Situation): void => {
    situation.ageNs = ageNs;
  };
  expect(admitted(aged)).toBe(becomes);
});

test.each([
  [45_279_958_023n, 'dated 45.28s before the broker took it; up to 15s counts as fresh'],
  [-60n * seconds, 'dated 60s after the broker took it; up to 15s counts as fresh'],
])('a person is told how far a stale record is off, and on which side: %d ns', (ageNs, detail) => {
  const aged = (situation: Situation): void => {
    situation.ageNs = ageNs;
  };
  expect(judged(aged)).toMatchObject({ reason: 'stale', detail });
});

test.each([
  ['production', 'production', 'admitted'],
  ['production', undefined, 'other-swarm'],
  ['production', 'staging', 'other-swarm'],
  [undefined, 'production', 'other-swarm'],
])('a receiver in the swarm %s takes a message of %s so: %s', (ours, theirs, becomes) => {
  const said = (situation: Situation): void => {
    situation.ours = ours;
    situation.swarm = theirs;
  };
  expect(admitted(said)).toBe(becomes);
});

test('whatever the headers hold, the answer is a refusal with a reason', () => {
  const names = fc.constantFrom('Nats-Msg-Id', 'Swarm-Record', 'Swarm-Sig', 'Swarm-Path', 'X', '');
  const genuine = envelope(
    signRecord({ subject: 'thread.t.planner', kind: 'BUS.PUBLISH', payload }, keys.known),
  );
  const values = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.constantFrom(...genuine.map(([, value]) => value)),
    fc
      .tuple(fc.constantFrom(...genuine.map(([, value]) => value)), fc.nat(), fc.string())
      .map(([value, at, text]) => value.slice(0, at % value.length) + text + value.slice(at % value.length)),
  );
  const blocks = fc.oneof(
    fc.uint8Array({ maxLength: 400 }).map((bytes) => Buffer.from(bytes)),
    fc.array(fc.tuple(names, values), { maxLength: 6 }).map(block),
  );
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), blocks, (subject, headers) => {
      const message = { subject, data: payload, headers: new ReceivedHeaders(headers), timestampNs: 0n };
      const admission = admit(message, receiver);
      expect(admission.admitted || admission.reason).toBeOneOf([...rejectReasons]);
    }),
    { numRuns: 2_000 },
  );
});
