/**
 * Ctrl-C, and the other ways in which a command is asked to end.
 *
 * A command that has something to finish takes interruptions over: the first one aborts a signal, and the command
 * ends in its own order; a second one ends the process at once. Commands that do not take them over die of them,
 * as programs do.
 */
const taken = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * One Ctrl-C can arrive twice: the terminal signals every process of its foreground, and npm, which is one of them,
 * passes the signal on to the command that it runs.
 */
const sameWithinMs = 300;

export class Interruption {
  readonly #abort = new AbortController();
  readonly #endAtOnce: (by: NodeJS.Signals) => void;
  #by: NodeJS.Signals | undefined;
  #sinceMs = 0;
  #isTaken = false;
  #isUnread = false;

  /** `endAtOnce` ends the process: called at the second interruption. */
  constructor(endAtOnce: (by: NodeJS.Signals) => void) {
    this.#endAtOnce = endAtOnce;
  }

  /** What the command was interrupted by, if it was: a signal, or SIGPIPE where nobody reads what it says. */
  get by(): NodeJS.Signals | undefined {
    return this.#by;
  }

  /** Reports whether `thrown` only says that the command was interrupted. */
  is(thrown: unknown): boolean {
    return this.#abort.signal.aborted && thrown === this.#abort.signal.reason;
  }

  /** Takes interruptions over from now on, and returns the signal that the first of them aborts. */
  take(): AbortSignal {
    if (!this.#isTaken) {
      this.#isTaken = true;
      for (const name of taken) process.on(name, () => this.#onSignal(name));
      if (this.#isUnread) this.stopUnread();
    }
    return this.#abort.signal;
  }

  /** Interrupts a command whose output nobody reads, if it has taken interruptions over, or once it does. */
  stopUnread(): void {
    this.#isUnread = true;
    if (!this.#isTaken) return;
    this.#by ??= 'SIGPIPE';
    this.#abort.abort();
  }

  #onSignal(by: NodeJS.Signals): void {
    const now = performance.now();
    if (this.#by === undefined || this.#by === 'SIGPIPE') {
      this.#by = by;
      this.#sinceMs = now;
      this.#abort.abort();
    } else if (now - this.#sinceMs > sameWithinMs) {
      this.#endAtOnce(by);
    }
  }
}
