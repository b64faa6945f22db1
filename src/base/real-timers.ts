/**
 * Timers that go on when a test stops the clock.
 *
 * They are taken when this file is loaded: a test runner may later put others into the globals, and into Node's own
 * modules, too.
 */
import timers from 'node:timers';
import promises from 'node:timers/promises';

export const clearTimeout: typeof timers.clearTimeout = timers.clearTimeout;
export const setImmediate: typeof timers.setImmediate = timers.setImmediate;
export const setTimeout: typeof timers.setTimeout = timers.setTimeout;
/** Resolves in the next turn of the event loop. */
export const nextTurn: typeof promises.setImmediate = promises.setImmediate;
