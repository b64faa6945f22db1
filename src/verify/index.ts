/**
 * `can-swarm/verify`: the auditor's door. A log, a proof and the keys go in; what is wrong with them comes out.
 *
 * It loads no code for a network, for proof must not need the system that is proved; test/verify/imports.test.ts holds
 * the list of all that is loaded. Exported by hand, as in src/index.ts.
 */

export type { Sha256Hex } from '../base/encoding.ts';
export { parseSha256Hex, sha256Hex } from '../base/encoding.ts';
export type { ErrorCode } from '../base/errors.ts';
export { errorCodes, SwarmError } from '../base/errors.ts';
export type { SubjectPattern } from '../base/subject.ts';
export type { PublicKey } from '../identity/key.ts';
export { parsePublicKey } from '../identity/key.ts';
export type { Agent } from '../identity/keyring.ts';
export { Keyring, loadKeyring, parseKeyring } from '../identity/keyring.ts';
export type { AgentEntry, KeyringFile, KeyringKey, Revocation } from '../identity/keyring-file.ts';
export type { LogLine, Position, ReadOptions } from '../log/reader.ts';
export { readLog } from '../log/reader.ts';
export type { Checkpoint, OpenedCheckpoint, ParsedCheckpoint } from '../merkle/checkpoint.ts';
export { openCheckpoint, parseCheckpoint } from '../merkle/checkpoint.ts';
export type { Note, NoteSignature, ParsedNote } from '../merkle/note.ts';
export { parseNote } from '../merkle/note.ts';
export type { ParsedProof, TlogProof } from '../merkle/proof.ts';
export { parseProof } from '../merkle/proof.ts';
export type { TreeHead } from '../merkle/prove.ts';
export { checkConsistency, checkInclusion } from '../merkle/prove.ts';
export { leafOfLine } from '../record/entry.ts';
export type { Delivery, Header } from '../record/header.ts';
export type { Malformed, Parsed, Problem, Verified } from '../record/line.ts';
export { parseLine, printLine, verifyRecord } from '../record/line.ts';
export type { SignedRecord } from '../record/signed.ts';
export type { AbsentTree, Anchor } from './anchors.ts';
export type { Counts, Fault, Finding, FindingCode } from './finding.ts';
export { findingCodes } from './finding.ts';
export type { FoundLine, ProofReport, ProveOptions, RecordName } from './prove.ts';
export { checkRecordProof, findLine, proveLine } from './prove.ts';
export type { Fork } from './sealed-file.ts';
export type { Verdict } from './verdict.ts';
export type { FileTree, LogReport, VerifyOptions } from './verify.ts';
export { verifyLog } from './verify.ts';
