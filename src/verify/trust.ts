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

/** Where a line stands in its file's tree. */
export interface TreePlace {
  readonly leaf: Sha256Hex;
  readonly index: number;
  /** The leaf of the file's first line, which names the tree. */
  readonly firstLeaf: Sha256Hex;
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

  constructor(keyring: Keyring) {
    this.#keyring = keyring;
    for (const { record, revoked } of keyring.agents.flatMap(({ keys }) => keys)) {
      if (revoked !== undefined) this.#ahead.set(record, { revoked, inItsFile: false });
    }
  }

  /** Goes on to the line at `place`, whoever wrote it, or nobody: a key can be revoked from any line on. */
  advance(place: TreePlace): void {
    for (const [signer, ahead] of this.#ahead) {
      if (isReached(ahead, place)) this.#ahead.delete(signer);
    }
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
  faultsOfRecord(record: SignedRecord): Fault[] {
    const { header, received } = record;
    const faults: Fault[] = [];
    const { swarm } = this.#keyring;
    if (swarm !== undefined && header.swarm !== swarm) {
      faults.push({
        code: 'other-swarm',
        detail: `the record is of swarm ${header.swarm ?? '(none)'}, the keyring of ${swarm}`,
      });
    }
    if (header.kind === 'BUS.PUBLISH') faults.push(...this.#faultsOfSpeaker(record));
    // A delivery says that its writer let the message in, so its sender must have had the right to speak.
    if (header.kind === 'BUS.DELIVER' && received !== undefined) {
      if (this.#keyring.find(received.header.signer) === undefined) {
        faults.push({
          code: 'unknown-key',
          detail: `the message that it delivers is signed by ${received.header.signer}, which is not in the keyring`,
        });
      }
      faults.push(...this.#faultsOfSpeaker(received));
    }
    return faults;
  }

  #faultsOfSpeaker({ header }: SignedRecord): Fault[] {
    const known = this.#keyring.find(header.signer);
    if (known === undefined || this.#keyring.mayPublish(known.agent, header.subject)) return [];
    return [
      {
        code: 'not-permitted',
        detail: `the keyring does not let ${known.agent.name} publish on ${header.subject}`,
      },
    ];
  }
}

/** Reports whether the line at `place` is the first that a revocation takes in, or stands behind it. */
function isReached(ahead: Ahead, { leaf, index, firstLeaf }: TreePlace): boolean {
  const { revoked } = ahead;
  if ('leaf' in revoked) return revoked.leaf === leaf;
  if (!revoked.log.endsWith(`/${firstLeaf.slice(0, 32)}`)) return ahead.inItsFile; // a later file is behind
  ahead.inItsFile = true;
  return index >= revoked.size;
}
