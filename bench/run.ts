/**
 * The ruler: `npm run bench`. Each comparison runs both sides in this process, against one nats-server, in turn.
 *
 * Prints a table and the profile of our side, and writes bench/results.json with machine, commit and command.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { startNatsServer } from '../dist/server/nats-server.js';
import { compareDelivery } from './delivery.ts';
import { comparePublish } from './publish.ts';
import type { Comparison } from './rounds.ts';
import { compareVerification } from './verification.ts';

const folder = mkdtempSync(join(process.cwd(), '.swarm-bench-'));
const comparisons: Comparison[] = [];
try {
  await using server = await startNatsServer({ storeDir: join(folder, 'store') });
  const place = { folder, url: server.url };
  for (const comparison of [comparePublish, compareDelivery, compareVerification]) {
    const result = await comparison(place);
    comparisons.push(result);
    print(result);
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}

const result = {
  command: 'npm run bench',
  commit: execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim(),
  date: new Date().toISOString().slice(0, 10),
  machine: `${cpus().length} × ${cpus()[0]?.model.trim()}, ${process.platform}, Node ${process.version}`,
  comparisons,
};
writeFileSync(join(import.meta.dirname, 'results.json'), `${JSON.stringify(result, null, 2)}\n`);

function print({ what, rates, ratio, profile }: Comparison): void {
  console.log(`\n${what}`);
  for (const [name, { median, min, max }] of Object.entries(rates)) {
    console.log(`  ${name.padEnd(60)} ${perSecond(median)}  (${perSecond(min)} to ${perSecond(max)})`);
  }
  console.log(`  ratio ${ratio.median.toFixed(2)}  (${ratio.min.toFixed(2)} to ${ratio.max.toFixed(2)})`);
  console.log(`  where ours spends its time:\n${profile.map((entry) => `    ${entry}`).join('\n')}`);
}

function perSecond(rate: number): string {
  return `${Math.round(rate).toLocaleString('en')}/s`;
}

export interface BenchPlace {
  /** For logs and keys: on a disk, not in memory. */
  readonly folder: string;
  /** Of the nats-server. */
  readonly url: string;
}
