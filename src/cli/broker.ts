/**
 * How a command that looks at the broker itself connects: as the settings say, and as the agent whose key is here where
 * there is one.
 */
import { busOptionsOf, loadKey, loadKnownKeys } from '../agent/self.ts';
import type { Settings } from '../agent/settings.ts';
import type { BusOptions } from '../bus/connection.ts';

/** Returns the options of the connection. An auditor has no key; a broker that asks for one then says so. */
export async function ownBusOptions(settings: Settings): Promise<BusOptions> {
  const key = await loadKey(settings).then(
    (loaded) => loaded.key,
    () => undefined,
  );
  const known = key && (await loadKnownKeys(settings).catch(() => undefined));
  return busOptionsOf(settings, key, key && known?.keyring.find(key.publicKey)?.agent.name);
}
