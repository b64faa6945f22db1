/**
 * What the keyring says of a record: whose key, revoked or not, in which swarm, and may it speak there.
 *
 * Revocation counts from a place in the log on, a leaf or a size of the tree, never from a claimed time, which a
 * thief chooses (docs/format.md, section 7).
 */
import type { Sha256Hex } from '../base/encoding.ts';
import type { PublicKey } from '../identity/key.ts';
import type { Keyring } from '../identity/keyring.ts';
import type { Revocation } from '../identity/keyring-file.ts';
import type { SignedRecord } from '../record/signed.ts';
import type { Fault } from './finding.ts';
import { HashSet } from './hash-set.ts';

/** Where a line stands in its file's tree. */
export interface TreePlace {
  readonly leaf: Sha256Hex;
  /** Which file of the log, from 0. @default 0 */
  readonly file?: number;
  readonly index: number;
  /** The leaf of the message that the line delivers: a key can be revoked from it on, too. */
  readonly delivered?: Sha256Hex | undefined;
  /** The leaf of the file's first line, which names the tree. */
  readonly firstLeaf: Sha256Hex;
}

/** What a checkpoint is of. */
export interface CheckpointPlace {
  /** Which file of the log, from 0. */
  readonly file: number;
  /** The name of its tree. */
  readonly id: string;
  readonly size: number;
}

/** What a record says that the keyring has an opinion on. */
export interface Spoken {
  readonly swarm: string | undefined;
  readonly isPublish: boolean;
  readonly isDelivery: boolean;
  readonly signer: string;
  /** Who signed the message that a DELIVER keeps. */
  readonly spokenSigner: string;
  /** Where a message was sent: of a PUBLISH, or of the one that a DELIVER keeps. */
  readonly subject: string;
}

/** Returns what `record` says of that. */
export function spokenIn({ header, received }: SignedRecord): Spoken {
  const isDelivery = header.kind === 'BUS.DELIVER' && received !== undefined;
  return {
    swarm: header.swarm,
    isPublish: header.kind === 'BUS.PUBLISH',
    isDelivery,
    signer: header.signer,
    spokenSigner: received?.header.signer ?? '',
    subject: isDelivery ? received.header.subject : header.subject,
  };
}

/** Where a revocation took effect. */
export interface Reached {
  /** Which file of the log, from 0. */
  readonly file: number;
  /** Which line of it, from 0: the first that the key may not have written. */
  readonly index: number;
}

interface Ahead {
  readonly revoked: Revocation;
  /** Whether a line of the file whose tree the revocation names has gone by. */
  inItsFile: boolean;
}

export class Trust {
  readonly #keyring: Keyring;
  /** Revocations that the lines so far have not reached. */
  readonly #ahead = new Map<PublicKey, Ahead>();
  /** Where revocations took effect, for all that are not ahead. */
  readonly #reached = new Map<PublicKey, Reached>();

  /** Whether the keyring has revocations at all. */
  readonly hasRevocations: boolean;

  constructor(keyring: Keyring) {
    this.#keyring = keyring;
    for (const { record, revoked } of keyring.agents.flatMap(({ keys }) => keys)) {
      if (revoked !== undefined) this.#ahead.set(record, { revoked, inItsFile: false });
    }
    this.hasRevocations = this.#ahead.size > 0;
  }

  /** What keys said before they were revoked, of those that are. */
  readonly #inTime = new HashSet();

  /** The keys whose revocation names a place that the lines so far have not reached: they count, up to here. */
  get notReached(): PublicKey[] {
    return [...this.#ahead.keys()];
  }

  /**
   * Reports whether the agent with record key `signer` could no longer sign the checkpoint of a file's first `size` lines,
   * once the file's lines have gone by.
   */
  isRevokedAt(signer: PublicKey, { file, id, size }: CheckpointPlace): boolean {
    const revoked = this.#keyring.find(signer)?.key.revoked;
    // Of this tree the keyring says it, also where the lines that it speaks of are gone.
    if (revoked !== undefined && 'log' in revoked && revoked.log.endsWith(`/${id}`))
      return size > revoked.size;
    const reached = this.#reached.get(signer);
    return reached !== undefined && (reached.file < file || (reached.file === file && reached.index < size));
  }

  /** Goes on to the line at `place`, whoever wrote it, or nobody: a key can be revoked from any line on. */
  advance(place: TreePlace): void {
    for (const [signer, ahead] of this.#ahead) {
      if (!isReached(ahead, place)) continue;
      this.#ahead.delete(signer);
      this.#reached.set(signer, { file: place.file ?? 0, index: place.index });
    }
  }

  /** Remembers the message of `signer` whose leaf begins at `at` of `bytes`, if its key is one that will be revoked. */
  said(signer: PublicKey, bytes: Buffer, at: number): void {
    if (this.#ahead.has(signer)) this.#inTime.add(bytes, at);
  }

  /**
   * Returns what there is against delivering, here, the message of `signer` whose leaf begins at `at` of `bytes`: that
   * the key is revoked by now, and the message was not said before in this log.
   */
  faultsOfDelivery(signer: PublicKey, bytes: Buffer, at: number): Fault[] {
    if (!this.#reached.has(signer) || this.#inTime.has(bytes, at)) return [];
    const detail = `the message that it delivers is signed by ${signer}, which was revoked from here or before on`;
    return [{ code: 'revoked-key', detail }];
  }

  /** Returns what the keyring has against `signer`'s writing the line that was last advanced to. */
  faultsOfSigner(signer: PublicKey): Fault[] {
    const known = this.#keyring.find(signer);
    if (known === undefined) return [{ code: 'unknown-key', detail: `key ${signer} is not in the keyring` }];
    if (known.key.revoked === undefined || this.#ahead.has(signer)) return [];
    return [
      {
        code: 'revoked-key',
        detail: `key ${signer} of ${known.agent.name} was revoked from here or before on`,
      },
    ];
  }

  /** Returns what the keyring has against the record itself, or the message that it keeps. */
  faultsOfRecord({ swarm, isPublish, isDelivery, signer, spokenSigner, subject }: Spoken): Fault[] {
    const faults: Fault[] = [];
    const ours = this.#keyring.swarm;
    if (ours !== undefined && swarm !== ours) {
      faults.push({
        code: 'other-swarm',
        detail: `the record is of swarm ${swarm ?? '(none)'}, the keyring of ${ours}`,
      });
    }
    if (isPublish) faults.push(...this.#faultsOfSpeaker(signer, subject));
    // A delivery says that its writer let the message in, so its sender must have had the right to speak.
    if (isDelivery) {
      if (this.#keyring.find(spokenSigner as PublicKey) === undefined) {
        faults.push({
          code: 'unknown-key',
          detail: `the message that it delivers is signed by ${spokenSigner}, which is not in the keyring`,
        });
      }
      faults.push(...this.#faultsOfSpeaker(spokenSigner, subject));
    }
    return faults;
  }

  #faultsOfSpeaker(signer: string, subject: string): Fault[] {
    const known = this.#keyring.find(signer as PublicKey);
    if (known === undefined || this.#keyring.mayPublish(known.agent, subject)) return [];
    return [
      {
        code: 'not-permitted',
        detail: `the keyring does not let ${known.agent.name} publish on ${subject}`,
      },
    ];
  }
}

/** Reports whether the line at `place` is the first that a revocation takes in, or stands behind it. */
function isReached(ahead: Ahead, { leaf, delivered, index, firstLeaf }: TreePlace): boolean {
  const { revoked } = ahead;
  if ('leaf' in revoked) return revoked.leaf === leaf || revoked.leaf === delivered;
  if (!revoked.log.endsWith(`/${firstLeaf.slice(0, 32)}`)) return ahead.inItsFile; // a later file is behind
  ahead.inItsFile = true;
  return index >= revoked.size;
}
