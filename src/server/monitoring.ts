/**
 * What a nats-server says of itself on its monitoring port, where that is open.
 */

export interface ServerFacts {
  readonly serverId: string;
  /** How long a message that was acked may be on no disk yet, in ms; 0 where each is synced before its ack. */
  readonly unsyncedMs: number | undefined;
}

const withinMs = 2_000;

/** Returns what the server at `url` says; `undefined` where nobody answers as a nats-server does. */
export async function readServerFacts(url: string): Promise<ServerFacts | undefined> {
  try {
    const reply = await fetch(new URL('/varz', url), { signal: AbortSignal.timeout(withinMs) });
    const varz = (await reply.json()) as {
      server_id?: string;
      jetstream?: { config?: { sync_interval?: number; sync_always?: boolean } };
    };
    const { sync_interval: interval, sync_always: always } = varz.jetstream?.config ?? {};
    const unsyncedMs = always === true ? 0 : interval === undefined ? undefined : interval / 1e6;
    return typeof varz.server_id === 'string' ? { serverId: varz.server_id, unsyncedMs } : undefined;
  } catch {
    return undefined;
  }
}
