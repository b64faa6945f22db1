/**
 * A command's time in the swarm: joined, told of what happens on the way, and left in order.
 */
import type { Swarm, SwarmOptions } from '../agent/swarm.ts';
import { joinSwarm } from '../agent/swarm.ts';
import { busStatus, messageRefused, messagesResent, refusalsCounted, sealFailed } from '../base/events.ts';
import type { StreamState } from '../bus/stored.ts';
import type { Invocation } from './invocation.ts';
import { given, type JoinOptions, settingsOf } from './options.ts';
import type { Output } from './output.ts';

/**
 * Joins with `options`, and `more` of them, and returns what `use` returns once the swarm was left. `use` is given a signal that Ctrl-C
 * aborts. Throws what `joinSwarm` and `use` throw.
 */
export async function joined<Result>(
  options: JoinOptions,
  { out, interruption }: Invocation,
  use: (swarm: Swarm, interrupted: AbortSignal) => Promise<Result>,
  more: SwarmOptions = {},
): Promise<Result> {
  const interrupted = interruption.take();
  const stopTelling = tellOfEvents(out);
  try {
    await using swarm = await joinSwarm({ ...settingsOf(options), ...more });
    interrupted.throwIfAborted();
    return await use(swarm, interrupted);
  } finally {
    stopTelling();
  }
}

/** Returns the options that join a stream as it is, whatever the swarm is made of; none where there is none. */
export function asItIs(stream: StreamState | undefined): SwarmOptions {
  const { duplicateWindowMs, maxAgeMs } = stream ?? {};
  return given({ duplicateWindowMs, maxAgeMs });
}

/**
 * Returns what `work` returns. The first Ctrl-C leaves the swarm, so that what waits for the broker ends; throws the interruption
 * then, and else what `work` throws.
 */
export async function untilInterrupted<Result>(
  swarm: Swarm,
  interrupted: AbortSignal,
  work: () => Promise<Result>,
): Promise<Result> {
  const leave = (): void => void swarm.close().catch(() => undefined); // whoever leaves next hears of it
  interrupted.addEventListener('abort', leave, { once: true });
  try {
    return await work();
  } catch (error) {
    interrupted.throwIfAborted();
    throw error;
  }
}

/** A flood of refused messages is told of only so often. */
const floodToldEveryMs = 10_000;

/**
 * Tells on stderr of changes of the connection, refused messages, seals that failed and what was sent again, until the
 * returned function is called.
 */
export function tellOfEvents(out: Output): () => void {
  let counted = 0;
  let timer: NodeJS.Timeout | undefined;
  const tellOfFlood = (): void => {
    timer = undefined;
    out.warn(
      `${counted} more messages were refused; the log counts them by reason and subject (BUS.REJECT.SUM)`,
    );
    counted = 0;
  };
  const stops = [
    busStatus.subscribe(({ status, detail }) => {
      if (status === 'warning') out.warn(detail);
      else if (status !== 'connected') out.note(detail);
    }),
    messageRefused.subscribe(({ subject, reason, detail, seq }) => {
      out.warn(`message ${seq} on ${subject} was refused (${reason}): ${detail}`);
    }),
    refusalsCounted.subscribe(({ refused }) => {
      counted += refused;
      timer ??= setTimeout(tellOfFlood, floodToldEveryMs);
    }),
    sealFailed.subscribe(({ error }) => out.warn(error.message)),
    messagesResent.subscribe(({ resent, failures }) => {
      if (resent > 0)
        out.note(`Sent again ${resent} of our messages that earlier sessions left unconfirmed.`);
      for (const failure of failures) out.warn(`not sent again: ${failure}`);
    }),
  ];
  return () => {
    for (const stop of stops) stop();
    clearTimeout(timer);
    if (counted > 0) tellOfFlood();
  };
}
