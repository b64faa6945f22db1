/**
 * A cluster that elects: for the seconds after it starts, or loses a server, it has no leader, of its own or of a stream or
 * consumer, and who asks it something is not answered. Who comes in that moment asks again.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { JetStreamApiError } from '@nats-io/jetstream';
import { errors } from '@nats-io/transport-node';
import { isPassing } from './refusal.ts';

export interface Patience {
  /** For how long there may be no leader, in ms; 0 asks once. */
  readonly leaderWithinMs: number;
  /** Told once that it waits. */
  readonly onWaiting: (detail: string) => void;
}

const pauseMs = 500;

/** Returns what `ask` returns; asks again while it fails for want of a leader. Throws what `ask` throws. */
export async function throughElection<Answer>(
  { leaderWithinMs, onWaiting }: Patience,
  ask: () => Promise<Answer>,
): Promise<Answer> {
  const deadline = performance.now() + leaderWithinMs;
  for (let isTold = false; ; isTold = true) {
    try {
      return await ask();
    } catch (thrown) {
      if (!mayElect(thrown) || performance.now() >= deadline) throw thrown;
    }
    if (!isTold) onWaiting('the cluster does not answer; it may be electing a leader, which is waited for');
    await sleep(pauseMs);
  }
}

/** Reports whether a request failed, or what failed since it did, as it does without a leader. */
function mayElect(thrown: unknown): boolean {
  if (thrown instanceof errors.TimeoutError) return true;
  if (thrown instanceof JetStreamApiError) return isPassing(thrown.apiError());
  return thrown instanceof Error && mayElect(thrown.cause);
}
