/**
 * The form of the keyring's file, `swarm.keys.json`, and everything that can be wrong with one.
 *
 * The file decides about trust, so unknown members and shared keys are refused: a key has one agent and one
 * purpose, and a record key stands in the file once. All faults are found at once, each with its place in
 * plain words. Besides verify/state.ts this is the one file that imports zod, which takes 0.1 s to load.
 */
import { z } from 'zod';
import type { Sha256Hex } from '../base/encoding.ts';
import { printJsonPath } from '../base/json.ts';
import { nameGrammar, parsePattern } from '../base/subject.ts';
import type { PublicKey } from './key.ts';
import { parseNkey } from './nkey.ts';
import { quoted as quotedText } from './quoted.ts';

/** The record from which on, or the size of a log's tree from which on, a key counts no more. Never a time. */
export type Revocation = { readonly leaf: Sha256Hex } | { readonly log: string; readonly size: number };

/** A record key, with the further keys that its holder uses. */
export interface KeyringKey {
  readonly record: PublicKey;
  readonly checkpoint?: PublicKey;
  /** The NKey with which the agent logs in at the NATS server, "U…". */
  readonly nkey?: string;
  readonly revoked?: Revocation;
}

/** What durables an agent has: the filter, or the filters, of each name. */
export type Durables = Readonly<Record<string, string | readonly string[]>>;

/** An agent as the file has it: without `publish` it may speak under its own name in every thread. */
export interface AgentEntry {
  readonly name: string;
  readonly publish?: readonly string[];
  readonly durables?: Durables;
  readonly keys: readonly KeyringKey[];
}

/** The content of the file. */
export interface KeyringFile {
  readonly $schema?: string;
  readonly version: 1;
  readonly swarm?: string;
  readonly operator?: string;
  readonly agents: readonly AgentEntry[];
}

/** Returns `content` as a keyring's file and no problems, or every problem with it, in plain words. */
export function checkKeyringFile(
  content: unknown,
):
  | { readonly file: KeyringFile; readonly problems: [] }
  | { readonly file?: never; readonly problems: string[] } {
  const parsed = keyringSchema.safeParse(content, { error: inPlainWords });
  const problems = [...(parsed.error?.issues.flatMap(describe) ?? []), ...conflictsIn(content)];
  if (!parsed.success || problems.length > 0) return { problems };
  return { file: parsed.data as unknown as KeyringFile, problems: [] }; // the schema has seen to what the brands say
}

/** Returns the JSON Schema of the file, as `schema/swarm.keys.schema.json` holds it. */
export function keyringJsonSchema(): Record<string, unknown> {
  return z.toJSONSchema(keyringSchema, { io: 'input' });
}

const quoted = (input: unknown): string => quotedText(String(input));

function fits(parse: (text: string) => unknown): (text: string) => boolean {
  return (text) => {
    try {
      parse(text);
      return true;
    } catch {
      return false;
    }
  };
}

// The last character before the padding carries four bits: this is the canonical base64 of 32 bytes, exactly.
const publicKeySchema = z.string().regex(/^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/, {
  error: ({ input }) => `not a key: ${quoted(input)} (32 bytes in base64, 44 characters)`,
});

const nkeySchema = z
  .string()
  .refine(fits(parseNkey), { error: ({ input }) => `not a NATS user's NKey: ${quoted(input)}` })
  .meta({ pattern: '^U[A-Z2-7]{55}$' });

const patternSchema = z
  .string()
  .refine(fits(parsePattern), { error: ({ input }) => `not a subject pattern: ${quoted(input)}` })
  .meta({ pattern: '^[A-Za-z0-9_*>.-]{1,255}$' });

const revocationSchema = z.union(
  [
    z.strictObject({
      leaf: z
        .string()
        .regex(/^[0-9a-f]{64}$/, {
          error: ({ input }) => `not a leaf: ${quoted(input)} (64 lowercase hex digits)`,
        })
        .describe('The leaf of the first record that no longer counts.'),
    }),
    z.strictObject({
      log: z
        .string()
        .regex(/^[^\s+]+\/[0-9a-f]{32}$/, {
          error: ({ input }) =>
            `not a log's origin: ${quoted(input)} (name/32 hex digits, a checkpoint's first line)`,
        })
        .describe('The origin of the log, as on the first line of its checkpoints.'),
      size: z
        .int({ error: 'not a whole number from 0 to 2^53 - 1' })
        .min(0, { error: 'not a whole number from 0 to 2^53 - 1' })
        .describe('How many records of that log still count.'),
    }),
  ],
  { error: 'neither {"leaf": 64 hex digits} nor {"log": origin, "size": whole number}' },
);

const keySchema = z.strictObject({
  record: publicKeySchema.describe('The public key that signs records, 32 bytes in base64.'),
  checkpoint: publicKeySchema
    .optional()
    .describe("The public key that signs checkpoints of the agent's log."),
  nkey: nkeySchema.optional().describe('The NKey with which the agent logs in at the NATS server.'),
  revoked: revocationSchema
    .optional()
    .describe('From where on the key no longer counts: a place in a log, because a thief can choose a time.'),
});

const durablesSchema = z.record(
  z.string().regex(nameGrammar, {
    error: ({ input }) => `not a durable's name: ${quoted(input)} (1 to 64 letters, digits, _ and -)`,
  }),
  z.union([patternSchema, z.array(patternSchema).min(1, { error: 'a durable has one filter at least' })], {
    error: 'not a filter, nor a list of filters',
  }),
);

const agentSchema = z.strictObject({
  name: z
    .string()
    .regex(nameGrammar, {
      error: ({ input }) => `not an agent's name: ${quoted(input)} (1 to 64 letters, digits, _ and -)`,
    })
    .describe('The name of the agent, once in this file.'),
  publish: z
    .array(patternSchema)
    .optional()
    .describe('Subjects it may publish on, * and > allowed. Left out: thread.*.<name> and thread.*.<name>.>'),
  durables: durablesSchema
    .optional()
    .describe(
      'The durables that it may read at a broker that knows the agents, each with its filter or filters.',
    ),
  keys: z
    .array(keySchema)
    .min(1, { error: 'an agent has one key at least' })
    .describe('Its keys; a new one stands beside the old, whose records still count.'),
});

const keyringSchema = z
  .strictObject({
    $schema: z.string().optional().describe('Where an editor finds this schema.'),
    version: z.literal(1, { error: 'must be 1' }).describe('The version of the form of this file.'),
    swarm: z
      .string()
      .regex(/^[A-Za-z0-9_.-]{1,64}$/, {
        error: ({ input }) => `not a swarm's name: ${quoted(input)} (1 to 64 letters, digits, _ . and -)`,
      })
      .optional()
      .describe('The swarm that this keyring is for.'),
    operator: z
      .string()
      .optional()
      .describe('The agent that may create streams and durables at a broker that knows the agents.'),
    agents: z.array(agentSchema).describe('Who belongs to the swarm.'),
  })
  .meta({
    title: 'CAN Swarm keyring',
    description: 'swarm.keys.json: which keys belong to which agent, and what each agent may publish on.',
  });

/** Says in plain words what the schema itself has no words for. */
function inPlainWords({ code, input, ...issue }: z.core.$ZodRawIssue): string | undefined {
  if (code !== 'invalid_type') return undefined;
  if (input === undefined) return 'missing';
  const found = input === null ? 'null' : Array.isArray(input) ? 'array' : typeof input;
  return `expected ${String(issue.expected)}, found ${found}`;
}

function describe(issue: z.core.$ZodIssue): string[] {
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => `${printJsonPath([...issue.path, key])}: unknown member`);
  }
  const messages =
    issue.code === 'invalid_key' ? issue.issues.map(({ message }) => message) : [issue.message];
  return messages.map((message) => `${printJsonPath(issue.path) || 'the file'}: ${message}`);
}

/** What of a file, faulty or not, can be compared with the rest of it. */
const comparableText = z.string().optional().catch(undefined);
const comparableFilters = z
  .union([z.string().transform((filter) => [filter]), z.array(z.string())])
  .catch([]);
const comparableSchema = z
  .object({
    operator: comparableText,
    agents: z
      .array(
        z
          .object({
            name: comparableText,
            durables: z.record(z.string(), comparableFilters).optional().catch(undefined),
            keys: z
              .array(
                z
                  .object({ record: comparableText, checkpoint: comparableText, nkey: comparableText })
                  .catch({ record: undefined, checkpoint: undefined, nkey: undefined }),
              )
              .catch([]),
          })
          .catch({ name: undefined, durables: undefined, keys: [] }),
      )
      .catch([]),
  })
  .catch({ operator: undefined, agents: [] });

/** Returns where a name or key stands twice, a key for two purposes or two agents, or a name for nobody. */
function conflictsIn(file: unknown): string[] {
  const problems: string[] = [];
  const names = new Map<string, string>();
  const seen = new Map<string, { agent: number; purpose: string; path: string }>();
  const filtersOf = new Map<string, { filters: string; path: string }>();
  const { operator, agents } = comparableSchema.parse(file);
  if (operator !== undefined && !agents.some(({ name }) => name === operator)) {
    problems.push(`operator: no agent ${quoted(operator)} is in this file`);
  }
  for (const [agent, { name, durables = {}, keys }] of agents.entries()) {
    if (name !== undefined) {
      const path = printJsonPath(['agents', agent, 'name']);
      const earlier = names.get(name);
      if (earlier === undefined) names.set(name, path);
      else
        problems.push(
          `${path}: ${quoted(name)} is already ${earlier}; an agent has one entry, with all its keys`,
        );
    }
    for (const [durable, list] of Object.entries(durables)) {
      const path = printJsonPath(['agents', agent, 'durables', durable]);
      const filters = list.toSorted().join(' ');
      const earlier = filtersOf.get(durable);
      if (earlier === undefined) filtersOf.set(durable, { filters, path });
      else if (earlier.filters !== filters)
        problems.push(`${path}: another filter than at ${earlier.path}; a durable that agents share has one`);
    }
    for (const [index, key] of keys.entries()) {
      for (const purpose of ['record', 'checkpoint', 'nkey'] as const) {
        const text = key[purpose];
        if (text === undefined) continue;
        const path = printJsonPath(['agents', agent, 'keys', index, purpose]);
        const bytes = purpose === 'nkey' && fits(parseNkey)(text) ? parseNkey(text) : text;
        const earlier = seen.get(bytes);
        if (earlier === undefined) seen.set(bytes, { agent, purpose, path });
        else if (earlier.purpose !== purpose)
          problems.push(`${path}: the same key as ${earlier.path}; every purpose has its own`);
        else if (earlier.agent !== agent)
          problems.push(`${path}: the same key as ${earlier.path}; a key belongs to one agent`);
        else if (purpose === 'record')
          problems.push(`${path}: the same key as ${earlier.path}; a record key stands here once`);
      }
    }
  }
  return problems;
}
