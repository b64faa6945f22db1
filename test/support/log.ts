/** What tests of logs share: a place, a key, drafts, and a log's lines. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { SigningKey } from '../../src/identity/key.ts';
import { openLog } from '../../src/log/writer.ts';
import type { Draft } from '../../src/record/draft.ts';

/** Returns a folder that is gone when the test is. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'can-swarm-test-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export function said(text: string, subject = 'thread.t.planner'): Draft & { payload: Uint8Array } {
  return { subject, kind: 'BUS.PUBLISH', payload: Buffer.from(JSON.stringify({ text })) };
}

/** Writes a log of `count` records, some flushes of one and some of many, and returns its path. */
export async function logOf(count: number, key = SigningKey.generate()): Promise<string> {
  const path = join(temporaryFolder(), 'swarm.jsonl');
  await using log = await openLog(path, { key });
  for (let written = 0; written < count; ) {
    const size = Math.min(count - written, 1 + (written % 5));
    await Promise.all(
      Array.from({ length: size }, (_, index) => log.append(said(`number ${written + index}`))),
    );
    written += size;
  }
  return path;
}

/** Returns the lines of a file, without their LF. */
export function linesOf(path: string): string[] {
  return readFileSync(path, 'utf8').split('\n').slice(0, -1);
}
