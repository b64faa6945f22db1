import { PassThrough } from 'node:stream';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { cutTo } from '../../src/cli/columns.ts';
import { Output, printable, printableJson, styled } from '../../src/cli/output.ts';

describe('printable', () => {
  test.each([
    ['what clears the screen', '\u001b[2Jgone', '\\u001b[2Jgone'],
    ['the same in one character', '\u009b2Jgone', '\\u009b2Jgone'],
    ['a title and a bell', '\u001b]0;owned\u0007', '\\u001b]0;owned\\u0007'],
    ['what overwrites the line', 'bad\rgood', 'bad\\rgood'],
    ['a line that is not there', 'a\nVerified 9 records, 0 bad', 'a\\nVerified 9 records, 0 bad'],
    ['a tab, a backspace, a delete', '\t\b\u007f', '\\t\\u0008\\u007f'],
    ['text that runs backwards', 'user\u202etxt.exe', 'user\\u202etxt.exe'],
    ['isolates, marks and separators', '\u2066\u200f\u2028\u2029', '\\u2066\\u200f\\u2028\\u2029'],
    ['what cannot be seen', 'a\u200bb\u00adc\ufeff\u{e0041}', 'a\\u200bb\\u00adc\\ufeff\\u{e0041}'],
    ['half a character', '\ud83d!', '\\ud83d!'],
  ])('shows %s', (_, text, shown) => {
    expect(printable(text)).toBe(shown);
  });

  test('leaves alone what people write', () => {
    for (const text of ['', 'plain', 'Zoë, 東京, мир, नमस्ते', 'می‌خواهم', '👩‍👩‍👧 🇩🇪', '│─┐ ✓ …']) {
      expect(printable(text)).toBe(text);
    }
  });

  test('lets no control character through, whatever the text', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(printable(text)).not.toMatch(/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069]/u);
      }),
    );
  });

  test('in JSON escapes the same, and the value stays what it was', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const shown = printableJson(JSON.stringify(value));
        expect(shown).not.toMatch(/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\u202a-\u202e]/u);
        expect(JSON.parse(shown)).toEqual(JSON.parse(JSON.stringify(value)));
      }),
    );
    expect(printableJson('{"a":"\u009b2J\u{e0041}"}')).toBe('{"a":"\\u009b2J\\udb40\\udc41"}');
  });
});

describe('Output', () => {
  function output(): { out: Output; said(): { stdout: string; stderr: string } } {
    const stdout = new PassThrough();
    const stderr = new PassThrough();
    const out = new Output(stdout as unknown as NodeJS.WriteStream, stderr as unknown as NodeJS.WriteStream);
    return {
      out,
      said: () => ({ stdout: String(stdout.read() ?? ''), stderr: String(stderr.read() ?? '') }),
    };
  }

  test('says each thing on one line, data on stdout and talk on stderr', () => {
    const { out, said } = output();
    out.data('a\nb', styled('red', '\u001b[31m'), 7n);
    out.row(['x', 'y\tz']);
    out.json({ text: '\u009b' });
    out.note('note\n');
    out.warn('doubtful');
    out.fail('wrong\nand\rmore');
    expect(said()).toEqual({
      stdout: 'a\\nb\\u001b[31m7\nx\ty\\tz\n{"text":"\\u009b"}\n',
      stderr: 'note\\n\nswarm: warning: doubtful\nswarm: wrong\n  and\\rmore\n',
    });
  });

  test('when quiet keeps to data, warnings and errors', () => {
    const { out, said } = output();
    out.beQuiet();
    out.note('note');
    out.warn('doubtful');
    out.data('data');
    expect(said()).toEqual({ stdout: 'data\n', stderr: 'swarm: warning: doubtful\n' });
  });
});

describe('cutTo', () => {
  const text = (pieces: readonly unknown[]): string =>
    pieces.map((piece) => (typeof piece === 'object' ? (piece as { text: string }).text : piece)).join('');

  test.each([
    [10, ['0123456789'], '0123456789'],
    [10, ['01234567890'], '012345678…'],
    [10, ['01234', styled('red', '56789')], '0123456789'],
    [10, ['01234', styled('red', '56789'), 'x'], '012345678…'],
    [6, ['東京東'], '東京東'],
    [5, ['東京東'], '東京…'],
    [6, ['a', '東京東'], 'a東京…'],
    [8, ['a\u001b[2J'], 'a\\u001b…'],
    [undefined, ['x'.repeat(500)], 'x'.repeat(500)],
  ])('into %s columns', (columns, pieces, shown) => {
    expect(text(cutTo(columns, pieces))).toBe(shown);
  });
});
