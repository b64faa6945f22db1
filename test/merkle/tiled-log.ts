/** A log in tiles, in memory: what a sealer would have written, and how often each tile was read. */
import { printTilePath, type Tile } from '../../src/merkle/tile.ts';
import { TileTree } from '../../src/merkle/tile-tree.ts';

export class TiledLog {
  readonly tiles = new Map<string, Buffer>();
  readonly reads: string[] = [];
  tree = new TileTree();

  static of(leaves: readonly Buffer[]): TiledLog {
    const log = new TiledLog();
    for (const leaf of leaves) log.tree.append(leaf);
    log.store();
    return log;
  }

  /** Writes what is new; returns which tiles that were. */
  store(): Tile[] {
    return this.tree.takeTiles().map(({ tile, bytes }) => {
      this.tiles.set(printTilePath(tile), Buffer.from(bytes));
      return tile;
    });
  }

  readonly readTile = async (tile: Tile): Promise<Buffer> => {
    const path = printTilePath(tile);
    this.reads.push(path);
    const bytes = this.tiles.get(path);
    if (bytes === undefined) throw new Error(`${path} is not there`);
    return bytes;
  };
}
