import { describe, expect, test } from 'vitest';
import { sha256Hex } from '../../src/base/encoding.ts';
import type { Draft } from '../../src/record/draft.ts';
import { rejectReasons } from '../../src/record/kind.ts';
import { printLine, verifyRecord } from '../../src/record/line.ts';
import { receivedContradicts, receivedHash } from '../../src/record/received.ts';
import { signRecord } from '../../src/record/sign.ts';
import { parseSigned, printReceived, type SignedRecord } from '../../src/record/signed.ts';
import { key, otherKey } from './arbitrary.ts';

const subject = 'thread.demo.planner';
const payload = Buffer.from('{"n":1}');
const delivery = { stream: 'THREADS', seq: 1, consumer: 'listener', attempt: 1 };
const message = signRecord({ subject, kind: 'BUS.PUBLISH', payload }, key, { swarm: 'acme' });
const unsigned: SignedRecord = {
  ...message,
  signature: signRecord({ subject, kind: 'X', payload }, key).signature,
};

/** What a reader of the line that `draft` becomes is told about the message that it keeps. */
function contradiction(draft: Partial<Draft>, swarm = 'acme'): string | undefined {
  const received = draft.received ?? message;
  const whole: Draft = {
    subject,
    kind: 'BUS.DELIVER',
    cause: received.leaf,
    delivery,
    payload,
    received,
    ...draft,
  };
  const verdict = verifyRecord(printLine(signRecord(whole, otherKey, { swarm })));
  if (!verdict.ok) throw new Error(verdict.detail);
  return receivedContradicts(verdict.record);
}

const reject = (draft: Partial<Draft>): string | undefined => contradiction({ kind: 'BUS.REJECT', ...draft });

describe('a delivery', () => {
  test('agrees with the message that it keeps', () => {
    expect(contradiction({})).toBeUndefined();
  });

  test.each<[string, Partial<Draft>, string?]>([
    ['that nobody signed', { received: unsigned }],
    ['that was sent elsewhere', { subject: 'thread.demo.critic' }],
    ['that had another payload', { payload: Buffer.from('{"n":2}') }],
    ['of another swarm', {}, 'other'],
  ])('contradicts one %s', (_, draft, swarm) => {
    expect(contradiction(draft, swarm)).toContain('the message that it keeps');
  });
});

describe('a refusal', () => {
  const before = rejectReasons.slice(0, 4);
  const after = rejectReasons.slice(4);

  test.each(before)('as %s may keep a message whose signature does not hold', (reason) => {
    expect(reject({ reason, received: unsigned })).toBeUndefined();
    expect(reject({ reason })).toBeUndefined();
  });

  test.each(after)('as %s says that the signature held', (reason) => {
    expect(reject({ reason })).toBeUndefined();
    expect(reject({ reason, received: unsigned })).toContain(reason);
  });

  test.each(rejectReasons)('as %s keeps the message whose hash it signed', (reason) => {
    for (const received of [message, unsigned]) {
      expect(reject({ reason, received, meta: { received: receivedHash(received) } })).toBeUndefined();
    }
    expect(reject({ reason, received: unsigned, meta: { received: receivedHash(message) } })).toContain(
      'was refused',
    );
    expect(reject({ reason, received: message, meta: { received: receivedHash(unsigned) } })).toContain(
      'was refused',
    );
  });

  test('may use the word received for something else', () => {
    expect(reject({ reason: 'malformed', meta: { received: 'yesterday' } })).toBeUndefined();
    expect(reject({ reason: 'stale', received: unsigned, meta: { received: 'yesterday' } })).toContain(
      'stale',
    );
  });

  test('may be of another subject, payload and swarm than the message claims', () => {
    expect(reject({ reason: 'subject-mismatch', subject: 'thread.other.planner' })).toBeUndefined();
    expect(reject({ reason: 'payload-mismatch', payload: Buffer.from('2') })).toBeUndefined();
  });
});

test('the hash that a refusal signs is that of the line that it keeps, without its payload', () => {
  expect(receivedHash(message)).toBe(sha256Hex(printLine({ ...message, payload: undefined })));
  expect(printReceived(message)).toBe(printLine({ ...message, payload: undefined }));
});

describe('Swarm headers', () => {
  const headers = { text: message.text, signature: message.signature, path: undefined };

  test('read back as the record that they are of', () => {
    const bare = { ...message, payload: undefined, payloadIsJson: false };
    expect(parseSigned(headers)).toEqual(bare);
    expect(parseSigned({ ...headers, path: '0/2/AAAA' })?.path).toBe('0/2/AAAA');
  });

  const step = signRecord({ subject: 'agent.step', kind: 'AGENT.STEP', step: 's', payload }, key);
  test.each<[string, Parameters<typeof parseSigned>[0]]>([
    ['another kind of record', { ...headers, text: step.text }],
    ['another version', { ...headers, text: message.text.replace('"version":2', '"version":3') }],
    ['a thread that is not of the subject', { ...headers, text: message.text.replace('"demo"', '"x"') }],
    ['a text after the header', { ...headers, text: `${message.text} ` }],
    ['no signature', { ...headers, signature: '' }],
    ['a short signature', { ...headers, signature: message.signature.slice(4) }],
    ['an empty path', { ...headers, path: '' }],
    ['a path that is none', { ...headers, path: '0/2' }],
    ['a path far too long', { ...headers, path: `0/2/${'A'.repeat(2000)}` }],
  ])('have not the shape with %s', (_, text) => {
    expect(parseSigned(text)).toBeUndefined();
  });
});
