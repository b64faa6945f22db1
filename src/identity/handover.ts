/**
 * The one line in which an agent hands its public keys to whoever keeps the keyring.
 *
 *     name record-key checkpoint-key nkey
 *
 * It fits into a chat message and is read strictly: four words, one space between them.
 */
import { SwarmError } from '../base/errors.ts';
import { parseAgentName } from './agent-name.ts';
import { type PublicKey, parsePublicKey, type SigningKey } from './key.ts';
import { parseNkey, printNkey } from './nkey.ts';

/** What an agent hands over: its name and the public key of each purpose. */
export interface Handover {
  readonly name: string;
  readonly record: PublicKey;
  readonly checkpoint: PublicKey;
  readonly nkey: string;
}

/** Returns the line for `key` and the keys derived from it; throws `USAGE` for a name that is none. */
export function printHandover(agentName: string, key: SigningKey): string {
  const checkpoint = key.derive('can-swarm/checkpoint/v1').publicKey;
  const nkey = printNkey(key.derive('can-swarm/nkey/v1').publicKey);
  return `${parseAgentName(agentName)} ${key.publicKey} ${checkpoint} ${nkey}`;
}

/** Returns what `line` hands over; white space around it is let pass. Throws `USAGE`, or `KEY_MALFORMED`. */
export function parseHandover(line: string): Handover {
  const words = line.trim().split(' ');
  const [name, record, checkpoint, nkey] = words;
  if (
    name === undefined ||
    record === undefined ||
    checkpoint === undefined ||
    nkey === undefined ||
    words.length > 4
  ) {
    throw new SwarmError(
      'USAGE',
      `not a handover line: ${words.length} words with one space between instead of 4 (name record-key checkpoint-key nkey)`,
    );
  }
  parseNkey(nkey);
  return {
    name: parseAgentName(name),
    record: parsePublicKey(record),
    checkpoint: parsePublicKey(checkpoint),
    nkey,
  };
}
