/**
 * The grammar of a record's members: docs/format.md, section 2, as sources of regular expressions.
 *
 * Each is written once: the expression that reads a header is made of them, and so are those that check what
 * is about to be written. What they cannot say (the largest numbers, the order of `meta`) is said in header.ts.
 */

const count = '(?:0|[1-9][0-9]{0,15})';
const base64 = '[A-Za-z0-9+/]';
const subjectToken = '[A-Za-z0-9_%-]+';

/** The name of a member, or of a part of one. */
export type Member =
  | 'tsNs'
  | 'threadId'
  | 'subject'
  | 'kind'
  | 'hash'
  | 'version'
  | 'swarm'
  | 'session'
  | 'seq'
  | 'trace'
  | 'stream'
  | 'streamSeq'
  | 'consumer'
  | 'attempt'
  | 'reason'
  | 'step'
  | 'metaKey'
  | 'metaValue'
  | 'publicKey'
  | 'signature'
  | 'path';

export const grammar: Readonly<Record<Member, string>> = {
  tsNs: '(?:0|[1-9][0-9]{0,18})',
  threadId: '[A-Za-z0-9_-]{1,64}',
  subject: `${subjectToken}(?:\\.${subjectToken}){1,15}`,
  kind: '[A-Z]+(?:\\.[A-Z]+)*',
  hash: '[0-9a-f]{64}',
  version: '(?:0|[1-9][0-9]*)',
  swarm: '[A-Za-z0-9_.-]{1,64}',
  session: '[0-9a-f]{32}',
  seq: count,
  /** W3C Trace Context, 3.2: all zeros are no trace and no parent. */
  trace: '00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}',
  stream: '[A-Za-z0-9_-]{1,64}',
  streamSeq: '[1-9][0-9]{0,15}',
  consumer: '[A-Za-z0-9_-]{0,64}',
  attempt: '[1-9][0-9]{0,8}',
  reason: '[a-z][a-z0-9-]{0,63}',
  step: '[A-Za-z0-9_.:-]{1,64}',
  metaKey: '[a-z][a-z0-9._-]{0,31}',
  metaValue: '[A-Za-z0-9_.:/+=;,@-]{1,128}',
  /** 43 digits hold 258 bits: the last two are zero in the one spelling of 32 bytes. */
  publicKey: `${base64}{42}[AEIMQUYcgkosw048]=`,
  /** The shape alone: one that does not decode canonically is a bad signature, not a malformed line. */
  signature: `${base64}{86}==`,
  path: `[0-9]{1,3}/[0-9]{1,3}/${base64}*={0,2}`,
};

/** Limits that count characters, which are bytes here: every member is ASCII. */
export const limits = {
  subjectLength: 255,
  kindLength: 32,
  refs: 16,
  metaPairs: 8,
  attempt: 999_999_999,
  /** Longer than the path of any flush, and than any that only has the shape of one. */
  pathLength: 1024,
} as const;

/** Returns an expression that matches a text which is a `member` and nothing else. */
export function exactly(member: Member): RegExp {
  return new RegExp(`^(?:${grammar[member]})$`);
}
