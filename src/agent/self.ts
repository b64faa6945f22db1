/**
 * Who we are and whom we know: our signing key, the keys that count, and how we log in at the broker.
 *
 * A keyring that is there, or that somebody named, decides. Without one only our own key counts.
 */
import type { Sha256Hex } from '../base/encoding.ts';
import { SwarmError } from '../base/errors.ts';
import type { BusOptions } from '../bus/connection.ts';
import { identityFrom, loadIdentity } from '../identity/envfile.ts';
import type { SigningKey } from '../identity/key.ts';
import { Keyring, loadKeyring } from '../identity/keyring.ts';
import { printNkey } from '../identity/nkey.ts';
import type { Settings } from './settings.ts';

export interface Identity {
  readonly key: SigningKey;
  /** What a person should know: a file with a secret that others can read. */
  readonly warnings: readonly string[];
}

/** Returns our signing key; throws `KEY_MISSING`, `KEY_MALFORMED`, `KEY_MISMATCH`, `ENV_FILE`. */
export async function loadKey({ envFile, envFileNamed, environment }: Settings): Promise<Identity> {
  if (!envFileNamed && environment.SWARM_SIGNING_SK_B64) {
    return { key: identityFrom(environment, 'the environment'), warnings: [] };
  }
  return await loadIdentity(envFile);
}

export interface KnownKeys {
  readonly keyring: Keyring;
  /** Where the keys come from, for people. */
  readonly source: string;
  /** Of the keyring file's bytes, if it is one. */
  readonly sha256: Sha256Hex | undefined;
}

/** Returns the keyring's keys, or `undefined` where there is no keyring; throws if one was named and is missing. */
export async function loadKnownKeys({
  keyring: path,
  keyringNamed,
}: Settings): Promise<KnownKeys | undefined> {
  try {
    return { ...(await loadKeyring(path)), source: path };
  } catch (error) {
    if (!keyringNamed && error instanceof SwarmError && error.code === 'KEYRING_MISSING') return undefined;
    throw error;
  }
}

/** Returns a keyring in which one key, `ours`, may say everything, and seal. */
export function keyringOfOne(ours: SigningKey, name = 'self'): Keyring {
  const keys = [{ record: ours.publicKey, checkpoint: checkpointKeyOf(ours).publicKey }];
  return Keyring.from({ version: 1, agents: [{ name, publish: ['>'], keys }] }, 'our own key');
}

/** Returns the key with which the agent of `key` signs checkpoints. */
export function checkpointKeyOf(key: SigningKey): SigningKey {
  return key.derive('can-swarm/checkpoint/v1');
}

/** Returns how to connect: as the settings say, and where they name no login, by the key of the agent `name`. */
export function busOptionsOf(
  { url, credentials, tls, inboxPrefix }: Settings,
  key: SigningKey | undefined,
  name: string | undefined,
): BusOptions {
  return {
    url,
    ...(credentials !== undefined && { credentials }),
    ...(tls !== undefined && { tls }),
    ...(inboxPrefix !== undefined && { inboxPrefix }),
    ...(name !== undefined && { name }),
    ...(key !== undefined && name !== undefined && { nkey: nkeyLoginOf(key, name) }),
  };
}

function nkeyLoginOf(key: SigningKey, name: string): NonNullable<BusOptions['nkey']> {
  const nkey = key.derive('can-swarm/nkey/v1');
  return {
    user: printNkey(nkey.publicKey),
    sign: (nonce) => nkey.sign(nonce),
    inboxPrefix: inboxPrefixOf(name),
  };
}

/** Returns where replies come to for the agent `name`: at a broker that knows the agents, nobody else hears them. */
export function inboxPrefixOf(name: string): string {
  return `_INBOX_${name}`;
}
