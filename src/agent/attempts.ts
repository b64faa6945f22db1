/**
 * How often a handler was called for a message, over all the lives of an agent.
 *
 * The broker counts deliveries, and a process that dies takes those along that were only waiting in it: a message that kills
 * its handler would make dead letters of all behind it. So a handler's call for a message that comes again is on the log
 * first, as BUS.ATTEMPT (docs/format.md, section 3), and what counts is those. The first call counts as made, without a
 * record, unless it is the only one: else what only waited would be given up without any. The log is read for them only once a
 * message was delivered too often.
 */
import { readLines } from '../log/reader.ts';
import type { LogWriter } from '../log/writer.ts';
import type { Delivery } from '../record/header.ts';
import { parseLine } from '../record/line.ts';
import type { Message } from './message.ts';

const kind = 'BUS.ATTEMPT';
const kindBytes = Buffer.from(`"kind":"${kind}"`);
const payload = Buffer.from('{}');

/** How far back the log is read. */
const linesRead = 1_000_000;

/** So many times the attempts that it has a message is delivered, whatever the log says of it. */
const deliveriesPerAttempt = 10;

export class Attempts {
  readonly #log: LogWriter;
  /** Calls on record, by the place of the message: those made here, and once they are read those before. */
  readonly #here = new Map<string, number>();
  readonly #sessions = new Set<string>();
  #before: Promise<ReadonlyMap<string, number>> | undefined;

  constructor(log: LogWriter) {
    this.#log = log;
  }

  /** Resolves once it is on the log that a handler is called for `message`, where that must be: `limit` is that of calls. */
  async begin({ subject, attempt, delivery: { leaf, header } }: Message, limit: number): Promise<void> {
    const { delivery, trace } = header;
    if (delivery === undefined || (attempt === 1 && !isFirstOnRecord(limit))) return;
    const record = await this.#log.append({ subject, kind, payload, cause: leaf, trace, delivery });
    this.#sessions.add(record.header.session);
    const place = placeOf(delivery);
    this.#here.set(place, (this.#here.get(place) ?? 0) + 1);
  }

  /** Reports whether handlers were called for `message` as often as `limit` says. Throws `LOG_OPEN`. */
  async areSpent({ attempt, delivery: { header } }: Message, limit: number): Promise<boolean> {
    const { delivery } = header;
    if (delivery === undefined || attempt < limit) return false;
    if (attempt > limit * deliveriesPerAttempt) return true;
    const place = placeOf(delivery);
    const here = (isFirstOnRecord(limit) ? 0 : 1) + (this.#here.get(place) ?? 0);
    if (here >= limit) return true;
    this.#before ??= this.#read().catch((error: unknown) => {
      this.#before = undefined;
      throw error;
    });
    return here + ((await this.#before).get(place) ?? 0) >= limit;
  }

  /** Forgets a message that does not come again. */
  forget({ delivery: { header } }: Message): void {
    if (header.delivery !== undefined) this.#here.delete(placeOf(header.delivery));
  }

  async #read(): Promise<ReadonlyMap<string, number>> {
    const counts = new Map<string, number>();
    for await (const lines of readLines(this.#log.path, { last: linesRead })) {
      for (const { bytes } of lines) {
        const record = bytes.includes(kindBytes) ? parseLine(bytes).record : undefined;
        const { delivery, session } = record?.header ?? {};
        if (record?.header.kind !== kind || delivery === undefined || session === undefined) continue;
        if (this.#sessions.has(session)) continue; // they are counted as they are made
        const place = placeOf(delivery);
        counts.set(place, (counts.get(place) ?? 0) + 1);
      }
    }
    return counts;
  }
}

function isFirstOnRecord(limit: number): boolean {
  return limit === 1;
}

function placeOf({ stream, seq, consumer }: Delivery): string {
  return `${stream}/${seq}/${consumer}`;
}
