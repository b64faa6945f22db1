/**
 * Keeps the checkpoints of our log where others have them: in the stream CHECKPOINTS, under our name.
 *
 * A log's end that is cut off is missed only by who holds a later checkpoint. Nothing waits for this: one is on its way
 * at a time, and while it is, or while the broker is away, a newer one takes the place of the one of the same tree that
 * waits, for it says all that the older one says.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../base/errors.ts';
import { ensureCheckpoints, sendCheckpoint } from '../bus/checkpoints.ts';
import type { Bus } from '../bus/connection.ts';

const pauseMs = 2_000;

export class Anchoring {
  readonly #bus: Bus;
  readonly #name: string;
  readonly #replicas: number;
  /** By origin: the newest of each tree. */
  readonly #waiting = new Map<string, string>();
  #sending: Promise<void> | undefined;
  #isStreamThere = false;
  #isWarned = false;
  #isClosing = false;

  /** `replicas`: copies of the stream, should we create it. */
  constructor(bus: Bus, name: string, replicas: number) {
    this.#bus = bus;
    this.#name = name;
    this.#replicas = replicas;
  }

  /** Takes a checkpoint of the tree `origin` to be kept. */
  keep(origin: string, text: string): void {
    this.#waiting.set(origin, text);
    // Invariant: whenever any waits, it is being seen to. #sending is cleared in the turn of the last look at #waiting.
    this.#sending ??= this.#send();
  }

  /** Waits at most `limitMs` for what is on its way. */
  async close(limitMs: number): Promise<void> {
    this.#isClosing = true;
    await Promise.race([this.#sending, sleep(limitMs, undefined, { ref: false })]);
  }

  async #send(): Promise<void> {
    for (let next = this.#next(); next !== undefined && !this.#bus.isClosed; next = this.#next()) {
      const [origin, text] = next;
      this.#waiting.delete(origin);
      try {
        if (!this.#isStreamThere) await ensureCheckpoints(this.#bus, this.#replicas);
        this.#isStreamThere = true;
        await sendCheckpoint(this.#bus, this.#name, text);
        this.#isWarned = false;
      } catch (cause) {
        if (!this.#waiting.has(origin)) this.#waiting.set(origin, text);
        if (this.#isClosing) break;
        if (!this.#isWarned)
          this.#bus.warn(
            `a checkpoint of our log was not kept in the stream CHECKPOINTS: ${messageOf(cause)}`,
          );
        this.#isWarned = true;
        await sleep(pauseMs, undefined, { ref: false });
      }
    }
    this.#sending = undefined;
  }

  #next(): [origin: string, text: string] | undefined {
    return this.#waiting.entries().next().value;
  }
}
