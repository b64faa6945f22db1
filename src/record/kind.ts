/**
 * The kinds of records, and what each must and must not carry: docs/format.md, section 3, as a table.
 *
 * A kind that is not listed has no rule of its own. The `thread_id` rule is every kind's.
 */
import { threadIdOf } from '../base/subject.ts';

/** Why a message is not let in, in the order of the checks (section 5). */
export const rejectReasons = [
  'bad-subject',
  'unsigned',
  'malformed',
  'bad-signature',
  'unknown-key',
  'revoked-key',
  'other-swarm',
  'not-permitted',
  'subject-mismatch',
  'payload-mismatch',
  'stale',
] as const;

export type RejectReason = (typeof rejectReasons)[number];

type Presence = 'required' | 'optional' | 'absent';

interface KindRule {
  readonly cause: Presence;
  readonly delivery: Presence;
  readonly reason: Presence;
  readonly step: Presence;
  /** Whether the line keeps the message that it is about. */
  readonly received: Presence;
  /** The reasons there are, where they are listed. */
  readonly reasons?: readonly string[];
}

const bare = {
  cause: 'absent',
  delivery: 'absent',
  reason: 'absent',
  step: 'absent',
  received: 'absent',
} as const;

const rules: Readonly<Record<string, KindRule>> = {
  'BUS.PUBLISH': { ...bare, cause: 'optional' },
  'BUS.DELIVER': { ...bare, cause: 'required', delivery: 'required', received: 'required' },
  'BUS.REJECT': {
    ...bare,
    cause: 'optional',
    delivery: 'required',
    reason: 'required',
    received: 'optional',
    reasons: rejectReasons,
  },
  'BUS.DEAD': { ...bare, cause: 'required', delivery: 'required', reason: 'required' },
  'BUS.UNSENT': { ...bare, cause: 'required', reason: 'required' },
  'AGENT.STEP': { ...bare, cause: 'optional', reason: 'optional', step: 'required', reasons: ['error'] },
  'LOG.RECOVER': { ...bare, reason: 'required', reasons: ['torn'] },
};

/** The members of a header that the rules of section 3 speak of. */
export interface KindMembers {
  readonly threadId: string;
  readonly subject: string;
  readonly kind: string;
  readonly cause?: string | undefined;
  readonly delivery?: object | undefined;
  readonly reason?: string | undefined;
  readonly step?: string | undefined;
}

/** Returns what in `header` breaks the `thread_id` rule or its kind's row, or `undefined`. */
export function kindFault(header: KindMembers): string | undefined {
  const { threadId, subject, kind, cause, delivery, reason, step } = header;
  if (threadId !== threadIdOf(subject)) {
    return `thread_id is ${threadId}, where the subject has ${threadIdOf(subject)}`;
  }
  const rule = rules[kind];
  if (rule === undefined) return undefined;
  const { reasons } = rule;
  return (
    presenceFault(kind, 'cause', rule.cause, cause) ??
    presenceFault(kind, 'delivery', rule.delivery, delivery) ??
    presenceFault(kind, 'reason', rule.reason, reason) ??
    presenceFault(kind, 'step', rule.step, step) ??
    (reason !== undefined && reasons !== undefined && !reasons.includes(reason)
      ? `${kind} does not know the reason ${reason}`
      : subjectFault(kind, subject, cause))
  );
}

function subjectFault(kind: string, subject: string, cause: string | undefined): string | undefined {
  if (kind === 'LOG.RECOVER' && subject !== 'log.recover') return 'the subject of LOG.RECOVER is log.recover';
  if (kind === 'AGENT.STEP' && cause === undefined && subject !== 'agent.step') {
    return 'the subject of an AGENT.STEP without a cause is agent.step';
  }
  return undefined;
}

function presenceFault(kind: string, name: string, presence: Presence, value: unknown): string | undefined {
  if (presence === 'required' && value === undefined) return `${kind} needs ${name}`;
  if (presence === 'absent' && value !== undefined) return `${kind} has no ${name}`;
  return undefined;
}

/** Returns what is wrong with a line that keeps `received`, or does not, or `undefined`. */
export function receivedFault(
  { kind, cause }: Pick<KindMembers, 'kind' | 'cause'>,
  received: { readonly leaf: string } | undefined,
): string | undefined {
  const fault = presenceFault(kind, 'received', rules[kind]?.received ?? 'absent', received);
  if (fault !== undefined || received === undefined || received.leaf === cause) return fault;
  return `the message that it keeps has leaf ${received.leaf}, which is not its cause`;
}
