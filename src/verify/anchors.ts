/**
 * Checkpoints, opened and put to the trees that they are of: the one beside each file, and those kept elsewhere.
 *
 * A checkpoint kept elsewhere that is nobody's whom we know says nothing, for anybody can write one; it is a finding only
 * where the caller named it. Without a keyring every checkpoint is taken as it is, unauthenticated.
 */
import type { PublicKey } from '../identity/key.ts';
import type { Keyring } from '../identity/keyring.ts';
import { logNameOf, treeIdOf } from '../log/tlog.ts';
import { type Checkpoint, openCheckpoint, parseCheckpointNote } from '../merkle/checkpoint.ts';
import type { Finding, FindingCode } from './finding.ts';

/** A checkpoint that was kept elsewhere. */
export interface Anchor {
  /** The note, as it was signed. */
  readonly text: string;
  /** Where it comes from, for people: a file's path, or where else it was kept. */
  readonly source: string;
  /** Whether it must be of this log and of somebody whom we know. @default false */
  readonly required?: boolean;
}

/** A tree that somebody sealed, and of which no file is here. */
export interface AbsentTree {
  /** Its name, as its checkpoints have it. */
  readonly origin: string;
  /** How many records its largest checkpoint is of. */
  readonly size: number;
  /** Where that checkpoint comes from. */
  readonly source: string;
}

/** A checkpoint that counts, unless its key turns out to be revoked. */
export interface Head {
  readonly checkpoint: Checkpoint;
  readonly text: string;
  readonly source: string;
  readonly required: boolean;
  /** Whether it was kept elsewhere. */
  readonly isAnchor: boolean;
  /** The record keys of the agents whose checkpoint keys signed it; none without a keyring. */
  readonly signers: readonly PublicKey[];
}

export type OpenedHead =
  | { readonly ok: true; readonly head: Head }
  | { readonly ok: false; readonly code: FindingCode; readonly detail: string };

/** Opens checkpoints against a keyring. */
export class Openers {
  readonly #isAnyTaken: boolean;
  readonly #keys: readonly PublicKey[];
  readonly #recordKeys = new Map<PublicKey, PublicKey>();

  constructor(keyring: Keyring | undefined) {
    this.#isAnyTaken = keyring === undefined;
    this.#keys = keyring?.checkpointKeys ?? [];
    for (const { keys } of keyring?.agents ?? []) {
      for (const { record, checkpoint } of keys)
        if (checkpoint !== undefined) this.#recordKeys.set(checkpoint, record);
    }
  }

  open({ text, source, required = false }: Anchor, isAnchor: boolean): OpenedHead {
    if (this.#isAnyTaken) {
      const parsed = parseCheckpointNote(text);
      if (!parsed.ok) return { ok: false, code: 'checkpoint-invalid', detail: parsed.detail };
      return {
        ok: true,
        head: { checkpoint: parsed.checkpoint, text, source, required, isAnchor, signers: [] },
      };
    }
    const opened = openCheckpoint(text, this.#keys);
    if (!opened.ok) {
      const code = opened.problem === 'unknown-key' ? 'checkpoint-unknown-key' : 'checkpoint-invalid';
      return { ok: false, code, detail: opened.detail };
    }
    const { checkpoint } = opened;
    const signers = opened.signers.map((key) => this.#recordKeys.get(key) ?? key);
    return { ok: true, head: { checkpoint, text, source, required, isAnchor, signers } };
  }
}

/** What was kept elsewhere, by the tree it is of. */
export class Anchors {
  readonly #byTree = new Map<string, Head[]>();
  readonly findings: Finding[] = [];
  /** Those of nobody whom we know. */
  ignored = 0;

  constructor(anchors: Iterable<Anchor>, openers: Openers) {
    for (const anchor of anchors) {
      const opened = openers.open(anchor, true);
      if (opened.ok) this.#add(opened.head);
      else if (anchor.required === true) {
        this.findings.push({ code: opened.code, detail: opened.detail, at: wholeOf(anchor.source) });
      } else this.ignored += 1;
    }
  }

  /** Takes out those of the tree `id`. */
  take(id: string): Head[] {
    const heads = this.#byTree.get(id) ?? [];
    this.#byTree.delete(id);
    return heads;
  }

  /** Those that no file took. */
  *left(): Generator<Head> {
    for (const heads of this.#byTree.values()) yield* heads;
  }

  /**
   * Returns the trees under `name` that no file took, but for those that are a finding. They may be of a log of that name on another machine, of one that
   * was moved aside, of segments that were put away: or of what was taken away here.
   */
  absentUnder(name: string): AbsentTree[] {
    return [...this.#byTree.values()].flatMap((heads) => {
      const [first, ...more] = heads.filter(({ checkpoint }) => logNameOf(checkpoint.origin) === name);
      if (first === undefined || heads.some(({ required }) => required)) return [];
      const largest = more.reduce((a, b) => (b.checkpoint.size > a.checkpoint.size ? b : a), first);
      const { origin, size } = largest.checkpoint;
      return [{ origin, size, source: largest.source }];
    });
  }

  #add(head: Head): void {
    const id = treeIdOf(head.checkpoint.origin);
    const heads = this.#byTree.get(id);
    if (heads === undefined) this.#byTree.set(id, [head]);
    else heads.push(head);
  }
}

/** Returns the position of a file as a whole. */
export function wholeOf(file: string): Finding['at'] {
  return { file, line: 0, offset: 0 };
}
