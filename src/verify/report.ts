/**
 * What a verification is asked, and what it answers.
 */
import type { Sha256Hex } from '../base/encoding.ts';
import type { PublicKey } from '../identity/key.ts';
import type { Keyring } from '../identity/keyring.ts';
import type { Position } from '../log/reader.ts';
import type { AbsentTree, Anchor } from './anchors.ts';
import type { Counts, Finding, FindingCode } from './finding.ts';
import type { Fork } from './sealed-file.ts';
import type { Verdict } from './verdict.ts';

export interface VerifyOptions {
  /** Whose keys count, and for what. @default none: any key counts */
  readonly keyring?: Keyring;
  /** Take a withheld payload for a finding. @default false */
  readonly requirePayloads?: boolean;
  /** Checkpoints that were kept elsewhere, to hold the log against. @default none */
  readonly anchors?: readonly Anchor[];
  /** Check hashes and checkpoints alone: no signatures, no chains, nothing of the keyring but its checkpoint keys. @default false */
  readonly quick?: boolean;
  /** A file that remembers what was verified, so that the next run reads only what is new. @default none: all is read */
  readonly state?: string;
  /** How many findings are listed; what is beyond is counted. @default 10000 */
  readonly findingLimit?: number;
  /** How many threads work on a large log. @default as many as there are cores */
  readonly jobs?: number;
  /** Called now and then with how far verification has come. */
  readonly onProgress?: (progress: { readonly bytes: number; readonly totalBytes: number }) => void;
}

/** One file of a log as an RFC 6962 tree: docs/format.md, section 8. */
export interface FileTree {
  readonly file: string;
  readonly size: number;
  /** 64 lowercase hex digits. */
  readonly root: Sha256Hex;
  /** The size that its own checkpoint agrees with; 0 where it has none. */
  readonly sealed: number;
}

/** What a state was worth to a run. */
export interface Resumed {
  /** How many records were taken as verified before. */
  readonly records: number;
  /** Why none were. */
  readonly reason?: string;
  /** Why the next run cannot go on from this one: the state could not be written, and is as it was. */
  readonly notRemembered?: string;
}

export interface LogReport {
  readonly verdict: Verdict;
  /**
   * Up to which record, counted from 1 over all files, a checkpoint shows that none is missing: one that was kept
   * elsewhere if the verdict is ANCHORED, else the one beside the log. Never past the first line with a finding.
   */
  readonly completeTo: number;
  /** Lines that are not blank. */
  readonly records: number;
  /** Records without a finding. */
  readonly verified: number;
  /** Lines with at least one finding. */
  readonly bad: number;
  /** In the order of the lines, up to the limit; those of whole files last. */
  readonly findings: readonly Finding[];
  /** How many findings there are of each code, listed or not. */
  readonly findingCounts: ReadonlyMap<FindingCode, number>;
  readonly counted: Counts;
  readonly trees: readonly FileTree[];
  /** Checkpoints from elsewhere. */
  readonly anchors: {
    /** How many agree with the log. */
    readonly matched: number;
    /** How many are of nobody who counts. */
    readonly ignored: number;
    /** How many are of other logs. */
    readonly otherLogs: number;
    /**
     * The trees of those other logs that have this one's name, each by its largest checkpoint. No finding: a log may be
     * moved aside and begun anew, and another machine may have one of the same name. But a log that was taken away looks
     * the same; a checkpoint of it that is `required` is a finding.
     */
    readonly absent: readonly AbsentTree[];
  };
  /** Evidence where the verdict is FORKED. */
  readonly forks: readonly Fork[];
  /** Lines without their payload, up to the limit. */
  readonly withheld: readonly Position[];
  /** Keys whose revocation names a place that is not in this log: what they signed here counts. */
  readonly notRevokedHere: readonly PublicKey[];
  /** Every key that signed a record, with the number of its records that verified. */
  readonly signers: ReadonlyMap<PublicKey, number>;
  /** Whether signatures were left unchecked. */
  readonly quick: boolean;
  /** Of a run with a state. */
  readonly resumed: Resumed | undefined;
}
