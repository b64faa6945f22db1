/**
 * A verifier's report, for people and for programs.
 */
import type { Counts } from '../verify/finding.ts';
import type { LogReport } from '../verify/verify.ts';
import type { KeysUsed } from './keys-used.ts';
import { type Output, styled } from './output.ts';

/** What is counted without being bad: its name in docs/format.md, section 7, and what it means. */
const countWords: Readonly<Record<keyof Counts, readonly [name: string, meaning: string]>> = {
  withheld: ['withheld', 'the payload is not in the log, the signed hash of it is'],
  unresolved: ['unresolved', 'the record names a cause that this log does not hold'],
  recovered: ['recovered', 'a line that a killed writer left torn, as a later record says'],
  continues: ['continues', 'the log goes on from a segment that is not here'],
  version1: ['version 1', 'signed one by one and not chained: a missing line would not show'],
  flushCut: ['flush-cut', 'a session stops in the middle of a flush: a crash, or a cut'],
};

/** Says each finding on a line `file:line: code: sentence`, then what was counted, then the verdict. */
export function printReport(report: LogReport, out: Output): void {
  const { findings, findingCounts, counted, verified, bad, verdict, quick } = report;
  for (const { at, code, detail } of findings) {
    out.data(at.line === 0 ? `${at.file}: ` : `${at.file}:${at.line}: `, styled('red', code), `: ${detail}`);
  }
  const all = [...findingCounts.values()].reduce((sum, count) => sum + count, 0);
  if (all > findings.length) {
    const codes = Array.from(findingCounts, ([code, count]) => `${count} ${code}`).join(', ');
    out.data(`${all - findings.length} more findings are not listed; all in all: ${codes}`);
  }
  for (const [name, [word, meaning]] of Object.entries(countWords)) {
    const count = counted[name as keyof Counts];
    if (count > 0) out.data(`${count} ${word}: ${meaning}`);
  }
  const isGood = verdict === 'ANCHORED' || verdict === 'CONSISTENT';
  out.data(styled(isGood ? 'green' : 'red', verdict), sentenceOf(report));
  const what = quick
    ? `Hashed ${verified} records, ${bad} bad (signatures not checked)`
    : `Verified ${verified} records, ${bad} bad`;
  out.data(styled(bad === 0 ? 'green' : 'red', what));
}

/** Says what a verdict means here, and how far the log is complete. */
function sentenceOf({ verdict, completeTo, records, anchors, trees }: LogReport): string {
  const to = `complete to record ${completeTo} of ${records}`;
  switch (verdict) {
    case 'INVALID':
      return `: not as it was written; ${to}`;
    case 'FORKED':
      return `: there are two histories; ${to}`;
    case 'TRUNCATED':
      return `: its end was cut off; ${to}`;
    case 'ANCHORED':
      return `: ${to}, by ${anchors.matched} checkpoint${anchors.matched === 1 ? '' : 's'} kept elsewhere`;
    case 'CONSISTENT': {
      const isSealed = trees.some(({ sealed }) => sealed > 0);
      return ` (unanchored): ${to}, ${isSealed ? 'by the checkpoint beside it' : 'for it is not sealed'}`;
    }
  }
}

/** Returns the report on the log at `path` as one JSON object. */
export function reportAsJson(path: string, report: LogReport, { keyring, source, sha256 }: KeysUsed): object {
  return {
    log: path,
    verdict: report.verdict,
    completeTo: report.completeTo,
    records: report.records,
    verified: report.verified,
    bad: report.bad,
    findings: report.findings.map(({ code, at, detail }) => ({ code, ...at, detail })),
    findingCounts: Object.fromEntries(report.findingCounts),
    counted: report.counted,
    quick: report.quick,
    anchors: report.anchors,
    withheld: report.withheld,
    notRevokedHere: report.notRevokedHere,
    forks: report.forks,
    resumed: report.resumed ?? null,
    keyring: keyring === undefined ? null : { source, sha256: sha256 ?? null },
    trees: report.trees,
    signers: Array.from(report.signers, ([key, verified]) => ({
      key,
      agent: keyring?.find(key)?.agent.name ?? null,
      verified,
    })),
  };
}
