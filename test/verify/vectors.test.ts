/** `vectors/logs.json`: whole logs by a second implementation of docs/format.md. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { verifyLog } from '../../src/verify/verify.ts';
import { temporaryFolder } from '../support/log.ts';
import { readVectors, vectorPath, vectorsAreHere } from '../support/vectors.ts';

interface LogVector {
  readonly name: string;
  readonly lines_hex: readonly string[];
  readonly tail_hex: string;
  readonly verified: number;
  readonly bad: number;
  readonly findings: readonly (readonly [line: number, problem: string])[];
  readonly counted: Readonly<Record<string, number>>;
  readonly root: string;
}

/** The vectors' words for what is counted. */
const names = {
  withheld: 'withheld',
  unresolved: 'unresolved',
  recovered: 'recovered',
  continues: 'continues',
  version1: 'version 1',
  flushCut: 'flush-cut',
} as const;

describe.skipIf(!vectorsAreHere)('the log vectors', () => {
  const { logs } = vectorsAreHere ? readVectors<{ logs: LogVector[] }>('logs.json') : { logs: [] };

  test.each(logs.map((log) => [log.name, log] as const))('%s', async (_, log) => {
    const path = join(temporaryFolder(), 'swarm.jsonl');
    const lines = log.lines_hex.map((hex) => Buffer.concat([Buffer.from(hex, 'hex'), Buffer.from('\n')]));
    writeFileSync(path, Buffer.concat([...lines, Buffer.from(log.tail_hex, 'hex')]));
    const report = await verifyLog(path);
    const counted = Object.entries(report.counted).filter(([, count]) => count > 0);
    expect({
      verified: report.verified,
      bad: report.bad,
      findings: report.findings.map(({ at, code }) => [at.line, code]),
      counted: Object.fromEntries(counted.map(([name, count]) => [names[name as keyof typeof names], count])),
      root: report.trees[0]?.root,
    }).toEqual({
      verified: log.verified,
      bad: log.bad,
      findings: log.findings,
      counted: log.counted,
      root: log.root,
    });
  });

  test('a log of the version 1 prototype verifies', async () => {
    expect(await verifyLog(vectorPath('record-v1.jsonl'))).toMatchObject({
      verified: 3,
      bad: 0,
      counted: { version1: 3 },
    });
  });
});
