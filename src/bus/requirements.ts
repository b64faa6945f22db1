/** What the swarm needs of a broker: release 2.10 or newer, and JetStream switched on for the account. */
import type { JetStreamManager } from '@nats-io/jetstream';
import { PermissionViolationError } from '@nats-io/transport-node';
import { messageOf, SwarmError } from '../base/errors.ts';

/** Throws `BUS_TOO_OLD` unless `version` is 2.10 or newer. */
export function requireVersion(version: string, shown: string): void {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (major > 2 || (major === 2 && minor >= 10)) return;
  throw new SwarmError(
    'BUS_TOO_OLD',
    `nats-server ${version} at ${shown} is too old; 2.10 or newer is needed`,
  );
}

/**
 * Throws `BUS_NO_JETSTREAM` if nobody serves JetStream to this account, `BUS_PERMISSION` if no reply could
 * ever reach us. An account that may not ask is let through: it may still be permitted all that is needed.
 */
export async function requireJetStream(manager: JetStreamManager, shown: string): Promise<void> {
  try {
    await manager.getAccountInfo();
  } catch (cause) {
    const refused = permissionRefused(cause);
    if (refused?.operation === 'publish') return;
    if (refused !== undefined) {
      throw new SwarmError(
        'BUS_PERMISSION',
        `${shown} does not permit subscribing to replies on ${refused.subject}; permit it, or choose another inboxPrefix`,
        { cause },
      );
    }
    const why = isNotEnabled(cause)
      ? `is switched off at ${shown}; start the server with -js, or switch it on for this account`
      : `does not answer at ${shown} (${messageOf(cause)}); of a cluster, more than half of the servers must run`;
    throw new SwarmError('BUS_NO_JETSTREAM', `JetStream ${why}`, { cause });
  }
}

/** The client does not export this class. */
function isNotEnabled(thrown: unknown): boolean {
  return thrown instanceof Error && thrown.name === 'JetStreamNotEnabled';
}

/** Returns what the server did not permit, if that is why a request failed; the client wraps it. */
function permissionRefused(thrown: unknown): PermissionViolationError | undefined {
  if (thrown instanceof PermissionViolationError) return thrown;
  return thrown instanceof Error ? permissionRefused(thrown.cause) : undefined;
}

/** Reports whether a request failed because the server did not permit it. */
export function isPermissionRefused(thrown: unknown): boolean {
  return permissionRefused(thrown) !== undefined;
}
