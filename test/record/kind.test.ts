import { describe, expect, test } from 'vitest';
import { zeroHash } from '../../src/base/encoding.ts';
import { type KindMembers, kindFault, receivedFault, rejectReasons } from '../../src/record/kind.ts';

const delivery = { stream: 'S', seq: 1, consumer: 'c', attempt: 1 };
const everything = { cause: zeroHash, delivery, reason: 'slow', step: 's' };

function members(kind: string, some: Partial<KindMembers> = {}): KindMembers {
  return { threadId: 'demo', subject: 'thread.demo.planner', kind, ...some } as KindMembers;
}

/** docs/format.md, section 3: members that each kind has at least, and those that it may have besides. */
const table: Record<string, { needs: Partial<KindMembers>; takes: (keyof typeof everything)[] }> = {
  'BUS.PUBLISH': { needs: {}, takes: ['cause'] },
  'BUS.DELIVER': { needs: { cause: zeroHash, delivery }, takes: [] },
  'BUS.REJECT': { needs: { delivery, reason: 'stale' }, takes: ['cause'] },
  'BUS.DEAD': { needs: { cause: zeroHash, delivery, reason: 'x' }, takes: [] },
  'BUS.UNSENT': { needs: { cause: zeroHash, reason: 'x' }, takes: [] },
  'AGENT.STEP': { needs: { step: 's', threadId: '-', subject: 'agent.step' }, takes: ['cause'] },
  'LOG.RECOVER': { needs: { reason: 'torn', threadId: '-', subject: 'log.recover' }, takes: [] },
};

describe.each(Object.entries(table))('%s', (kind, { needs, takes }) => {
  test('may have what its row asks for and no more', () => {
    expect(kindFault(members(kind, needs))).toBeUndefined();
    for (const name of takes) {
      expect(kindFault(members(kind, { ...needs, [name]: everything[name] }))).toBeUndefined();
    }
  });

  test('cannot go without any of it', () => {
    for (const name of ['cause', 'delivery', 'reason', 'step'] as const) {
      if (!(name in needs)) continue;
      const { [name]: _, ...rest } = needs;
      expect(kindFault(members(kind, rest)), name).toContain(`needs ${name}`);
    }
  });

  test('cannot have anything else', () => {
    for (const name of ['cause', 'delivery', 'reason', 'step'] as const) {
      if (name in needs || takes.includes(name) || (kind === 'AGENT.STEP' && name === 'reason')) continue;
      expect(kindFault(members(kind, { ...needs, [name]: everything[name] })), name).toContain(
        `has no ${name}`,
      );
    }
  });
});

test('a kind that is not listed may have any members or none', () => {
  expect(kindFault(members('TOOL.CALL'))).toBeUndefined();
  expect(kindFault(members('TOOL.CALL', everything))).toBeUndefined();
});

test('reasons are those that the table names', () => {
  for (const reason of rejectReasons) {
    expect(kindFault(members('BUS.REJECT', { delivery, reason }))).toBeUndefined();
  }
  expect(kindFault(members('BUS.REJECT', { delivery, reason: 'mood' }))).toContain('mood');
  const step = { step: 's', threadId: '-', subject: 'agent.step' };
  expect(kindFault(members('AGENT.STEP', { ...step, reason: 'error' }))).toBeUndefined();
  expect(kindFault(members('AGENT.STEP', { ...step, reason: 'mood' }))).toContain('mood');
  const recovery = { threadId: '-', subject: 'log.recover' };
  expect(kindFault(members('LOG.RECOVER', { ...recovery, reason: 'mood' }))).toContain('mood');
});

test('a step has the subject of its cause, or agent.step', () => {
  expect(kindFault(members('AGENT.STEP', { step: 's' }))).toContain('agent.step');
  expect(kindFault(members('AGENT.STEP', { step: 's', cause: zeroHash }))).toBeUndefined();
});

test('a recovery has the subject log.recover', () => {
  expect(kindFault(members('LOG.RECOVER', { reason: 'torn' }))).toContain('log.recover');
});

test.each([
  ['thread.demo.planner', 'demo', 'other'],
  ['thread.demo.a.b', 'demo', '-'],
  ['thread.demo', '-', 'demo'],
  ['log.demo.x', '-', 'demo'],
  ['thread.d%20o.x', '-', 'd'],
  [`thread.${'t'.repeat(65)}.x`, '-', 't'],
])('the thread of %s is %s and not %s', (subject, threadId, wrong) => {
  expect(kindFault(members('X', { subject, threadId }))).toBeUndefined();
  expect(kindFault(members('X', { subject, threadId: wrong }))).toContain('thread_id');
});

test('a message is kept by a DELIVER, may be by a REJECT, and by nothing else', () => {
  const received = { leaf: zeroHash };
  expect(receivedFault({ kind: 'BUS.DELIVER', cause: zeroHash }, received)).toBeUndefined();
  expect(receivedFault({ kind: 'BUS.DELIVER', cause: zeroHash }, undefined)).toContain('needs received');
  expect(receivedFault({ kind: 'BUS.REJECT', cause: zeroHash }, received)).toBeUndefined();
  expect(receivedFault({ kind: 'BUS.REJECT' }, undefined)).toBeUndefined();
  expect(receivedFault({ kind: 'BUS.REJECT' }, received)).toContain('not its cause');
  for (const kind of ['BUS.PUBLISH', 'BUS.DEAD', 'BUS.UNSENT', 'AGENT.STEP', 'LOG.RECOVER', 'TOOL.CALL']) {
    expect(receivedFault({ kind, cause: zeroHash }, received)).toContain('has no received');
    expect(receivedFault({ kind, cause: zeroHash }, undefined)).toBeUndefined();
  }
});
