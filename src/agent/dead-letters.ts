/**
 * Giving up a message so that nothing of it is lost: a BUS.DEAD record on the log, then a copy in the stream DEAD, and
 * only then may the broker forget it. Of a message that is too large for a copy only the log tells, and a process warning.
 *
 * A crash in between leaves the message with the broker. It comes again and is given up again: another record, another
 * copy of the same message, which those who read them know as one.
 */
import type { Clock } from '../base/clock.ts';
import type { Subject } from '../base/subject.ts';
import type { Bus } from '../bus/connection.ts';
import { openPublisher, type Publisher } from '../bus/publisher.ts';
import { PublishError } from '../bus/refusal.ts';
import { deadStream, ensureStream } from '../bus/stream.ts';
import type { Received } from '../handler/received.ts';
import type { LogWriter } from '../log/writer.ts';
import { deadSubjectOf, type NamedHeaders, printDeadLetter } from './dead-letter.ts';

export interface DeadLettersParts {
  readonly bus: Bus;
  readonly log: LogWriter;
  readonly clock: Clock;
  /** Copies of the stream DEAD, should we create it. */
  readonly replicas: number;
}

interface Opened {
  readonly publisher: Publisher;
  /** Half the duplicate window of the stream DEAD: for so long, from when it is first sent, a copy may be sent again. */
  readonly sendForNs: bigint;
}

export class DeadLetters {
  readonly #parts: DeadLettersParts;
  #opened: Promise<Opened> | undefined;

  constructor(parts: DeadLettersParts) {
    this.#parts = parts;
  }

  /**
   * Resolves once `message` is on the log as dead and its copy in the stream, unless that is too large for it. Throws
   * `LOG_WRITE_FAILED`, what `ensureStream` throws, and a `PublishError` where the stream did not take the copy: then the
   * message must come again.
   */
  async bury(message: Received, headers: NamedHeaders, reason: string): Promise<void> {
    const { log } = this.#parts;
    const { subject, trace, delivery } = message.delivery.header;
    const dead = await log.append({
      subject,
      kind: 'BUS.DEAD',
      payload: message.data,
      cause: message.delivery.leaf,
      trace,
      delivery,
      reason,
    });
    this.#opened ??= this.#open();
    const { publisher, sendForNs } = await this.#opened.catch((error: unknown) => {
      this.#opened = undefined; // what is missing may be there the next time
      throw error;
    });
    const now = publisher.brokerNow.latestNs;
    try {
      // One token more than what we publish on elsewhere may have: the subject is the broker's alone to take.
      await publisher.publish(deadSubjectOf(subject) as Subject, message.data, {
        id: dead.leaf,
        headers: printDeadLetter(dead, message.record, headers),
        // Its readers ask no freshness of it, so our clock, by which the record is dated, does not matter.
        freshFromNs: 0n,
        freshUntilNs: now + sendForNs,
      });
    } catch (error) {
      if (!(error instanceof PublishError) || error.code !== 'BUS_PAYLOAD_TOO_LARGE') throw error;
      // Ours leave room for it. Of what others sent, the log has all that counts, and no attempt would change that.
      const { stream, seq } = message.delivery.header.delivery ?? {};
      process.emitWarning(
        `message ${seq} of ${stream} is dead on the log alone, so \`swarm dead\` does not show it: its BUS.DEAD is ${dead.leaf}, and the stream DEAD does not take it (${error.message})`,
        { type: 'SwarmWarning' },
      );
    }
  }

  /** Waits for copies on their way, but not for long. */
  async close(): Promise<void> {
    const opened = await this.#opened?.catch(() => undefined);
    await opened?.publisher.close();
  }

  async #open(): Promise<Opened> {
    const { bus, clock, replicas } = this.#parts;
    const facts = await ensureStream(bus, { ...deadStream, replicas, clock });
    const publisher = openPublisher(bus, { stream: deadStream.name, clock, offset: facts.clock });
    return { publisher, sendForNs: facts.duplicateWindowNs / 2n };
  }
}
