/** What the documentation says, taken apart: code blocks, tables, links and headings of the project's *.md files. */
import { readFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';

export const project: string = resolve(import.meta.dirname, '../..');

/** Returns the paths of all pages, from the project's folder. */
export async function pages(): Promise<string[]> {
  const atTop = (await readdir(project)).filter((name) => name.endsWith('.md'));
  const below = (await readdir(join(project, 'docs'), { recursive: true })).filter((name) =>
    name.endsWith('.md'),
  );
  const ofExamples = (await readdir(join(project, 'examples'), { recursive: true })).filter((name) =>
    name.endsWith('.md'),
  );
  return [
    ...atTop,
    ...below.map((name) => join('docs', name)),
    ...ofExamples.map((name) => join('examples', name)),
  ].sort();
}

export function readPage(page: string): string {
  return readFileSync(join(project, page), 'utf8');
}

export interface Block {
  /** What stands after the opening fence: `ts`, `console`, … */
  readonly info: string;
  readonly text: string;
}

export function blocksOf(markdown: string): Block[] {
  return [...markdown.matchAll(/^```(.*)\n([\s\S]*?)^```$/gm)].map(([, info = '', text = '']) => ({
    info,
    text,
  }));
}

/** Returns the one block of `page` with that info string. */
export function blockOf(page: string, info: string): string {
  const found = blocksOf(readPage(page)).filter((block) => block.info === info);
  if (found.length !== 1 || found[0] === undefined)
    throw new Error(`${page}: ${found.length} blocks of ${info}`);
  return found[0].text;
}

/** Returns the rows of each table of `page` whose first heading is `heading`: cells as they stand, without the headings. */
export function tablesOf(page: string, heading: string): string[][][] {
  const tables = readPage(page).match(/(?:^\|.*\|\n)+/gm) ?? [];
  return tables
    .map((table) => table.trimEnd().split('\n').map(cellsOf))
    .filter(([headings]) => headings?.[0] === heading)
    .map((rows) => rows.slice(2));
}

function cellsOf(row: string): string[] {
  return row
    .slice(1, -1)
    .split('|')
    .map((cell) => cell.trim());
}

/** Returns what stands in backquotes in each cell of the first column of these tables. */
export function namesIn(tables: readonly (readonly string[][])[]): string[] {
  return tables.flat().flatMap(([cell = '']) => codeIn(cell));
}

export function codeIn(cell: string): string[] {
  return [...cell.matchAll(/`([^`]+)`/g)].map(([, code = '']) => code);
}

/** Returns the targets of the page's links, code left out. */
export function linksOf(page: string): string[] {
  const prose = readPage(page)
    .replace(/^```[\s\S]*?^```$/gm, '')
    .replace(/`[^`\n]*`/g, '');
  return [...prose.matchAll(/\]\(([^)\s]+)\)/g)].map(([, target = '']) => target);
}

/** Returns the anchors of the page's headings, as GitHub makes them. */
export function anchorsOf(page: string): string[] {
  const prose = readPage(page).replace(/^```[\s\S]*?^```$/gm, '');
  return [...prose.matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  );
}
