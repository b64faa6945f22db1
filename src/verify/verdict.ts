/**
 * The verdict on a log, in a word, and how far the log is known to be complete.
 *
 * Lines that hold say nothing about an end that is missing; only a checkpoint does, and one that lies beside the log only
 * against those who cannot put an older one there. So the best that a log can get by itself is CONSISTENT.
 */
import type { FindingCode } from './finding.ts';

/**
 * INVALID: something is not as it was written. FORKED: it is, and a genuine checkpoint is of another history.
 * TRUNCATED: the same history was longer. CONSISTENT: nothing contradicts it; nobody elsewhere vouches for its end.
 * ANCHORED: nor does a checkpoint that was kept elsewhere.
 */
export type Verdict = 'INVALID' | 'FORKED' | 'TRUNCATED' | 'CONSISTENT' | 'ANCHORED';

/** Returns the verdict on a log with these findings, which `anchors` checkpoints from elsewhere agree with. */
export function verdictOn(findings: ReadonlySet<FindingCode>, anchors: number): Verdict {
  for (const code of findings) if (code !== 'forked' && code !== 'truncated') return 'INVALID';
  if (findings.has('forked')) return 'FORKED';
  if (findings.has('truncated')) return 'TRUNCATED';
  return anchors > 0 ? 'ANCHORED' : 'CONSISTENT';
}
