import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { type FindingCode, findingCodes } from '../../src/verify/finding.ts';
import { verdictOn } from '../../src/verify/verdict.ts';
import { verifyLog } from '../../src/verify/verify.ts';
import { linesOf, logOf } from '../support/log.ts';

const codes = Object.keys(findingCodes) as FindingCode[];

describe('the verdict', () => {
  test('is INVALID for every finding but a fork and a cut end, whatever else there is', () => {
    for (const code of codes.filter((code) => code !== 'forked' && code !== 'truncated')) {
      expect(verdictOn(new Set([code]), 0), code).toBe('INVALID');
      expect(verdictOn(new Set(['forked', 'truncated', code]), 1), code).toBe('INVALID');
    }
  });

  test('is FORKED before TRUNCATED, and either before ANCHORED', () => {
    expect(verdictOn(new Set(['truncated', 'forked']), 1)).toBe('FORKED');
    expect(verdictOn(new Set(['truncated']), 1)).toBe('TRUNCATED');
  });

  test('without findings is ANCHORED by one checkpoint from elsewhere, else CONSISTENT', () => {
    expect(verdictOn(new Set(), 1)).toBe('ANCHORED');
    expect(verdictOn(new Set(), 0)).toBe('CONSISTENT');
  });
});

describe('a limit of findings', () => {
  test('leaves the counts exact, and the first findings listed', async () => {
    const path = await logOf(20);
    const lines = linesOf(path).map((line) => line.replace('number', 'numbre'));
    writeFileSync(path, `${lines.join('\n')}\n`);
    appendFileSync(path, 'no record\n'.repeat(7));
    for (const findingLimit of [0, 1, 19, 20, 21, 100]) {
      const report = await verifyLog(path, { findingLimit });
      expect(report).toMatchObject({ records: 27, bad: 27, verified: 0, verdict: 'INVALID', completeTo: 0 });
      expect(report.findings.map(({ at }) => at.line)).toEqual(
        Array.from({ length: Math.min(27, findingLimit) }, (_, index) => index + 1),
      );
      expect([...report.findingCounts]).toEqual([
        ['payload-mismatch', 20],
        ['malformed', 7],
      ]);
    }
  });

  test('limits the withheld payloads that are listed, not those that are counted', async () => {
    const path = await logOf(5);
    writeFileSync(path, readFileSync(path, 'utf8').replace(/,"payload":.*/g, '}'));
    const report = await verifyLog(path, { findingLimit: 2 });
    expect(report).toMatchObject({ bad: 0, counted: { withheld: 5 } });
    expect(report.withheld.map(({ line }) => line)).toEqual([1, 2]);
  });
});
