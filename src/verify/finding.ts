/**
 * All that can be wrong with a log, and all that is counted without being wrong: docs/format.md, sections 4 to 7.
 *
 * Findings are values. An exception from a verifier means that it could not look.
 */
import type { Position } from '../log/reader.ts';
import type { Problem } from '../record/line.ts';

/** What a verifier can find. */
export type FindingCode =
  | Problem
  | 'payload-withheld'
  | 'unterminated'
  | 'misplaced'
  | 'chain-broken'
  | 'session-conflict'
  | 'prev-unknown'
  | 'segment-missing'
  | 'cause-mismatch'
  | 'unknown-key'
  | 'revoked-key'
  | 'not-permitted'
  | 'other-swarm'
  | 'checkpoint-invalid'
  | 'checkpoint-unknown-key'
  | 'checkpoint-revoked-key'
  | 'tile-missing'
  | 'tile-mismatch'
  | 'forked'
  | 'truncated'
  | 'log-missing'
  | 'proof-malformed'
  | 'proof-mismatch';

/** Every finding, in a sentence that fits any line; a `Finding` has one that fits its own. */
export const findingCodes: Readonly<Record<FindingCode, string>> = {
  malformed: 'The line is not a record: its shape breaks the grammar.',
  'unsupported-version': 'The record is of a version that this verifier does not know.',
  'bad-signature': 'The signature does not hold: the record was changed, or never signed by that key.',
  'payload-mismatch': 'The payload is not the one that was signed.',
  'payload-withheld': 'The payload is not in the log, and was demanded.',
  unterminated: 'The log ends inside a line, and nobody is writing it.',
  misplaced: 'A version 1 record stands after a version 2 record.',
  'chain-broken':
    "The record does not follow its session's record before it: something is missing, moved or repeated.",
  'session-conflict': 'The session belongs to another key.',
  'prev-unknown': 'The session starts after a record that is not in the log.',
  'segment-missing': 'The file does not continue the segment before it.',
  'cause-mismatch': 'The message that the record keeps is not the one that it names.',
  'unknown-key': 'The key is not in the keyring.',
  'revoked-key': 'The key was revoked from an earlier place of the log on.',
  'not-permitted': 'The keyring does not let this agent publish on that subject.',
  'other-swarm': 'The record was said in another swarm.',
  'checkpoint-invalid': 'The checkpoint is not one, is not of this log, or its signature does not hold.',
  'checkpoint-unknown-key': 'The checkpoint is signed by no key of the keyring.',
  'checkpoint-revoked-key': 'The checkpoint is signed by a key that was revoked before its last record.',
  'tile-missing': 'A tile that the checkpoint needs is not there.',
  'tile-mismatch': 'A tile is not the one over the lines of the log.',
  forked: 'A genuine checkpoint is of other lines than these: there are two histories.',
  truncated: 'A genuine checkpoint is of more lines than are here: the end was cut off.',
  'log-missing': 'The checkpoint is of a log of which no file is here.',
  'proof-malformed': 'The proof is not one of a record.',
  'proof-mismatch': 'The record is not where the proof says it is in the tree.',
};

/** One thing that is wrong with a record. */
export interface Fault {
  readonly code: FindingCode;
  /** A sentence about this record: what was expected, what was found. */
  readonly detail: string;
}

/** One thing that is wrong, and where: of a whole file, or a checkpoint, at line 0. */
export interface Finding extends Fault {
  readonly at: Position;
}

/** What a verifier counts without calling it bad. */
export interface Counts {
  /** Lines without their payload: their signature holds, what was said is not here. */
  readonly withheld: number;
  /**
   * Records whose cause is not in the log. Of a run that goes on from a state: at most so many, for a cause that was not
   * there then is not looked for among the lines that came since.
   */
  readonly unresolved: number;
  /** Torn lines that a later LOG.RECOVER names. */
  readonly recovered: number;
  /** 1 where the log's first file continues one that is not here. */
  readonly continues: number;
  /** Records of version 1: signed one by one, not chained. */
  readonly version1: number;
  /** Sessions whose last flush lacks its end: a crash, or a cut. */
  readonly flushCut: number;
}
