/**
 * One temporary folder for a whole run of the tests, gone with all that is left in it when the run is over.
 *
 * Set up once for all workers, which take over the environment: whatever asks for a temporary folder gets one in it,
 * be it a test, the code under test or a process of either.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export default function setup(): () => void {
  const folder = mkdtempSync(join(tmpdir(), 'can-swarm-tests-'));
  process.env.TMPDIR = folder;
  return () => rmSync(folder, { recursive: true, force: true });
}
