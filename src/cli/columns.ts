/**
 * What fits on a line of the terminal.
 */
import { type Piece, printable } from './output.ts';

/**
 * Characters of one column: those before Hangul, the first wide script, and punctuation and symbols that are no emoji.
 * All others count as two columns; some are one, none is more.
 */
const narrow = /[\0-\u10ff]|(?!\p{Emoji_Presentation})[\u1e00-\u2e7f]/u;

/** Returns `pieces` if they fit into `columns`, or if there is no width; else as much as does, and an ellipsis. */
export function cutTo(columns: number | undefined, pieces: readonly Piece[]): readonly Piece[] {
  if (columns === undefined) return pieces;
  const kept: Piece[] = []; // what fits beside an ellipsis
  let width = 0;
  for (const piece of pieces) {
    // A code unit takes a column at least, so more of them than there are columns need not be looked at.
    const text = printable(textOf(piece).slice(0, columns + 1));
    let fitting = '';
    for (const character of text) {
      width += narrow.test(character) ? 1 : 2;
      if (width > columns) return [...kept, withText(piece, fitting), '…'];
      if (width < columns) fitting += character;
    }
    kept.push(withText(piece, fitting));
  }
  return pieces;
}

function textOf(piece: Piece): string {
  return typeof piece === 'object' ? piece.text : String(piece);
}

function withText(piece: Piece, text: string): Piece {
  return typeof piece === 'object' ? { ...piece, text } : text;
}
