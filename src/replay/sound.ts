/**
 * Only a log that proves itself is replayed, or believed: what is not certain to have happened must not happen again.
 */
import { SwarmError } from '../base/errors.ts';
import type { Keyring } from '../identity/keyring.ts';
import { type LogReport, type VerifyOptions, verifyLog } from '../verify/verify.ts';

/** Verifies the log at `path`; throws `LOG_UNSOUND`, with the first finding, where anything is wrong with it. */
export async function requireSound(
  path: string,
  options: VerifyOptions & { readonly keyring: Keyring },
): Promise<LogReport> {
  const report = await verifyLog(path, options);
  const [first] = report.findings;
  if (report.verdict === 'CONSISTENT' || report.verdict === 'ANCHORED') return report;
  const where =
    first === undefined ? '' : `: ${first.at.file}:${first.at.line}: ${first.code}: ${first.detail}`;
  throw new SwarmError(
    'LOG_UNSOUND',
    `the log ${path} is ${report.verdict}${where}; nothing is made of it. \`swarm verify ${path}\` says all that is wrong`,
  );
}
