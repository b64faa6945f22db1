/**
 * What the command says: data on stdout for a program, talk on stderr for a person.
 *
 * What is said may come from a log, a server or a stranger's keyring, so no text reaches the terminal as it is:
 * everything passes `printable`, which shows control characters instead of sending them. Colours are therefore
 * not in the text but around a piece of it, and only where the stream is a terminal that wants them.
 */
import { styleText } from 'node:util';

/** A text, and how it looks where there are colours. */
export interface Styled {
  readonly text: string;
  readonly style: 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan';
}

export type Piece = string | number | bigint | Styled;

/** Returns `text` to be shown in `style`. */
export function styled(style: Styled['style'], text: string): Styled {
  return { style, text };
}

/**
 * Control characters, line and paragraph separators, halves of surrogate pairs, and what is invisible or turns
 * the direction of writing; but not the joiners that emoji and some scripts are written with.
 */
const unprintable = /[\p{Cc}\p{Zl}\p{Zp}\p{Cs}]|(?![\u200c\u200d])\p{Cf}/gu;
const shortEscapes: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

/** Returns `text` with every character shown that a terminal would act on or hide: `\n`, `\u001b`, `\u{e0001}`. */
export function printable(text: string): string {
  return text.replace(unprintable, (character) => {
    const hex = (character.codePointAt(0) ?? 0).toString(16);
    return shortEscapes[character] ?? (hex.length > 4 ? `\\u{${hex}}` : `\\u${hex.padStart(4, '0')}`);
  });
}

/** Returns the JSON text `json` with the same characters escaped in its strings: the same value, safe to show. */
export function printableJson(json: string): string {
  return json.replace(unprintable, (character) =>
    Array.from(
      { length: character.length },
      (_, index) => `\\u${character.charCodeAt(index).toString(16).padStart(4, '0')}`,
    ).join(''),
  );
}

export class Output {
  readonly #stdout: NodeJS.WriteStream;
  readonly #stderr: NodeJS.WriteStream;
  #quiet = false;
  #unread = false;

  constructor(stdout: NodeJS.WriteStream, stderr: NodeJS.WriteStream) {
    this.#stdout = stdout;
    this.#stderr = stderr;
  }

  /** Calls `act` once nobody reads stdout any more, as in `swarm tail | head`; what follows goes nowhere. */
  whenUnread(act: () => void): void {
    this.#stdout.on('error', (failure: NodeJS.ErrnoException) => {
      if (failure.code !== 'EPIPE') throw failure;
      this.#unread = true;
      act();
    });
    this.#stderr.on('error', () => undefined); // nobody is left to hear of it
  }

  /** Keeps notes to itself from now on; warnings and errors are still said. */
  beQuiet(): void {
    this.#quiet = true;
  }

  /** Whether stdout is read by a person. */
  get isTerminal(): boolean {
    return this.#stdout.isTTY;
  }

  /** The width of the terminal that stdout is; `undefined` where it is none, or does not know. */
  get columns(): number | undefined {
    return this.#stdout.columns || undefined;
  }

  /** Whether a person watches stderr: where not, nothing there moves. */
  get isWatched(): boolean {
    return this.#stderr.isTTY && !this.#quiet;
  }

  /** Says a line of data. */
  data(...pieces: readonly Piece[]): void {
    this.#write(this.#stdout, pieces);
  }

  /** Says a line of data in columns, with a tab between them. */
  row(cells: readonly string[]): void {
    if (!this.#unread) this.#stdout.write(`${cells.map(printable).join('\t')}\n`);
  }

  /** Says `value` as a line of JSON. */
  json(value: unknown): void {
    this.jsonText(JSON.stringify(value));
  }

  /** Says a line that is JSON already. */
  jsonText(json: string): void {
    if (!this.#unread) this.#stdout.write(`${printableJson(json)}\n`);
  }

  /** Says a line of something as it is, byte for byte; on a terminal what that would act on is shown as in JSON. */
  line(bytes: Uint8Array): void {
    if (this.#stdout.isTTY) this.jsonText(Buffer.from(bytes).toString('utf8'));
    else if (!this.#unread) this.#stdout.write(Buffer.concat([bytes, Buffer.from('\n')]));
  }

  /** Tells a person something, unless asked to be quiet. */
  note(...pieces: readonly Piece[]): void {
    if (!this.#quiet) this.#write(this.#stderr, pieces);
  }

  /** Tells a person what is doubtful. The lines of the message after the first are indented. */
  warn(message: string): void {
    this.#say(styled('yellow', 'warning: '), message);
  }

  /** Tells a person what went wrong. */
  fail(message: string): void {
    this.#say('', message);
  }

  /** Resolves once all data was handed to the operating system: with false if nobody reads it. */
  async written(): Promise<boolean> {
    if (this.#unread) return false;
    return await new Promise((resolve) => this.#stdout.write('', (failure) => resolve(!failure)));
  }

  #say(prefix: Piece, message: string): void {
    const [first = '', ...more] = message.split('\n');
    this.#write(this.#stderr, [styled('bold', 'swarm: '), prefix, first]);
    for (const line of more) this.#write(this.#stderr, ['  ', line]);
  }

  #write(stream: NodeJS.WriteStream, pieces: readonly Piece[]): void {
    if (stream === this.#stdout && this.#unread) return;
    const line = pieces.map((piece) =>
      typeof piece === 'object'
        ? styleText(piece.style, printable(piece.text), { stream })
        : printable(String(piece)),
    );
    stream.write(`${line.join('')}\n`);
  }
}
