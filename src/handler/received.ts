/**
 * A message as an agent sees it: who said what, verified, and our own record of having heard it.
 *
 * All of it is in the records, so that the same message can be handed to a handler again from the log alone.
 */
import type { Sha256Hex } from '../base/encoding.ts';
import type { Agent } from '../identity/keyring.ts';
import type { SignedRecord } from '../record/signed.ts';
import { decodePayload } from './payload.ts';

/** The meta member that names the first record of a row of them that say the same message again. */
export const firstSaidAs = 'first-said-as';

export interface ReceivedParts {
  /** The sender's signed BUS.PUBLISH. */
  readonly record: SignedRecord;
  /** Our own signed BUS.DELIVER. */
  readonly delivery: SignedRecord;
  readonly sender: Agent;
  /** The bytes that were signed. */
  readonly data: Uint8Array;
}

export class Received {
  #payload: { readonly value: unknown } | undefined;
  /** The sender's signed BUS.PUBLISH. */
  readonly record: SignedRecord;
  /** Our own signed BUS.DELIVER: what a message published in answer names as its `cause`. */
  readonly delivery: SignedRecord;
  /** The agent whose key signed it. */
  readonly sender: Agent;
  /** The bytes that were signed. */
  readonly data: Uint8Array;

  constructor({ record, delivery, sender, data }: ReceivedParts) {
    this.record = record;
    this.delivery = delivery;
    this.sender = sender;
    this.data = data;
  }

  get subject(): string {
    return this.record.header.subject;
  }

  get threadId(): string {
    return this.record.header.threadId;
  }

  /** The leaf of the record that said it: what `refs` name. */
  get leaf(): Sha256Hex {
    return this.record.leaf;
  }

  /**
   * What to recognise the message by where something must be done once: the sender's key and the leaf of the first
   * record that said it, the same however often it is delivered or had to be said anew. The key is in it so that
   * nobody can say something under the id of another's message.
   */
  get id(): string {
    const { signer, meta } = this.record.header;
    return `${signer}/${meta?.[firstSaidAs] ?? this.record.leaf}`;
  }

  /** Where the stream keeps it. */
  get seq(): number {
    return this.delivery.header.delivery?.seq ?? 0;
  }

  /** 1 the first time it is delivered to this durable. */
  get attempt(): number {
    return this.delivery.header.delivery?.attempt ?? 1;
  }

  /** What was published: the value, where the bytes are one JSON text, else the bytes. Integers past 2^53 lose digits. */
  get payload(): unknown {
    this.#payload ??= { value: decodePayload(this.data) };
    return this.#payload.value;
  }
}
