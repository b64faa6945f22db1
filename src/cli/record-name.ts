/**
 * How a person names one record: by its leaf, its line, or the number of its message in the stream.
 */
import type { Settings } from '../agent/settings.ts';
import { parseSha256Hex } from '../base/encoding.ts';
import { SwarmError } from '../base/errors.ts';
import { closedSegments, logFiles } from '../log/files.ts';
import { type FoundLine, findLine, type RecordName } from '../verify/prove.ts';

/** Returns the record that `text` names; throws `USAGE` if it can be none. */
export function parseRecordName(text: string): RecordName {
  const leaf = parseSha256Hex(text);
  if (leaf !== undefined) return { leaf };
  const [, file, line] = /^(.+):([1-9]\d{0,14})$/.exec(text) ?? [];
  if (file !== undefined) return { file, line: Number(line) };
  if (/^[1-9]\d{0,14}$/.test(text)) return { streamSeq: Number(text) };
  throw new SwarmError(
    'USAGE',
    `no record is named by ${JSON.stringify(text.slice(0, 80))}: give its leaf (64 hex digits), FILE:LINE, or the number of its message in the stream`,
  );
}

/**
 * Returns the record and the log that it is in: `log`, where the caller named one, else that of the settings, or the
 * very file that the record's name has. Throws `USAGE` where these contradict each other, `RECORD_MISSING`, `LOG_OPEN`.
 */
export async function findRecord(
  name: RecordName,
  log: string | undefined,
  settings: Settings,
): Promise<{ readonly path: string; readonly found: FoundLine }> {
  const path = 'file' in name ? logOfFile(name.file, log, settings) : settings.log;
  const found = await findLine(path, name);
  if (found === undefined) throw missing(name, path);
  return { path, found };
}

function logOfFile(file: string, log: string | undefined, settings: Settings): string {
  const isIn = (path: string): boolean => path === file || closedSegments(path).includes(file);
  if (isIn(settings.log)) return settings.log;
  if (log === undefined) return file;
  throw new SwarmError(
    'USAGE',
    `${file} is no file of the log ${log}, which has: ${logFiles(log).join(', ')}`,
  );
}

function missing(name: RecordName, path: string): SwarmError {
  if ('leaf' in name)
    return new SwarmError('RECORD_MISSING', `no record of ${path} has the leaf ${name.leaf}`);
  if ('line' in name) {
    return new SwarmError(
      'RECORD_MISSING',
      `${name.file} has no record on line ${name.line} that a line feed closes`,
    );
  }
  return new SwarmError(
    'RECORD_MISSING',
    `no record of ${path} is of message ${name.streamSeq} of the stream; only deliveries and refusals have its number, so name what was said by its leaf`,
  );
}
