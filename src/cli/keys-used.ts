/**
 * Whose keys count in a verification: those of the keyring, else our own, or where somebody asks for it the log's.
 */
import { keyringOfOne, loadKey, loadKnownKeys } from '../agent/self.ts';
import type { Settings } from '../agent/settings.ts';
import { SwarmError } from '../base/errors.ts';
import type { Keyring } from '../identity/keyring.ts';
import type { Output } from './output.ts';

export interface KeysUsed {
  /** `undefined` where the log's own keys were taken for good. */
  readonly keyring: Keyring | undefined;
  readonly source: string;
  readonly sha256: string | undefined;
}

export const keysOfLog: KeysUsed = { keyring: undefined, source: 'the log', sha256: undefined };

/** Returns the keyring that is there, else one of our own key; throws `KEYRING_MISSING` where there is neither. */
export async function knownKeys(settings: Settings, out: Output): Promise<KeysUsed> {
  const known = await loadKnownKeys(settings);
  if (known !== undefined) return known;
  try {
    const { key, warnings } = await loadKey(settings);
    for (const warning of warnings) out.warn(warning);
    return {
      keyring: keyringOfOne(key),
      source: `only our own key: no ${settings.keyring} is here`,
      sha256: undefined,
    };
  } catch (cause) {
    if (!(cause instanceof SwarmError) || cause.code !== 'KEY_MISSING') throw cause;
    throw new SwarmError(
      'KEYRING_MISSING',
      `whose signatures count? There is no ${settings.keyring}, and no key of our own in ${settings.envFile}; name a keyring with --keyring, or have --trust-on-first-use take the keys from the log itself`,
      { cause },
    );
  }
}
