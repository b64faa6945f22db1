/** The vectors of a second implementation, read in place; `undefined` where the folder is not there. */
import { existsSync, readFileSync } from 'node:fs';

const folder = new URL('../../../shared/vectors/', import.meta.url);

function read(name: string): string | undefined {
  const file = new URL(name, folder);
  return existsSync(file) ? readFileSync(file, 'utf8') : undefined;
}

function readJson<Vectors>(name: string): Vectors | undefined {
  const text = read(name);
  return text === undefined ? undefined : JSON.parse(text);
}

export interface RecordVectors {
  readonly keys: Readonly<
    Record<'planner' | 'listener', { readonly seed_hex: string; readonly sig_pk_b64: string }>
  >;
  readonly accepted: readonly {
    readonly name: string;
    readonly line: string;
    readonly header: string;
    readonly leaf: string;
    readonly payload_hex: string | null;
    readonly received: string | null;
  }[];
  readonly refused: readonly { readonly name: string; readonly line_hex: string; readonly problem: string }[];
  readonly trees: readonly { readonly size: number; readonly root: string; readonly paths_sha256: string }[];
}

export interface LogVectors {
  readonly logs: readonly {
    readonly name: string;
    readonly lines_hex: readonly string[];
    readonly root: string;
  }[];
}

export const recordVectors: RecordVectors | undefined = readJson('record-v2.json');
export const logVectors: LogVectors | undefined = readJson('logs.json');
export const version1Lines: readonly string[] | undefined = read('record-v1.jsonl')?.trimEnd().split('\n');
