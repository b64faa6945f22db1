/**
 * A tree that grows by leaves and is kept in tiles: what is new in it, and its root.
 *
 * In memory are only the tiles of the right edge, at most 255 hashes for each level, and the full ones that were not
 * taken yet. Everything else is where its taker put it, and nothing of it is needed to go on.
 */
import { isSize } from './prove.ts';
import { hashesAtLevel, type Tile, tileWidth } from './tile.ts';
import { type ReadTile, readWholeTile } from './tile-hashes.ts';
import { hashBytes, rootOf, rowsFrom } from './tree.ts';

/** A tile with its bytes, which are not to be written to. */
export interface StoredTile {
  readonly tile: Tile;
  readonly bytes: Buffer;
}

/** The right edge of one level: its last tile, which always has room for a hash more. */
class Edge {
  readonly #level: number;
  #index: number;
  /** What was taken is a view of these bytes, so a hash once written stays, and a full tile leaves them behind. */
  #bytes = Buffer.alloc(tileWidth * hashBytes);
  #width: number;
  #takenWidth: number;
  #full: StoredTile[] = [];

  /** The level's first `count` hashes are stored; `partial` are those in its last tile. */
  constructor(level: number, count = 0, partial: Uint8Array = Buffer.alloc(0)) {
    this.#level = level;
    this.#index = Math.floor(count / tileWidth);
    this.#width = count % tileWidth;
    this.#takenWidth = this.#width;
    this.#bytes.set(partial);
  }

  /** Appends a hash; returns the root of the tile if that made it full. */
  append(hash: Uint8Array): Buffer | undefined {
    this.#bytes.set(hash, this.#width * hashBytes);
    this.#width += 1;
    if (this.#width < tileWidth) return undefined;
    const full = this.#last();
    this.#full.push(full);
    this.#index += 1;
    this.#bytes = Buffer.alloc(tileWidth * hashBytes);
    this.#width = 0;
    this.#takenWidth = 0;
    return rowsFrom(full.bytes).at(-1);
  }

  /** Returns the hashes in the last tile, none if the level ends with a full one. */
  hashes(): Buffer[] {
    return Array.from({ length: this.#width }, (_, at) =>
      this.#bytes.subarray(at * hashBytes, (at + 1) * hashBytes),
    );
  }

  take(): StoredTile[] {
    const taken = this.#full;
    this.#full = [];
    if (this.#width > this.#takenWidth) taken.push(this.#last());
    this.#takenWidth = this.#width;
    return taken;
  }

  #last(): StoredTile {
    return {
      tile: { level: this.#level, index: this.#index, width: this.#width },
      bytes: this.#bytes.subarray(0, this.#width * hashBytes),
    };
  }
}

/** The right edge of a tree in tiles. */
export class TileTree {
  #size = 0;
  readonly #edges: Edge[] = [];

  /**
   * Returns the tree of the first `size` leaves of a log, to be continued; reads its partial tiles, one a level.
   * Rejects with `TILE_INVALID` where one is not as long as it must be. Whether they are the log's, its root shows.
   */
  static async restore(size: number, readTile: ReadTile): Promise<TileTree> {
    if (!isSize(size)) throw new RangeError(`${size} is not the size of a tree`);
    const tree = new TileTree();
    tree.#size = size;
    for (let level = 0; hashesAtLevel(level, size) > 0; level++) {
      const count = hashesAtLevel(level, size);
      const tile = { level, index: Math.floor(count / tileWidth), width: count % tileWidth };
      const partial = tile.width === 0 ? undefined : await readWholeTile(tile, readTile);
      tree.#edges.push(new Edge(level, count, partial));
    }
    return tree;
  }

  /** How many leaves the tree has. */
  get size(): number {
    return this.#size;
  }

  /** Appends a leaf's hash, which is copied; throws a `RangeError` if it is not one. */
  append(leaf: Uint8Array): void {
    if (leaf.length !== hashBytes) throw new RangeError(`a leaf of ${leaf.length} bytes is not a hash`);
    let hash: Uint8Array | undefined = leaf;
    for (let level = 0; hash !== undefined; level++) {
      const edge: Edge = this.#edges[level] ?? new Edge(level);
      this.#edges[level] = edge;
      hash = edge.append(hash);
    }
    this.#size += 1;
  }

  /** Returns the root over all leaves so far. */
  root(): Buffer {
    // What is right of a level's full subtrees, however small, stands where the next one will.
    let right: Buffer | undefined;
    for (const edge of this.#edges) {
      const hashes = edge.hashes();
      if (right !== undefined) hashes.push(right);
      if (hashes.length > 0) right = rootOf(hashes);
    }
    return right ?? rootOf([]);
  }

  /**
   * Returns the tiles that are full since the last time, and the partial ones as they are now where they grew, by
   * level and index: what `tilesBetween` says for the two sizes.
   */
  takeTiles(): StoredTile[] {
    return this.#edges.flatMap((edge) => edge.take());
  }
}
