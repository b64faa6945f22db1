/**
 * Only a log that proves itself is replayed, or believed: what is not certain to have happened must not happen again.
 */
import { SwarmError } from '../base/errors.ts';
import { VerifiedFiles } from '../verify/verified-files.ts';
import { type VerifyOptions, verifyLog } from '../verify/verify.ts';

/** Whose keys count, and what the log is held against. */
export type SoundOptions = Pick<VerifyOptions, 'keyring' | 'anchors' | 'jobs' | 'onProgress'>;

/**
 * Verifies the log at `path`, and returns what was verified of it, to be read again and disposed of. Throws `LOG_REFUSED`,
 * with the first finding, where anything is wrong with it; `LOG_OPEN`.
 */
export async function soundLog(path: string, options: SoundOptions): Promise<VerifiedFiles> {
  const { verdict, findings, trees } = await verifyLog(path, { ...options, findingLimit: 1 });
  if (verdict === 'CONSISTENT' || verdict === 'ANCHORED') return new VerifiedFiles(path, trees);
  const [first] = findings;
  const where =
    first === undefined ? path : `${first.at.file}${first.at.line === 0 ? '' : `:${first.at.line}`}`;
  const wayOut =
    first?.code === 'unterminated'
      ? 'what a killed writer left torn is named by the next record: let an agent of this log say something, and try again'
      : `\`swarm verify ${path}\` names all that is wrong`;
  throw new SwarmError(
    'LOG_REFUSED',
    `${path} is ${verdict}, and nothing is made of it: ${where}: ${first?.code}: ${first?.detail}; ${wayOut}`,
  );
}
