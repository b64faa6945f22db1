/**
 * Tiles: a tree's hashes in files of up to 256, as C2SP tlog-tiles lays them out.
 *
 * At level 0 stand the leaves, at each level above the roots of the full tiles below it. A full tile never changes; a
 * partial one is a file of its own for each width it had. Which tiles there are follows from the size alone.
 */

/** The most hashes in a tile. */
export const tileWidth = 256;

/** The highest level that the layout has a name for. */
const highestLevel = 63;

/** A tile: hashes index·256 … index·256 + width − 1 of its level. */
export interface Tile {
  readonly level: number;
  readonly index: number;
  /** How many hashes it holds, 1 to 256; a tile of fewer than 256 is partial. */
  readonly width: number;
}

/** Returns how many hashes the tiles of `level` hold together in a log of `size` leaves. */
export function hashesAtLevel(level: number, size: number): number {
  return Math.floor(size / tileWidth ** level);
}

/** Returns every tile, full and partial, that a log of `to` leaves has and one of `from` has not, by level and index. */
export function tilesBetween(from: number, to: number): Tile[] {
  const tiles: Tile[] = [];
  for (let level = 0; hashesAtLevel(level, to) > 0; level++) {
    const had = hashesAtLevel(level, from);
    const has = hashesAtLevel(level, to);
    for (let start = had - (had % tileWidth); start < has && had < has; start += tileWidth) {
      tiles.push({ level, index: start / tileWidth, width: Math.min(tileWidth, has - start) });
    }
  }
  return tiles;
}

/** Returns where the tile stands in a log's folder: `tile/<level>/<index>`, and `.p/<width>` where it is partial. */
export function printTilePath({ level, index, width }: Tile): string {
  return `tile/${level}/${printPlace({ index, width })}`;
}

/** Returns the tile that stands at `path`, or `undefined` if none does. */
export function parseTilePath(path: string): Tile | undefined {
  const match = /^tile\/(0|[1-9][0-9]?)\/(.+)$/.exec(path);
  const level = Number(match?.[1]);
  const place = parsePlace(match?.[2] ?? '');
  return place !== undefined && level <= highestLevel ? { level, ...place } : undefined;
}

/** A bundle of the entries whose leaves are the tile of level 0 at the same index. */
export type Bundle = Omit<Tile, 'level'>;

const bundles = 'tile/entries/';

/** Returns where the bundle stands in a log's folder: `tile/entries/<index>`, and `.p/<width>` where it is partial. */
export function printBundlePath(bundle: Bundle): string {
  return bundles + printPlace(bundle);
}

/** Returns the bundle that stands at `path`, or `undefined` if none does. */
export function parseBundlePath(path: string): Bundle | undefined {
  return path.startsWith(bundles) ? parsePlace(path.slice(bundles.length)) : undefined;
}

// Three digits to a folder, all but the last after an `x`: so no folder has the name of a file.
const placeGrammar = /^((?:x[0-9]{3}\/)*[0-9]{3})(?:\.p\/([1-9][0-9]{0,2}))?$/;

function printPlace({ index, width }: Bundle): string {
  const digits = String(index);
  const groups = digits.padStart(Math.ceil(digits.length / 3) * 3, '0').match(/.{3}/g) ?? [];
  const name = groups.map((group, at) => (at < groups.length - 1 ? `x${group}` : group)).join('/');
  return width < tileWidth ? `${name}.p/${width}` : name;
}

function parsePlace(text: string): Bundle | undefined {
  const [, name, partial] = placeGrammar.exec(text) ?? [];
  if (name === undefined) return undefined;
  const index = Number(name.replaceAll(/[x/]/g, ''));
  const width = partial === undefined ? tileWidth : Number(partial);
  if (!Number.isSafeInteger(index)) return undefined;
  // Printed again: zeros before the number, or a width that is not partial, would give it a second name.
  return printPlace({ index, width }) === text ? { index, width } : undefined;
}
