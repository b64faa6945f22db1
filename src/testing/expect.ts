/**
 * An agent must do again what a log says that it did: an assertion for any test runner.
 *
 * What is wrong with the test itself, a log that does not verify or has nothing of the agent, is a `SwarmError`; what the
 * agent does otherwise is an `AssertionError` that lists all of it.
 */
import { AssertionError } from 'node:assert';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { DefinedAgent } from '../handler/definition.ts';
import { type Keyring, loadKeyring } from '../identity/keyring.ts';
import type { Divergence } from '../replay/divergence.ts';
import { type RerunOptions, type RerunReport, rerun } from '../replay/rerun.ts';

export interface HistoryOptions extends Omit<RerunOptions, 'keyring'> {
  /** The keyring, or the path of its file. @default swarm.keys.json beside the log */
  readonly keyring?: Keyring | string | URL;
}

/**
 * Runs `agent` again from `log` and returns what came of it. No broker is needed, no clock and no model.
 *
 * Throws an `AssertionError` with all divergences; `RECORD_MISSING` where nothing was delivered to the agent, in the thread
 * if one is named; and what `rerun` throws. Calls past the context, of the clock for one, are process warnings.
 */
export async function expectSameHistory(
  agent: DefinedAgent,
  log: string | URL,
  options: HistoryOptions = {},
): Promise<RerunReport> {
  const path = pathOf(log);
  const { keyring = join(dirname(path), 'swarm.keys.json'), ...rest } = options;
  const report = await rerun(agent, path, { ...rest, keyring: await keyringOf(keyring) });
  if (report.divergences.length > 0) {
    throw new AssertionError({ message: printDivergences(path, report), stackStartFn: expectSameHistory });
  }
  for (const call of impureCalls(report)) process.emitWarning(call, { type: 'SwarmWarning' });
  return report;
}

async function keyringOf(keyring: Keyring | string | URL): Promise<Keyring> {
  const isPath = typeof keyring === 'string' || keyring instanceof URL;
  return isPath ? (await loadKeyring(pathOf(keyring))).keyring : keyring;
}

function pathOf(file: string | URL): string {
  return file instanceof URL ? fileURLToPath(file) : file;
}

function printDivergences(path: string, report: RerunReport): string {
  const { agent, deliveries, divergences } = report;
  return [
    `${agent} does otherwise than ${path} has it: ${counted(divergences.length, 'divergence')} in ${counted(deliveries, 'delivery', 'deliveries')}`,
    ...divergences.map(printDivergence),
    ...impureCalls(report).map((call) => `\n${call}`),
  ].join('\n');
}

function printDivergence({ at, threadId, subject, code, detail, index }: Divergence): string {
  return `\n${at.file}:${at.line}: delivery ${index}, of ${subject} in thread ${threadId}\n  ${code}: ${detail}`;
}

function impureCalls({ agent, impure }: RerunReport): readonly string[] {
  return impure.map(({ call, at, instead }) => `${agent} calls ${call} at ${at}; use ${instead}`);
}

function counted(count: number, one: string, several = `${one}s`): string {
  return `${count} ${count === 1 ? one : several}`;
}
