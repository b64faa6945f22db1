/**
 * Subjects and patterns of subjects: the grammar of docs/format.md, section 2, and NATS wildcards.
 *
 * A subject is 2 to 16 tokens of `[A-Za-z0-9_-]` joined by `.`, at most 255 bytes. A pattern may also
 * hold `*` (exactly one token) and end in `>` (one token or more).
 */
import type { Brand } from './encoding.ts';
import { SwarmError } from './errors.ts';

/** A subject that fits the grammar and that we may publish on. */
export type Subject = Brand<string, 'Subject'>;
/** A subject in which `*` stands for one token and a last `>` for one or more. */
export type SubjectPattern = Brand<string, 'SubjectPattern'>;

const maxBytes = 255;
const subjectGrammar = /^[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+){1,15}$/;
const patternGrammar =
  /^(?:[A-Za-z0-9_-]+|\*)(?:\.(?:[A-Za-z0-9_-]+|\*)){0,14}(?:\.(?:[A-Za-z0-9_-]+|\*|>))$|^>$/;

/** Reports whether `text` is a subject as agents publish on it. */
export function isSubject(text: string): text is Subject {
  return text.length <= maxBytes && subjectGrammar.test(text);
}

/** Returns `text` as a subject; throws `SUBJECT_INVALID`. */
export function parseSubject(text: string): Subject {
  if (isSubject(text)) return text;
  throw new SwarmError(
    'SUBJECT_INVALID',
    `not a subject: ${JSON.stringify(text)} (2 to 16 tokens of letters, digits, _ and - joined by dots, at most ${maxBytes} bytes)`,
  );
}

/** Returns `text` as a subject pattern; throws `SUBJECT_INVALID`. */
export function parsePattern(text: string): SubjectPattern {
  if (text.length <= maxBytes && patternGrammar.test(text)) return text as SubjectPattern;
  throw new SwarmError(
    'SUBJECT_INVALID',
    `not a subject pattern: ${JSON.stringify(text)} (a subject in which * stands for one token and a last > for the rest)`,
  );
}

/** Reports whether `subject` is one of those that `pattern` stands for, by the NATS rules. */
export function matchesPattern(pattern: SubjectPattern, subject: string): boolean {
  const wanted = pattern.split('.');
  const tokens = subject.split('.');
  for (const [index, token] of wanted.entries()) {
    if (token === '>') return tokens.length > index;
    if (index >= tokens.length || (token !== '*' && token !== tokens[index])) return false;
  }
  return tokens.length === wanted.length;
}

/** Reports whether there is a subject that both patterns stand for. */
export function patternsOverlap(one: SubjectPattern, other: SubjectPattern): boolean {
  const [left, right] = [one.split('.'), other.split('.')];
  for (let index = 0; ; index += 1) {
    const [a, b] = [left[index], right[index]];
    if (a === undefined || b === undefined) return a === b;
    if (a === '>' || b === '>') return true;
    if (a !== b && a !== '*' && b !== '*') return false;
  }
}

/** The names of agents, threads, durables and streams: each can be a token of a subject. */
export const nameGrammar: RegExp = /^[A-Za-z0-9_-]{1,64}$/;

/** Returns the `thread_id` that a record on `subject` carries: token 2 of a `thread.` subject, else `-`. */
export function threadIdOf(subject: string): string {
  return /^thread\.([A-Za-z0-9_-]{1,64})\.[^.]/.exec(subject)?.[1] ?? '-';
}

/**
 * Returns how a record names a subject outside the grammar: each foreign byte as `%XX`, a lone token
 * after `-.`, and what is too long cut between tokens or after a whole `%XX`.
 */
export function escapeSubject(subject: string): string {
  const tokens = subject.split('.').map((token) =>
    Array.from(Buffer.from(token, 'utf8'), (byte) => {
      const character = String.fromCharCode(byte);
      return /[A-Za-z0-9_-]/.test(character)
        ? character
        : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
    }).join(''),
  );
  const named = tokens.filter((token) => token !== '');
  if (named.length < 2) named.unshift('-');
  if (named.length < 2) named.push('-');
  let result = named.slice(0, 16).join('.');
  if (result.length > maxBytes) {
    result = result.slice(0, maxBytes);
    const whole = result.replace(/%[0-9A-F]?$/, '').replace(/\.$/, '');
    result = whole.includes('.') ? whole : `-.${whole.slice(0, maxBytes - 2).replace(/%[0-9A-F]?$/, '')}`;
  }
  return result;
}
