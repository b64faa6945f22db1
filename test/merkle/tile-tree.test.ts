import fc from 'fast-check';
import { expect, test } from 'vitest';
import { checkConsistency, proveConsistency, proveInclusion, treeRoot } from '../../src/merkle/prove.ts';
import { tilesBetween } from '../../src/merkle/tile.ts';
import { readFromTiles } from '../../src/merkle/tile-hashes.ts';
import { TileTree } from '../../src/merkle/tile-tree.ts';
import { CompactTree, inclusionPaths, rootOf, rowsFrom } from '../../src/merkle/tree.ts';
import { leavesOf } from './leaves.ts';
import { TiledLog } from './tiled-log.ts';

const many = leavesOf(65_600);

test('the root of a tile tree is that over its leaves, for every size up to 600 and around 65,536', () => {
  const tiled = new TileTree();
  const compact = new CompactTree();
  expect(tiled.root()).toEqual(rootOf([]));
  for (const leaf of many) {
    tiled.append(leaf);
    compact.append(leaf);
    const { size } = tiled;
    if (size <= 600 || (size >= 65_530 && size <= 65_540)) {
      if (!tiled.root().equals(compact.root())) expect.fail(`size ${size}`);
    }
  }
  expect(tiled.size).toBe(many.length);
  expect(tiled.root()).toEqual(rootOf(many));
});

test('the rows above hashes are the roots of their complete subtrees', () => {
  for (const width of [0, 1, 2, 3, 5, 8, 255, 256]) {
    const rows = rowsFrom(Buffer.concat(many.slice(0, width)));
    expect(rows).toHaveLength(width === 0 ? 1 : Math.floor(Math.log2(width)) + 1);
    for (const [level, row] of rows.entries()) {
      const count = Math.floor(width / 2 ** level);
      const roots = Array.from({ length: count }, (_, i) =>
        rootOf(many.slice(i * 2 ** level, (i + 1) * 2 ** level)),
      );
      expect(row).toEqual(Buffer.concat(roots));
    }
  }
});

/** Where a log is sealed: sizes in ascending order. */
const cuts = fc
  .array(fc.oneof(fc.nat(1500), fc.constantFrom(255, 256, 257, 511, 512, 513)), {
    minLength: 1,
    maxLength: 6,
  })
  .map((sizes) => sizes.toSorted((a, b) => a - b));

test('what is taken from a tile tree is what tilesBetween says, and a restored tree goes on as if never stopped', async () => {
  await fc.assert(
    fc.asyncProperty(cuts, fc.infiniteStream(fc.boolean()), async (sizes, stops) => {
      const log = new TiledLog();
      let from = 0;
      for (const to of sizes) {
        for (const leaf of many.slice(from, to)) log.tree.append(leaf);
        expect(log.store()).toEqual(tilesBetween(from, to));
        expect(log.store()).toEqual([]);
        expect(log.tree.root()).toEqual(rootOf(many.slice(0, to)));
        from = to;
        if (stops.next().value) log.tree = await TileTree.restore(to, log.readTile);
        expect(log.tree.size).toBe(to);
      }
      const once = TiledLog.of(many.slice(0, from));
      for (const [path, bytes] of once.tiles) expect(log.tiles.get(path)).toEqual(bytes);
    }),
    { numRuns: 20 },
  );
});

test('a tree is restored around 65,536 leaves and makes the tiles of one that never stopped', async () => {
  const whole = TiledLog.of(many);
  for (const size of [65_535, 65_536, 65_537]) {
    const log = TiledLog.of(many.slice(0, size));
    expect(log.tree.root()).toEqual(rootOf(many.slice(0, size)));
    log.tree = await TileTree.restore(size, log.readTile);
    expect(log.tree.takeTiles()).toEqual([]);
    for (const leaf of many.slice(size)) log.tree.append(leaf);
    expect(log.store()).toEqual(tilesBetween(size, many.length));
    for (const [path, bytes] of whole.tiles) {
      if (!log.tiles.get(path)?.equals(bytes)) expect.fail(path);
    }
  }
});

test('a tile that was taken does not change when the tree grows', () => {
  const tree = new TileTree();
  for (const leaf of many.slice(0, 200)) tree.append(leaf);
  const [taken] = tree.takeTiles();
  for (const leaf of many.slice(200, 700)) tree.append(leaf);
  expect(taken?.bytes).toEqual(Buffer.concat(many.slice(0, 200)));
});

test('a leaf may be written to after it was appended, and must be a hash', () => {
  const tree = new TileTree();
  const leaf = Buffer.from(many[0] ?? []);
  tree.append(leaf);
  leaf.fill(0);
  expect(tree.root()).toEqual(many[0]);
  expect(() => tree.append(Buffer.alloc(31))).toThrow(RangeError);
  expect(tree.size).toBe(1);
});

test('a tree is not restored from tiles of another length, nor at what is no size', async () => {
  const log = TiledLog.of(many.slice(0, 300));
  log.tiles.set('tile/0/001.p/44', Buffer.alloc(43 * 32));
  await expect(TileTree.restore(300, log.readTile)).rejects.toMatchObject({
    code: 'TILE_INVALID',
    message: 'tile/0/001.p/44 has 1376 bytes instead of 1408',
  });
  await expect(TileTree.restore(-1, log.readTile)).rejects.toThrow(RangeError);
  await expect(TileTree.restore(2 ** 53, log.readTile)).rejects.toThrow(RangeError);
});

test('roots and proofs read from tiles are those of the tree in memory, around 256 and 65,536', async () => {
  for (const size of [1, 2, 255, 256, 257, 513, 65_535, 65_536, 65_537]) {
    const some = many.slice(0, size);
    const log = TiledLog.of(some);
    const read = readFromTiles(size, log.readTile);
    const { root, paths } = inclusionPaths(some);
    expect(await treeRoot(size, read)).toEqual(root);
    const indexes = new Set([0, 1, 254, 255, 256, 257, 511, 512, 65_279, 65_280, size - 2, size - 1]);
    for (const index of [...indexes].filter((i) => i >= 0 && i < size)) {
      expect(await proveInclusion(index, size, read)).toEqual(paths[index]);
    }
    for (const from of [1, 2, 255, 256, 257, 300, 65_535, 65_536].filter((i) => i <= size)) {
      const old = { size: from, root: rootOf(many.slice(0, from)) };
      expect(checkConsistency(await proveConsistency(from, size, read), old, { size, root })).toBe(true);
    }
  }
});

test('every node of a tiled log can be read, at every level, and none that is not there', async () => {
  const size = 1000;
  const log = TiledLog.of(many.slice(0, size));
  const read = readFromTiles(size, log.readTile);
  for (let level = 0; 2 ** level <= size; level++) {
    const count = Math.floor(size / 2 ** level);
    const nodes = Array.from({ length: count }, (_, index) => ({ level, index }));
    const hashes = nodes.map(({ index }) => rootOf(many.slice(index * 2 ** level, (index + 1) * 2 ** level)));
    expect(await read(nodes)).toEqual(hashes);
    await expect(read([{ level, index: count }])).rejects.toThrow(RangeError);
  }
  for (const node of [
    { level: 0, index: -1 },
    { level: 0, index: 0.5 },
    { level: -1, index: 0 },
    { level: 10, index: 0 },
    { level: 16, index: 0 },
  ]) {
    await expect(read([node])).rejects.toThrow(RangeError);
  }
});

test('a tile is read once for a call, and not again for its neighbours', async () => {
  const size = 65_537;
  const log = TiledLog.of(many.slice(0, size));
  const read = readFromTiles(size, log.readTile);
  await proveInclusion(1000, size, read);
  expect(log.reads.toSorted()).toEqual([...new Set(log.reads)].toSorted());
  const first = log.reads.length;
  for (let index = 1000; index < 1024; index++) await proveInclusion(index, size, read);
  expect(log.reads).toHaveLength(first);
  await read([
    { level: 0, index: 1024 },
    { level: 3, index: 128 },
    { level: 0, index: 1024 },
  ]);
  expect(log.reads.slice(first)).toEqual(['tile/0/004']);
});

test('only the tiles last used are kept', async () => {
  const size = 65_536;
  const log = TiledLog.of(many.slice(0, size));
  const read = readFromTiles(size, log.readTile);
  const tile = (index: number): Promise<readonly Buffer[]> => read([{ level: 0, index: index * 256 }]);
  for (let index = 0; index < 100; index++) {
    await tile(0); // stays, since it is used again and again
    await tile(index);
  }
  expect(log.reads).toHaveLength(100);
  await tile(1);
  expect(log.reads).toHaveLength(101);
});

test('a tile of another length is refused, and read again when it is mended', async () => {
  const log = TiledLog.of(many.slice(0, 300));
  const whole = log.tiles.get('tile/0/000') ?? Buffer.alloc(0);
  const read = readFromTiles(300, log.readTile);
  for (const bytes of [whole.subarray(1), Buffer.alloc(0), Buffer.concat([whole, whole])]) {
    log.tiles.set('tile/0/000', bytes);
    await expect(read([{ level: 0, index: 3 }])).rejects.toMatchObject({ code: 'TILE_INVALID' });
  }
  log.tiles.set('tile/0/000', whole);
  expect(await read([{ level: 0, index: 3 }])).toEqual([many[3]]);
});
