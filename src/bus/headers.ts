/**
 * Message headers as bytes: written once, read back exactly as they were sent.
 *
 * The client's own `MsgHdrs` trims each value. The broker does not, and it recognises repeats by the
 * value it sees: `Nats-Msg-Id: <leaf>` followed by a blank is another id to the broker and the same one to
 * the client. So is an id whose name appeared earlier inside another header, to brokers before 2.11.11 and
 * 2.12.2. Copies
 * made that way would all be delivered; hence `messageId` is the id only if every broker read the same one.
 *
 * Format: `NATS/1.0`, CRLF, `Name: value` lines with CRLF, CRLF (docs/format.md, section 5; NATS ADR-4).
 */
import type { Msg, MsgHdrs } from '@nats-io/transport-node';
import { SwarmError } from '../base/errors.ts';

const firstLine = 'NATS/1.0\r\n';
const idName = 'Nats-Msg-Id';
const nameGrammar = /^[!-9;-~]+$/;

/** Headers ready to send. Encoded once, so that sending again costs nothing and the size is known. */
export class EncodedHeaders {
  readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  /** All that the client's `publish` asks of headers. */
  encode(): Uint8Array {
    return this.bytes;
  }

  get forClient(): MsgHdrs {
    return this as unknown as MsgHdrs;
  }
}

/** Headers to send: of each name one value, or several. */
export type HeaderValues = Readonly<Record<string, string | readonly string[]>>;

/**
 * Returns `id` and `headers` as a header block, the id first.
 * Throws `USAGE` for what is not ASCII, a value with a line break, or a name that is none.
 */
export function encodeHeaders(id: string, headers: HeaderValues): EncodedHeaders {
  let text = `${firstLine}${idName}: ${oneLine(id)}\r\n`;
  for (const name in headers) {
    for (const value of [headers[name] ?? ''].flat()) text += `${checkedName(name)}: ${oneLine(value)}\r\n`;
  }
  text += '\r\n';
  const bytes = Buffer.from(text, 'utf8');
  if (bytes.length !== text.length) throw new SwarmError('USAGE', 'a message header is not ASCII');
  return new EncodedHeaders(bytes);
}

/** Reports whether a header can be sent again as it is. */
export function isSendable(name: string, value: string): boolean {
  return nameGrammar.test(name) && /^[\x20-\x7e\t]*$/.test(value);
}

function oneLine(value: string): string {
  if (value.includes('\n') || value.includes('\r')) {
    throw new SwarmError('USAGE', `a message header holds a line break: ${JSON.stringify(value)}`);
  }
  return value;
}

/** The few names in use, so that each is checked once. */
const knownNames = new Set<string>();

function checkedName(name: string): string {
  if (knownNames.has(name)) return name;
  if (!nameGrammar.test(name)) throw new SwarmError('USAGE', `not a header name: ${JSON.stringify(name)}`);
  if (knownNames.size < 100) knownNames.add(name);
  return name;
}

/** The headers of one received message. */
export class ReceivedHeaders {
  readonly #text: string;
  #pairs: readonly (readonly [name: string, value: string])[] | undefined;

  constructor(block: Uint8Array) {
    this.#text = Buffer.from(block.buffer, block.byteOffset, block.byteLength).toString('utf8');
  }

  /**
   * Returns every value of `name`, in order, where the name is spelled exactly so. Blanks before a value
   * belong to the colon; all else, blanks at the end included, is the value.
   */
  values(name: string): readonly string[] {
    const values: string[] = [];
    for (const [key, value] of this.#all()) if (key === name) values.push(value);
    return values;
  }

  /** Every name, as sent, each once. */
  names(): readonly string[] {
    return [...new Set(this.#all().map(([name]) => name))];
  }

  /** The id by which the broker recognises repeats, or `undefined` if there is none or brokers may disagree. */
  get messageId(): string | undefined {
    const at = this.#text.indexOf(idName);
    if (at < 2 || !this.#text.startsWith('\r\n', at - 2) || this.#text[at + idName.length] !== ':')
      return undefined;
    const values = this.values(idName);
    return values.length === 1 ? values[0] : undefined;
  }

  #all(): readonly (readonly [string, string])[] {
    this.#pairs ??= this.#text
      .split('\r\n')
      .slice(1)
      .flatMap((text): (readonly [string, string])[] => {
        const colon = text.indexOf(':');
        return colon < 0 ? [] : [[text.slice(0, colon), text.slice(colon + 1).replace(/^ +/, '')]];
      });
    return this.#pairs;
  }
}

/** What the client keeps of a message and does not show: the undecoded bytes, and where the headers end. */
interface ClientMessage {
  readonly _rdata?: unknown;
  readonly _msg?: { readonly hdr?: unknown };
}

/**
 * Returns the header block of `message`, empty if it has none. The client offers it only trimmed, so this
 * reads the field beneath; throws `BUS_CONSUMER` should a later client not have it.
 */
export function headerBlock(message: Msg): Uint8Array {
  const { _rdata: bytes, _msg: frame } = message as unknown as ClientMessage;
  const length = frame?.hdr;
  if (!(bytes instanceof Uint8Array) || typeof length !== 'number') {
    throw new SwarmError(
      'BUS_CONSUMER',
      'this release of @nats-io/nats-core does not give access to raw headers',
    );
  }
  return length > 0 ? bytes.subarray(0, length) : new Uint8Array(0);
}
