/**
 * What the keyring says of a record: whose key, revoked or not, in which swarm, and may it speak there.
 *
 * Revocation counts from a place in the log on, a leaf or a size of the tree, never from a claimed time, which a
 * thief chooses (docs/format.md, section 7).
 */
import type { Sha256Hex } from '../base/encoding.ts';
import type { PublicKey } from '../identity/key.ts';
import type { Keyring } from '../identity/keyring.ts';
import type { SignedRecord } from '../record/signed.ts';
import type { Fault } from './finding.ts';

/** Where a line stands in its file's tree. */
export interface TreePlace {
  readonly leaf: Sha256Hex;
  readonly index: number;
  /** The leaf of the file's first line, which names the tree. */
  readonly firstLeaf: Sha256Hex;
}

export class Trust {
  readonly #keyring: Keyring;
  /** Keys whose revocation has been passed. */
  readonly #revoked = new Set<PublicKey>();

  constructor(keyring: Keyring) {
    this.#keyring = keyring;
  }

  /** Returns what the keyring has against `signer`'s writing a line at `place`. Lines are asked for in order. */
  faultsOfSigner(signer: PublicKey, place: TreePlace): Fault[] {
    const known = this.#keyring.find(signer);
    if (known === undefined) return [{ code: 'unknown-key', detail: `key ${signer} is not in the keyring` }];
    const { revoked } = known.key;
    if (revoked !== undefined && !this.#revoked.has(signer)) {
      const reached =
        'leaf' in revoked
          ? revoked.leaf === place.leaf
          : revoked.log.endsWith(`/${place.firstLeaf.slice(0, 32)}`) && place.index >= revoked.size;
      if (reached) this.#revoked.add(signer);
    }
    if (!this.#revoked.has(signer)) return [];
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
