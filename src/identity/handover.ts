/**
 * The one line in which an agent hands its public keys to whoever keeps the keyring.
 *
 *     name record-key checkpoint-key nkey
 *
 * It fits into a chat message and is read strictly: four words, one space between them.
 */
import { decodeBase64 } from '../base/encoding.ts';
import { SwarmError } from '../base/errors.ts';
import { parseAgentName } from './agent-name.ts';
import { type PublicKey, parsePublicKey, SigningKey } from './key.ts';
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
      `not a handover line: ${printCount(words.length)} instead of 4, with one space between (name record-key checkpoint-key nkey)`,
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

/**
 * Throws `KEY_IS_SECRET` where a word of `text` is a secret key by all that can be known: `isKnown` knows its public key,
 * or what is derived from it stands there too.
 */
export function refuseSecrets(text: string, isKnown: (key: PublicKey) => boolean): void {
  const words = text.split(/\s+/).filter((word) => word !== '');
  for (const [index, word] of words.entries()) {
    const seed = seedIn(word);
    if (seed === undefined) continue;
    const key = SigningKey.fromSeed(seed);
    const derived = printHandover('x', key).split(' ').slice(1);
    if (!isKnown(key.publicKey) && !derived.some((other) => words.includes(other))) continue;
    throw new SwarmError(
      'KEY_IS_SECRET',
      `word ${index + 1} of the line is a secret key; hand over what \`swarm keys show\` prints, and if anybody else saw the secret, make a new pair with \`swarm keys new --force\``,
    );
  }
}

/** Returns the 32 bytes that `word` holds in base64, alone or as in an env file, with its padding or without. */
function seedIn(word: string): Buffer | undefined {
  const text = /^(?:\w+=)?([A-Za-z0-9+/]{43})=?$/.exec(word)?.[1];
  return text === undefined ? undefined : decodeBase64(`${text}=`);
}

function printCount(words: number): string {
  return words === 1 ? '1 word' : `${words} words`;
}
