/**
 * What fits on a line of the terminal.
 */
import { type Piece, printable } from './output.ts';

/** From here on (Hangul, the first wide script) a character counts as two columns wide; some are not, none is wider. */
const firstWide = 0x1100;

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
      width += (character.codePointAt(0) ?? 0) < firstWide ? 1 : 2;
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
