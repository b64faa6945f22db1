/**
 * The hashes of a tree that is kept in tiles: what proofs are made of.
 *
 * A tile holds one row of eight levels; the rows above it are computed when it is read. Tiles are taken as they are:
 * only a tree head that is trusted shows whether what was proved with them is true.
 */
import { SwarmError } from '../base/errors.ts';
import { isSize, type ReadHashes, type TreeNode } from './prove.ts';
import { hashesAtLevel, printTilePath, type Tile, tileWidth } from './tile.ts';
import { hashBytes, rowsFrom } from './tree.ts';

/** Returns the bytes of `tile`, as they are stored. */
export type ReadTile = (tile: Tile) => Promise<Buffer>;

const levelsOfTile = 8;
/** Enough for the way to a leaf, its neighbours' way and the right edge, at 16 KiB each. */
const tilesKept = 32;

/** Reads `tile` and returns its bytes; rejects with `TILE_INVALID` if they are not as many as its width says. */
export async function readWholeTile(tile: Tile, readTile: ReadTile): Promise<Buffer> {
  const bytes = await readTile(tile);
  if (bytes.length === tile.width * hashBytes) return bytes;
  throw new SwarmError(
    'TILE_INVALID',
    `${printTilePath(tile)} has ${bytes.length} bytes instead of ${tile.width * hashBytes}`,
  );
}

/** Where a node's hash is: a tile, the row in it, and the byte at which it starts. */
interface Place {
  readonly tile: Tile;
  readonly row: number;
  readonly at: number;
}

function placeOf({ level, index }: TreeNode, size: number): Place {
  const row = level % levelsOfTile;
  const tileLevel = (level - row) / levelsOfTile;
  const nodesOfRow = tileWidth / 2 ** row;
  const column = index % nodesOfRow;
  const tileIndex = (index - column) / nodesOfRow;
  const width = Math.min(tileWidth, hashesAtLevel(tileLevel, size) - tileIndex * tileWidth);
  if (!isSize(level) || !isSize(index) || (column + 1) * 2 ** row > width) {
    throw new RangeError(`no node ${index} at level ${level} of a tree of ${size}`);
  }
  return { tile: { level: tileLevel, index: tileIndex, width }, row, at: column * hashBytes };
}

/**
 * Returns a reader of the hashes of a log of `size` leaves. It reads each tile at most once for a call, and keeps the
 * last few, so that proofs of neighbours read next to nothing. It rejects with `TILE_INVALID` where a tile is not as
 * long as its width says, and with a `RangeError` where the tree has no such node.
 */
export function readFromTiles(size: number, readTile: ReadTile): ReadHashes {
  /** The rows of the tiles last used, by path, the latest last. */
  const kept = new Map<string, readonly Buffer[]>();
  return async (nodes) => {
    const places = nodes.map((node) => placeOf(node, size));
    const tiles = new Map(places.map(({ tile }) => [printTilePath(tile), tile]));
    const inHand = new Map(
      await Promise.all(
        Array.from(tiles, async ([path, tile]): Promise<[string, readonly Buffer[]]> => {
          return [path, kept.get(path) ?? rowsFrom(await readWholeTile(tile, readTile))];
        }),
      ),
    );
    for (const [path, rows] of inHand) {
      kept.delete(path);
      kept.set(path, rows);
    }
    for (const path of kept.keys()) {
      if (kept.size <= tilesKept) break;
      kept.delete(path);
    }
    return places.map(({ tile, row, at }) => {
      const hashes = inHand.get(printTilePath(tile))?.[row];
      return Buffer.from(hashes?.subarray(at, at + hashBytes) ?? []);
    });
  };
}
