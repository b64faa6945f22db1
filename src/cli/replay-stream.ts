/**
 * A stream that recorded messages are sent into: each as it was, on its subject under a prefix.
 *
 * The stream has subjects of its own, which no agent subscribes to. Its numbers are those of the messages: each says by
 * `Nats-Expected-Last-Sequence` which one it follows, so none is there twice or before its turn, whatever is killed, sent
 * again or sent by others meanwhile.
 */
import { parseEnvelope, printEnvelope } from '../agent/envelope.ts';
import type { Sha256Hex } from '../base/encoding.ts';
import type { Subject } from '../base/subject.ts';
import type { Bus } from '../bus/connection.ts';
import { openPublisher, type Publisher } from '../bus/publisher.ts';
import { readStored } from '../bus/read-message.ts';
import { PublishError } from '../bus/refusal.ts';
import { readMessages } from '../bus/stored.ts';
import { ensureStream } from '../bus/stream.ts';
import type { SignedRecord } from '../record/signed.ts';
import { differs, type Sink } from '../replay/republish.ts';

/** `err_code` of a message that does not follow the one it says. */
const wrongLastSequence = 10071;
const untilForEver = 2n ** 63n;

export interface ReplayStreamOptions {
  readonly stream: string;
  /** As in `replay.`. */
  readonly prefix: string;
}

/** Opens the stream, and creates it where it is not. Throws what `ensureStream` throws. */
export async function openReplayStream(bus: Bus, options: ReplayStreamOptions): Promise<ReplayStream> {
  const { stream, prefix } = options;
  const { clock } = await ensureStream(bus, { name: stream, subjects: [`${prefix}>`] });
  return new ReplayStream(bus, openPublisher(bus, { stream, offset: clock }), options);
}

export class ReplayStream implements Sink, AsyncDisposable {
  readonly name: string;
  readonly #bus: Bus;
  readonly #publisher: Publisher;
  readonly #stream: string;
  readonly #prefix: string;

  constructor(bus: Bus, publisher: Publisher, { stream, prefix }: ReplayStreamOptions) {
    this.name = `stream ${stream}`;
    this.#bus = bus;
    this.#publisher = publisher;
    this.#stream = stream;
    this.#prefix = prefix;
  }

  async size(): Promise<number> {
    const facts = await ensureStream(this.#bus, { name: this.#stream, subjects: [`${this.#prefix}>`] });
    if (facts.messages === facts.lastSeq) return facts.lastSeq;
    throw differs(this, `of its ${facts.lastSeq} messages ${facts.messages} are left`);
  }

  async has(number: number, leaf: Sha256Hex): Promise<boolean> {
    const stored = await readStored(this.#bus, { stream: this.#stream, seq: number });
    return stored?.headers.messageId === leaf;
  }

  async send(number: number, record: SignedRecord, payload: Uint8Array): Promise<void> {
    const subject = `${this.#prefix}${record.header.subject}` as Subject;
    const headers = { ...printEnvelope(record), 'Nats-Expected-Last-Sequence': String(number - 1) };
    try {
      const fresh = { freshFromNs: 0n, freshUntilNs: untilForEver };
      const { seq } = await this.#publisher.publish(subject, payload, { id: record.leaf, headers, ...fresh });
      if (seq !== number)
        throw differs(this, `its message ${seq} is the record that should be number ${number}`);
    } catch (cause) {
      if (!(cause instanceof PublishError) || cause.brokerCode !== wrongLastSequence) throw cause;
      // It may have come there before, longer ago than the broker knows its id.
      if (!(await this.has(number, record.leaf))) {
        throw differs(
          this,
          `its message ${number} is not the record ${record.leaf}, or what comes before is lost`,
        );
      }
    }
  }

  async *messages(): AsyncGenerator<{ record: SignedRecord | undefined; payload: Uint8Array }> {
    for await (const { headers, data } of readMessages(this.#bus, { stream: this.#stream })) {
      const envelope = parseEnvelope(headers);
      yield { record: envelope.state === 'well-formed' ? envelope.record : undefined, payload: data };
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#publisher.close(0);
  }
}
