/**
 * The env file (`.env`, or another for each agent of a folder), where an agent's key pair lives.
 *
 * `SWARM_SIGNING_SK_B64` is the secret seed and `SWARM_VERIFY_PK_B64` its public key, 32 bytes each in
 * base64. Both are required, so that a mangled line is noticed before anything is signed with it. Reading
 * never touches `process.env`, writing never loses a key: a pair is replaced only by force, and then kept.
 * No message of this file repeats a secret.
 */
import { readFile, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { parseEnv } from 'node:util';
import { makeFolderDurably, resolveLinks, writeFileDurably } from '../base/durable.ts';
import { decodeBase64, encodeBase64 } from '../base/encoding.ts';
import { messageOf, SwarmError } from '../base/errors.ts';
import { SigningKey } from './key.ts';
import { openLocked } from './locked-file.ts';

const secretName = 'SWARM_SIGNING_SK_B64';
const publicName = 'SWARM_VERIFY_PK_B64';

/** Variables by name, as `process.env` and an env file have them. */
export type EnvValues = Readonly<Record<string, string | undefined>>;

/** Returns the variables in the file at `path`, `undefined` where there is none; throws `ENV_FILE`. */
export async function readEnvFile(path: string): Promise<Readonly<Record<string, string>> | undefined> {
  const text = await readText(path);
  return text === undefined ? undefined : parseValues(text);
}

async function readText(path: string): Promise<string | undefined> {
  try {
    return decodeText(await readFile(path));
  } catch (cause) {
    if (codeOf(cause) === 'ENOENT') return undefined;
    throw new SwarmError('ENV_FILE', `cannot read ${path}: ${messageOf(cause)}`, { cause });
  }
}

/** Returns what a person should know about the file at `path`: that others may read or change it. */
export async function envFileWarnings(path: string): Promise<readonly string[]> {
  if (process.platform === 'win32') return []; // there the mode says nothing
  const found = await stat(path).catch(() => undefined); // where there is no file, there is no warning either
  if (found === undefined || (found.mode & 0o077) === 0) return [];
  return [`${path} holds a secret key and is open to other users: chmod 600 ${quotedForShell(path)}`];
}

/**
 * Returns the key in the file at `path`, and warnings for a person. Throws `KEY_MISSING`, `KEY_MALFORMED`,
 * `KEY_MISMATCH`, and `ENV_FILE` where the file cannot be read.
 */
export async function loadIdentity(path: string): Promise<{ key: SigningKey; warnings: readonly string[] }> {
  const text = await readText(path);
  if (text === undefined) {
    throw new SwarmError('KEY_MISSING', `there is no ${path}; ${howToMake(path)} makes it with a key pair`);
  }
  try {
    return { key: pairIn(parseValues(text), path, path), warnings: await envFileWarnings(path) };
  } catch (thrown) {
    if (!(thrown instanceof SwarmError) || thrown.code === 'KEY_MISSING') throw thrown;
    const twice = [secretName, publicName].find((name) => timesGiven(name, text) > 1);
    if (twice === undefined) throw thrown;
    throw new SwarmError(
      thrown.code,
      `${twice} is given twice in ${path}, and what counts, the last of each, is no pair; take out what does not belong`,
    );
  }
}

/**
 * Returns the key that `values`, found at `where` (`the environment`, a path), hold. Throws `KEY_MISSING`,
 * `KEY_MALFORMED`, `KEY_MISMATCH`, each naming `where` and the variable.
 */
export function identityFrom(values: EnvValues, where: string): SigningKey {
  return pairIn(values, where);
}

/** `path` is that of the file in which a new pair can be made, where there is one. */
function pairIn(values: EnvValues, where: string, path?: string): SigningKey {
  const secret = values[secretName];
  const anew = path === undefined ? 'unset it' : `${howToMake(path, ' --force')} makes a new pair`;
  if (!secret && values[publicName]) {
    throw new SwarmError('KEY_MISSING', `no ${secretName} in ${where}; copy it there, or ${anew}`);
  }
  if (!secret) {
    throw new SwarmError(
      'KEY_MISSING',
      `no ${secretName} in ${where}; ${path === undefined ? '`swarm keys new`' : howToMake(path)} makes a key pair`,
    );
  }
  const seed = decodeBase64(secret);
  if (seed?.length !== 32) {
    throw new SwarmError(
      'KEY_MALFORMED',
      `${secretName} in ${where} is not a signing key (${faultOf(secret)}); copy it anew, or ${anew}`,
    );
  }
  const key = SigningKey.fromSeed(seed);
  const stated = values[publicName];
  if (stated === key.publicKey) return key;
  const mend = `for this secret key it should be ${key.publicKey}`;
  if (!stated) throw new SwarmError('KEY_MISSING', `no ${publicName} in ${where}; ${mend}`);
  if (decodeBase64(stated)?.length !== 32) {
    throw new SwarmError(
      'KEY_MALFORMED',
      `${publicName} in ${where} is not a public key (${faultOf(stated)}); ${mend}`,
    );
  }
  throw new SwarmError(
    'KEY_MISMATCH',
    `${publicName} in ${where} is not the public key of ${secretName}; ${mend}, unless the secret key is the wrong one`,
  );
}

/** Says what is wrong with the spelling of a key, and nothing of the key. */
function faultOf(text: string): string {
  if (/\s/.test(text)) return 'it has white space in it';
  const bytes = Buffer.from(text, 'base64');
  if (encodeBase64(bytes) !== text) return 'it is not in canonical base64: 44 characters, the last a =';
  return `it is ${bytes.length} bytes instead of 32`;
}

export interface SaveIdentityOptions {
  /** Replace a pair that is there, keeping the file as it was beside the new one. @default false */
  readonly force?: boolean;
  /** The time, for the name of the kept file. @default the system's */
  readonly now?: () => Date;
}

/**
 * Writes the pair of `key` to the file at `path`, mode 0600, durably; other lines of it stay. Returns the
 * path of the file as it was before, kept because it held a pair, else `undefined`. Throws `KEY_EXISTS`
 * where it does and `force` is not set, `ENV_FILE` where the file cannot be read or written.
 */
export async function saveIdentity(
  path: string,
  key: SigningKey,
  options: SaveIdentityOptions = {},
): Promise<string | undefined> {
  try {
    const file = await resolveLinks(path); // a link stays a link, and leads to the new file
    await makeFolderDurably(dirname(file));
    for (;;) {
      const outcome = (await createWith(file, key)) ?? (await replaceIn(file, key, options));
      if (outcome !== undefined) return outcome.kept;
    }
  } catch (cause) {
    if (cause instanceof SwarmError) throw cause;
    throw new SwarmError('ENV_FILE', `cannot write ${path}: ${messageOf(cause)}`, { cause });
  }
}

interface Saved {
  readonly kept: string | undefined;
}

/** Returns `undefined` where the file is there already. */
async function createWith(path: string, key: SigningKey): Promise<Saved | undefined> {
  try {
    await writeFileDurably(path, withPair('', key, path), { mode: 0o600, exclusive: true });
    return { kept: undefined };
  } catch (thrown) {
    if (codeOf(thrown) === 'EEXIST') return undefined;
    throw thrown;
  }
}

/** Returns `undefined` where the file has meanwhile gone or been replaced by another. */
async function replaceIn(
  path: string,
  key: SigningKey,
  options: SaveIdentityOptions,
): Promise<Saved | undefined> {
  const opened = await openLocked(path, 'r+').catch((thrown: unknown) => {
    if (codeOf(thrown) === 'ENOENT') return undefined;
    throw thrown;
  });
  if (opened === undefined) return undefined;
  await using old = opened;
  // The lock is on the file, and who held it before may have put another in its place. Only the holder of the
  // lock on the file that bears the name may replace it: otherwise two would, and one key would be lost.
  const [mine, named] = await Promise.all([old.stat(), stat(path).catch(() => undefined)]);
  if (named?.ino !== mine.ino || named.dev !== mine.dev) return undefined;
  const bytes = await old.readFile();
  const text = decodeText(bytes);
  const values = parseValues(text);
  const present = pairPresent(values, path);
  if (present !== undefined && options.force !== true) throw present;
  const holdsPair = present !== undefined;
  const replaced = withPair(text, key, path);
  const kept = holdsPair ? await keep(path, bytes, options.now?.() ?? new Date()) : undefined;
  await writeFileDurably(path, replaced, { mode: 0o600 });
  return { kept };
}

/**
 * Returns the error that `values`, found in the file at `path`, hold a pair that is not to be overwritten, whole or not,
 * and how to see or replace it; `undefined` if they hold nothing of a pair.
 */
export function pairPresent(values: EnvValues, path: string): SwarmError | undefined {
  if (!values[secretName] && !values[publicName]) return undefined;
  const file = path === '.env' ? '' : ` --env ${quotedForShell(path)}`;
  const replace = `\`swarm keys new${file} --force\` replaces it and keeps the file as it was beside it`;
  const absent = [secretName, publicName].find((name) => !values[name]);
  if (absent !== undefined) {
    const what = `${path} holds an incomplete key pair (no ${absent})`;
    return new SwarmError('KEY_EXISTS', `${what}; complete it, or ${replace}`);
  }
  const show = `\`swarm keys show${file}\``;
  try {
    pairIn(values, path);
    return new SwarmError(
      'KEY_EXISTS',
      `${path} already holds a key pair; ${show} prints its line, ${replace}`,
    );
  } catch (cause) {
    const message = `${path} holds a broken key pair; ${show} says what is wrong with it, ${replace}`;
    return new SwarmError('KEY_EXISTS', message, { cause });
  }
}

/** Writes `bytes` beside `path` under a name with the time in it, and returns that. */
async function keep(path: string, bytes: Uint8Array, now: Date): Promise<string> {
  const time = `${now.toISOString().slice(0, 19).replaceAll(':', '-')}Z`;
  for (let attempt = 1; ; attempt++) {
    const kept = `${path}.${time}${attempt === 1 ? '' : `-${attempt}`}.bak`;
    try {
      await writeFileDurably(kept, bytes, { mode: 0o600, exclusive: true });
      return kept;
    } catch (thrown) {
      if (codeOf(thrown) !== 'EEXIST') throw thrown;
    }
  }
}

/** Returns `text` with the pair of `key` in it, where one was or else at the end; all other lines stay. */
function withPair(text: string, key: SigningKey, path: string): string {
  const pair: Record<string, string> = {
    [secretName]: encodeBase64(key.exportSeed()),
    [publicName]: key.publicKey,
  };
  const before = parseValues(text);
  let lines = text === '' ? [] : text.replace(/\n?$/, '\n').split(/(?<=\n)/);
  for (const [name, value] of Object.entries(pair)) {
    const itsLine = lineOf(name);
    const at = lines.findIndex((line) => itsLine.test(line));
    const line = `${itsLine.exec(lines[at] ?? '')?.[1] ?? name}=${value}\n`;
    const others = lines.filter((other) => !itsLine.test(other));
    lines = others.toSpliced(at < 0 ? others.length : at, 0, line);
  }
  const result = lines.join('');
  // What parses an env file is not what edits one here: values over many lines, for instance. So look.
  const after = parseValues(result);
  const names = new Set([...Object.keys(before), ...Object.keys(after), ...Object.keys(pair)]);
  for (const name of names) {
    if (after[name] !== (pair[name] ?? before[name])) {
      throw new SwarmError(
        'ENV_FILE',
        `cannot put keys into ${path} without changing ${name}; choose another file`,
      );
    }
  }
  return result;
}

/** Matches a line that gives the variable `name`, and captures what stands before the sign. */
function lineOf(name: string): RegExp {
  return new RegExp(`^(\\s*(?:export\\s+)?${name}\\s*)=`);
}

function timesGiven(name: string, text: string): number {
  return text.split('\n').filter((line) => lineOf(name).test(line)).length;
}

function decodeText(bytes: Uint8Array): string {
  return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
}

function parseValues(text: string): Record<string, string> {
  return { ...parseEnv(text) } as Record<string, string>;
}

function howToMake(path: string, more = ''): string {
  return `\`swarm keys new --env ${quotedForShell(path)}${more}\``;
}

function quotedForShell(path: string): string {
  return /^[A-Za-z0-9_./~@%+=:-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}

function codeOf(thrown: unknown): string | undefined {
  return thrown instanceof Error ? (thrown as NodeJS.ErrnoException).code : undefined;
}
