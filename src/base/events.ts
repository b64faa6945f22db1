/**
 * What happened, for whoever wants to know: typed `node:diagnostics_channel` channels.
 *
 * A lower layer says what it did; metrics, progress and the command's notes subscribe. Publishing on a
 * channel that nobody listens to costs a property read.
 */
import { channel } from 'node:diagnostics_channel';
import type { SwarmError } from './errors.ts';

export interface EventChannel<Event> {
  readonly name: string;
  publish(event: Event): void;
  /** Calls `listener` for each event until the returned function is called. */
  subscribe(listener: (event: Event) => void): () => void;
}

function eventChannel<Event extends object>(name: string): EventChannel<Event> {
  const events = channel(name);
  return {
    name,
    publish(event) {
      if (events.hasSubscribers) events.publish(event);
    },
    subscribe(listener) {
      const onMessage = (message: unknown): void => listener(message as Event);
      events.subscribe(onMessage);
      return () => void events.unsubscribe(onMessage);
    },
  };
}

/** A flush is written, and on disk where the log's durability is `fsync`. */
export const logFlushed: EventChannel<{ records: number; bytes: number; file: string }> =
  eventChannel('can-swarm:log:flushed');
/** A file of a log is sealed up to `size` records; `checkpoint` is the signed note. */
export const logSealed: EventChannel<{ file: string; size: number; checkpoint: string }> =
  eventChannel('can-swarm:log:sealed');
/** A log could not be sealed, or must not be: see the error's code. Its writer goes on writing. */
export const sealFailed: EventChannel<{ log: string; error: SwarmError }> =
  eventChannel('can-swarm:log:seal-failed');
/** The connection to the broker changed, or said something a person should know. */
export const busStatus: EventChannel<{
  status: 'connected' | 'disconnected' | 'reconnected' | 'warning';
  detail: string;
}> = eventChannel('can-swarm:bus:status');
/** A message was refused: it is on the log as BUS.REJECT and reached no handler. */
export const messageRefused: EventChannel<{ subject: string; reason: string; detail: string; seq: number }> =
  eventChannel('can-swarm:message:refused');
/** So many refused messages, of the many that came, are on the log in sum alone, as BUS.REJECT.SUM. */
export const refusalsCounted: EventChannel<{
  durable: string;
  refused: number;
  firstSeq: number;
  lastSeq: number;
}> = eventChannel('can-swarm:message:refusals-counted');
/** What earlier sessions of this agent left unconfirmed was sent again after it joined: how many, and why others were not. */
export const messagesResent: EventChannel<{ log: string; resent: number; failures: readonly string[] }> =
  eventChannel('can-swarm:messages:resent');
