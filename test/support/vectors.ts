/** The shared test vectors, where this checkout has them beside it. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const folder = join(import.meta.dirname, '..', '..', '..', 'shared', 'vectors');

export const vectorsAreHere: boolean = existsSync(folder);

export function readVectors<Vectors>(name: string): Vectors {
  return JSON.parse(readFileSync(join(folder, name), 'utf8')) as Vectors;
}

export function vectorPath(name: string): string {
  return join(folder, name);
}
