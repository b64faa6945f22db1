/**
 * What a verification remembers, so that the next one reads only what is new.
 *
 * It is the verifier's own file, mode 0600: who can write to it can make a log look verified that never was. It is
 * kept only of a log without findings, and counts only for the same keyring and the same demands.
 */
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { writeFileDurably } from '../base/durable.ts';
import { messageOf, SwarmError } from '../base/errors.ts';

/** The content of the file. */
export interface VerifyState {
  readonly version: 1;
  /** What the verification demanded: a hash of the keyring and the options. */
  readonly terms: string;
  readonly files: {
    readonly firstLeaf: string;
    readonly lastLeaf: string;
    /** Bytes that were read, up to and with an LF. */
    readonly bytes: number;
    /** Lines, blank ones included. */
    readonly lines: number;
    /** Leaves of its tree. */
    readonly size: number;
    readonly root: string;
  }[];
  readonly sessions: {
    /** Of the last file: a `SessionTable`. */
    readonly current: { readonly texts: string[]; readonly packed: string };
    /** Of the files before: a `HashSet`. */
    readonly ended: { readonly secret: string; readonly packed: string };
    readonly cut: number;
  };
  readonly tally: {
    readonly records: number;
    readonly verified: number;
    readonly withheld: number;
    readonly recovered: number;
    readonly continues: number;
    readonly version1: number;
    readonly seenVersion2: boolean;
  };
  /** How many causes the log did not hold; which ones is not kept, so that a state does not grow with them. */
  readonly unresolved: number;
  readonly signers: [key: string, verified: number][];
}

const hash = z.string().regex(/^[0-9a-f]{64}$/);
const count = z.int().min(0);

const stateSchema: z.ZodType<VerifyState> = z.strictObject({
  version: z.literal(1),
  terms: hash,
  files: z.array(
    z.strictObject({
      firstLeaf: hash,
      lastLeaf: hash,
      bytes: count,
      lines: count,
      size: count,
      root: hash,
    }),
  ),
  sessions: z.strictObject({
    current: z.strictObject({ texts: z.array(z.string()), packed: z.base64() }),
    ended: z.strictObject({ secret: z.base64(), packed: z.base64() }),
    cut: count,
  }),
  tally: z.strictObject({
    records: count,
    verified: count,
    withheld: count,
    recovered: count,
    continues: count,
    version1: count,
    seenVersion2: z.boolean(),
  }),
  unresolved: count,
  signers: z.array(z.tuple([z.string(), count])),
});

/** Returns the state in the file at `path`, `undefined` if there is none; throws `STATE_INVALID`. */
export async function readState(path: string): Promise<VerifyState | undefined> {
  let content: unknown;
  try {
    content = JSON.parse(await readFile(path, 'utf8'));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw invalid(path, messageOf(cause), cause);
  }
  const parsed = stateSchema.safeParse(content);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw invalid(path, `${issue?.path.join('.') || 'the file'}: ${issue?.message ?? 'not a state'}`);
}

/** Writes `state` to the file at `path`, in a folder that exists; throws the system's own errors. */
export async function writeState(path: string, state: VerifyState): Promise<void> {
  await writeFileDurably(path, `${JSON.stringify(state)}\n`, { mode: 0o600 });
}

function invalid(path: string, what: string, cause?: unknown): SwarmError {
  return new SwarmError(
    'STATE_INVALID',
    `cannot read the state ${path}: ${what}; remove it, and the whole log is read again`,
    { cause },
  );
}
