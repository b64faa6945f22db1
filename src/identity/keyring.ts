/**
 * The keyring, `swarm.keys.json`: whose key is whose, what its agent may publish on, and from which place in
 * a log on it no longer counts.
 *
 * It is read strictly, down to names given twice, which `JSON.parse` would let pass. A `Keyring` does not
 * change; `keyring-edit.ts` makes new ones.
 */
import { readFile } from 'node:fs/promises';
import { type Sha256Hex, sha256Hex } from '../base/encoding.ts';
import { messageOf, SwarmError } from '../base/errors.ts';
import { describeJsonFault, repeatedMembers } from '../base/json.ts';
import { matchesPattern, parsePattern, type SubjectPattern } from '../base/subject.ts';
import type { PublicKey } from './key.ts';
import { checkKeyringFile, type KeyringFile, type KeyringKey } from './keyring-file.ts';

export {
  type AgentEntry,
  type Durables,
  type KeyringFile,
  type KeyringKey,
  keyringJsonSchema,
  type Revocation,
} from './keyring-file.ts';

/** An agent with what it may publish on, said or not, and the filters of its durables. */
export interface Agent {
  readonly name: string;
  readonly keys: readonly KeyringKey[];
  readonly publish: readonly SubjectPattern[];
  readonly durables: Readonly<Record<string, readonly SubjectPattern[]>>;
}

const subjectsRemembered = 1024;

export class Keyring {
  /** What the file holds, for who edits it. */
  readonly file: KeyringFile;
  readonly swarm: string | undefined;
  /** The name of the agent that may create streams and durables at a broker that knows the agents. */
  readonly operator: string | undefined;
  readonly agents: readonly Agent[];
  /** With which its agents sign checkpoints, keys that are revoked included. */
  readonly checkpointKeys: readonly PublicKey[];
  readonly #byKey = new Map<PublicKey, { readonly agent: Agent; readonly key: KeyringKey }>();
  /** Answers given, for a subject is asked about many times. */
  readonly #permitted = new WeakMap<Agent, Map<string, boolean>>();

  private constructor(file: KeyringFile) {
    this.file = file;
    this.swarm = file.swarm;
    this.operator = file.operator;
    this.agents = file.agents.map(({ name, publish, durables = {}, keys }) => ({
      name,
      keys,
      publish: (publish ?? [`thread.*.${name}`, `thread.*.${name}.>`]).map(parsePattern),
      durables: Object.fromEntries(
        Object.entries(durables).map(([durable, filters]) => [durable, [filters].flat().map(parsePattern)]),
      ),
    }));
    this.checkpointKeys = this.agents.flatMap(({ keys }) =>
      keys.flatMap(({ checkpoint }) => checkpoint ?? []),
    );
    for (const agent of this.agents) {
      for (const key of agent.keys) this.#byKey.set(key.record, { agent, key });
    }
  }

  /**
   * Returns the keyring whose file holds `content`. Throws `KEYRING_INVALID`, with `name` and all that is wrong,
   * `problems` found before included.
   */
  static from(content: unknown, name: string, problems: readonly string[] = []): Keyring {
    const checked = checkKeyringFile(content);
    const all = [...problems, ...checked.problems];
    if (checked.file !== undefined && all.length === 0) return new Keyring(checked.file);
    const list = all.length === 1 ? ` ${all[0]}` : all.map((problem) => `\n  ${problem}`).join('');
    throw new SwarmError('KEYRING_INVALID', `${name} is not a valid keyring:${list}`);
  }

  /** Returns the agent of that name. */
  named(name: string): Agent | undefined {
    return this.agents.find((agent) => agent.name === name);
  }

  /** Returns the agent whose record key `key` is, and its entry, whether revoked or not. */
  find(key: PublicKey): { readonly agent: Agent; readonly key: KeyringKey } | undefined {
    return this.#byKey.get(key);
  }

  /** Reports whether the keyring lets `agent` publish on `subject`. */
  mayPublish(agent: Agent, subject: string): boolean {
    let answers = this.#permitted.get(agent);
    if (answers === undefined) {
      answers = new Map();
      this.#permitted.set(agent, answers);
    }
    const known = answers.get(subject);
    if (known !== undefined) return known;
    const answer = agent.publish.some((pattern) => matchesPattern(pattern, subject));
    if (answers.size >= subjectsRemembered) answers.clear(); // subjects come from outside, without end
    answers.set(subject, answer);
    return answer;
  }
}

/** Returns the keyring of a JSON text; throws `KEYRING_INVALID`, with `name` and all that is wrong. */
export function parseKeyring(text: string, name: string): Keyring {
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch (cause) {
    throw new SwarmError(
      'KEYRING_INVALID',
      `${name} is not valid JSON at ${describeJsonFault(text)}; correct it there`,
      { cause },
    );
  }
  const repeated = repeatedMembers(text).map((path) => `${path}: given twice`);
  return Keyring.from(content, name, repeated);
}

/** Returns `keyring` as its file's text: JSON, two spaces, a last newline. */
export function printKeyring(keyring: Keyring): string {
  return `${JSON.stringify(keyring.file, null, 2)}\n`;
}

/**
 * Returns the keyring in the file at `path` and the SHA-256 of the file's bytes. Throws `KEYRING_MISSING`
 * where there is no file, `KEYRING_FILE` where it cannot be read, `KEYRING_INVALID`.
 */
export async function loadKeyring(path: string): Promise<{ keyring: Keyring; sha256: Sha256Hex }> {
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') {
      throw new SwarmError('KEYRING_MISSING', `no keyring at ${path}; \`swarm keys new\` makes one`, {
        cause,
      });
    }
    throw new SwarmError('KEYRING_FILE', `cannot read the keyring ${path}: ${messageOf(cause)}`, { cause });
  }
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new SwarmError('KEYRING_INVALID', `${path} is not valid UTF-8`, { cause });
  }
  return { keyring: parseKeyring(text, path), sha256: sha256Hex(bytes) };
}
