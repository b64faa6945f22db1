/** A process that seals as it writes (test/fixtures/sealing-writer.mjs), and whether what it was promised was kept. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf } from '../../src/base/errors.ts';
import { SigningKey } from '../../src/identity/key.ts';
import { logFiles } from '../../src/log/files.ts';
import { openLog } from '../../src/log/writer.ts';
import { type Checkpoint, parseCheckpoint } from '../../src/merkle/checkpoint.ts';
import { parseNote } from '../../src/merkle/note.ts';
import { parseLine } from '../../src/record/line.ts';
import { verifyLog } from '../../src/verify/verify.ts';
import { checkpointBeside, keyringOf, sealOptions } from '../log/sealed.ts';
import { linesOf, said } from './log.ts';

const keySeed = Buffer.alloc(32, 7);
const key = SigningKey.fromSeed(keySeed);
const keyring = keyringOf({ writer: key });

/** The second flush fills a tile, and each of the last two goes into a segment of its own. */
export const flushes = [150, 150, 200, 200];
const rotateBytes = 300_000;

/** What the process tells, a line each. */
export interface Told {
  readonly ready?: number;
  readonly acknowledged?: readonly string[];
  readonly sealed?: string;
  readonly failed?: 'open' | 'append' | 'seal';
  readonly code?: string;
  readonly message?: string;
  readonly stack?: string;
  readonly end?: true;
}

/** Returns the process's program and arguments, for Node. */
export function sealingWriter(path: string): string[] {
  const program = join(import.meta.dirname, '../fixtures/sealing-writer.mjs');
  return [program, path, keySeed.toString('hex'), String(rotateBytes), ...flushes.map(String)];
}

/** Returns what it told, of all that it wrote. */
export function toldIn(output: string): Told[] {
  const lines = output.split('\n').slice(0, -1);
  return lines.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line) as Told);
}

/** Opens the log again, appends to it and seals it; returns what is not as it was promised. */
export async function brokenPromises(path: string, told: readonly Told[]): Promise<string[]> {
  const problems: string[] = [];
  const sealed = told.flatMap(({ sealed: text }) => text ?? []);
  try {
    await using log = await openLog(path, {
      key,
      rotateBytes,
      seal: { ...sealOptions(path, key), everyMs: 1e9 },
    });
    await log.append(said('opened again'));
    await log.seal();
  } catch (error) {
    problems.push(`it is not opened, written and sealed again: ${messageOf(error)}`);
  }
  if (!existsSync(path)) return [...problems, 'there is no log'];
  const files = logFiles(path);
  const leaves = new Set(
    files.flatMap(linesOf).flatMap((line) => {
      const parsed = parseLine(line);
      return parsed.ok ? [parsed.record.leaf] : [];
    }),
  );
  const lost = told
    .flatMap(({ acknowledged = [] }) => acknowledged)
    .filter((leaf) => !leaves.has(leaf as never));
  if (lost.length > 0) problems.push(`${lost.length} records are lost that were acknowledged`);
  const anchors = sealed.map((text, index) => ({ text, source: `seal ${index + 1}`, required: true }));
  const report = await verifyLog(path, { keyring, anchors, jobs: 1 });
  for (const { code, detail, at } of report.findings) problems.push(`${code} in ${at.file}: ${detail}`);
  if (report.verdict !== (sealed.length > 0 ? 'ANCHORED' : 'CONSISTENT'))
    problems.push(`it is ${report.verdict}`);
  for (const tree of report.trees) {
    if (tree.sealed !== tree.size)
      problems.push(`${tree.file} has ${tree.size} lines, and ${tree.sealed} are sealed`);
  }
  if (problems.length > 0) return problems;
  const now = new Map(
    files.map((file) => checkpointBeside(file, key)).map(({ origin, size }) => [origin, size]),
  );
  for (const { origin, size } of sealed.map(checkpointOf)) {
    const after = now.get(origin) ?? 0;
    if (after < size) problems.push(`${size} lines of ${origin} were sealed, and now ${after}`);
  }
  return problems;
}

function checkpointOf(text: string): Checkpoint {
  const note = parseNote(text);
  const parsed = note.ok ? parseCheckpoint(note.note.text) : note;
  if (!parsed.ok) throw new Error(parsed.detail);
  return parsed.checkpoint;
}
