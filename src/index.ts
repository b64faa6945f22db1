/**
 * CAN Swarm: agents that talk over NATS JetStream, with every message signed, logged, and open to verification.
 *
 * `joinSwarm` is the door; the rest are its building blocks, for who needs one alone.
 */

export type { DifferenceCode, ReconcileCounts } from './agent/difference.ts';
export { differenceCodes } from './agent/difference.ts';
export type { Handler, HandlingOptions } from './agent/handling.ts';
export { Handling } from './agent/handling.ts';
export type { Unauthenticated } from './agent/message.ts';
export { Message } from './agent/message.ts';
export type { Published } from './agent/outbox.ts';
export type { Difference, Reconciliation } from './agent/reconcile.ts';
export type { Resent } from './agent/resending.ts';
export type { SettingSources } from './agent/settings.ts';
export { Subscription } from './agent/subscription.ts';
export type {
  PublishOptions,
  ReconcileRun,
  RunOptions,
  SubscribeOptions,
  SwarmOptions,
} from './agent/swarm.ts';
export { joinSwarm, Swarm } from './agent/swarm.ts';
export type { Clock } from './base/clock.ts';
export type { Sha256Hex } from './base/encoding.ts';
export { sha256Hex } from './base/encoding.ts';
export type { ErrorCode } from './base/errors.ts';
export { errorCodes, SwarmError } from './base/errors.ts';
export type { EventChannel } from './base/events.ts';
export {
  busStatus,
  logFlushed,
  logSealed,
  messageRefused,
  messagesResent,
  refusalsCounted,
  sealFailed,
} from './base/events.ts';
export type { Context, Named, SayOptions } from './handler/context.ts';
export type {
  AgentDefinition,
  AgentHost,
  BranchHost,
  Handlers,
  MessageHandler,
} from './handler/definition.ts';
export { DefinedAgent, defineAgent, HandlerTable } from './handler/definition.ts';
export type { ReceivedParts } from './handler/received.ts';
export { Received } from './handler/received.ts';
export type { Thrown } from './handler/step.ts';
export { StepError } from './handler/step.ts';
export type { UnrecoverableOptions } from './handler/unrecoverable.ts';
export { UnrecoverableError } from './handler/unrecoverable.ts';
export type { PublicKey } from './identity/key.ts';
export { generateKey, parsePublicKey, SigningKey } from './identity/key.ts';
export type { Agent } from './identity/keyring.ts';
export { Keyring, loadKeyring, parseKeyring } from './identity/keyring.ts';
export { writeAllBundles } from './log/bundles.ts';
export type { SealOptions } from './log/last-seal.ts';
export type { LogLine, Position, ReadOptions } from './log/reader.ts';
export { readLog } from './log/reader.ts';
export type { Seal } from './log/seal-file.ts';
export { sealLog } from './log/sealer.ts';
export type { SealingOptions } from './log/sealing.ts';
export type { LogOptions } from './log/writer.ts';
export { LogWriter, openLog } from './log/writer.ts';
export type { Checkpoint } from './merkle/checkpoint.ts';
export type { TreeHead } from './merkle/prove.ts';
export type { Draft, Place } from './record/draft.ts';
export type { Delivery, Header } from './record/header.ts';
export type { Problem, Verified } from './record/line.ts';
export { parseLine, printLine, verifyRecord } from './record/line.ts';
export { signRecord } from './record/sign.ts';
export type { SignedRecord } from './record/signed.ts';
export type { Version1Record } from './record/version1.ts';
export type { Branch, BranchOptions } from './replay/branch.ts';
export { branch } from './replay/branch.ts';
export type { PayloadRule } from './replay/compare.ts';
export type { Change, Divergence, DivergenceCode } from './replay/divergence.ts';
export { divergenceCodes } from './replay/divergence.ts';
export type { ImpureCall } from './replay/purity.ts';
export type { Republished, RepublishOptions, Sink } from './replay/republish.ts';
export { republish } from './replay/republish.ts';
export type { RerunOptions, RerunReport } from './replay/rerun.ts';
export { rerun } from './replay/rerun.ts';
export type { Selection } from './replay/selection.ts';
export { ReplayDigest } from './replay/selection.ts';
export type { TimelineOptions, TimelinePlace, TimelineRecord, VersionedRecord } from './replay/timeline.ts';
export { openTimeline, Timeline, timeline } from './replay/timeline.ts';
export type { AbsentTree, Anchor } from './verify/anchors.ts';
export type { Counts, Fault, Finding, FindingCode } from './verify/finding.ts';
export { findingCodes } from './verify/finding.ts';
export type { Fork } from './verify/sealed-file.ts';
export type { Verdict } from './verify/verdict.ts';
export type { FileTree, LogReport, VerifyOptions } from './verify/verify.ts';
export { verifyLog } from './verify/verify.ts';
