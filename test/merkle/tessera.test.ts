/** A log that Tessera wrote, made again by us from its entries. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parseEntries, printEntries } from '../../src/merkle/bundle.ts';
import { type Checkpoint, openCheckpoint, parseCheckpoint } from '../../src/merkle/checkpoint.ts';
import { checkNote, parseNote, parseNoteKey, printNote } from '../../src/merkle/note.ts';
import {
  checkConsistency,
  checkInclusion,
  proveConsistency,
  proveInclusion,
  treeRoot,
} from '../../src/merkle/prove.ts';
import {
  parseBundlePath,
  parseTilePath,
  printBundlePath,
  printTilePath,
  tilesBetween,
} from '../../src/merkle/tile.ts';
import { type ReadTile, readFromTiles } from '../../src/merkle/tile-hashes.ts';
import { TileTree } from '../../src/merkle/tile-tree.ts';
import { vectorPath, vectorsAreHere } from '../support/vectors.ts';
import { leafOf } from './leaves.ts';

const folder = vectorPath('public/tessera-log');
const logKey = parseNoteKey('example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx');
const sizes = Array.from({ length: 16 }, (_, size) => size);

const read = (name: string): Buffer => readFileSync(join(folder, name));
const readTile: ReadTile = async (tile) => read(printTilePath(tile));

function checkpointOf(size: number): Checkpoint {
  const opened = openCheckpoint(read(`checkpoint.${size}`), [logKey.publicKey]);
  if (!opened.ok) throw new Error(opened.detail);
  return opened.checkpoint;
}

function entriesOf(size: number): Buffer[] {
  const entries = parseEntries(read(printBundlePath({ index: 0, width: size })), size);
  if (entries === undefined) throw new Error(`no ${size} entries`);
  return entries;
}

describe.skipIf(!vectorsAreHere)('the log of Tessera', () => {
  test('has a checkpoint for each size, signed by its key', () => {
    for (const size of sizes) {
      const text = read(`checkpoint.${size}`).toString();
      const parsed = parseNote(text);
      if (!parsed.ok) throw new Error(parsed.detail);
      expect(checkNote(parsed.note, [logKey])).toEqual({ ok: true, signers: [logKey] });
      expect(parseCheckpoint(parsed.note.text)).toEqual({ ok: true, checkpoint: checkpointOf(size) });
      expect(checkpointOf(size)).toMatchObject({ origin: 'example.com/log/testdata', size });
      expect(printNote(parsed.note)).toBe(text);
    }
    expect(read('checkpoint')).toEqual(read('checkpoint.15'));
  });

  test('has the tiles, bundles and roots that we make of its entries, byte for byte', async () => {
    const tree = new TileTree();
    const made = new Set<string>();
    expect(tree.root()).toEqual(checkpointOf(0).root);
    for (const [at, entry] of entriesOf(15).entries()) {
      const size = at + 1;
      tree.append(leafOf(entry));
      expect(tree.root()).toEqual(checkpointOf(size).root);
      expect((await TileTree.restore(size, readTile)).root()).toEqual(checkpointOf(size).root);
      const tiles = tree.takeTiles();
      expect(tiles.map(({ tile }) => tile)).toEqual(tilesBetween(at, size));
      for (const { tile, bytes } of tiles) {
        expect(bytes).toEqual(await readTile(tile));
        made.add(printTilePath(tile));
      }
      const bundle = { index: 0, width: size };
      expect(printEntries(entriesOf(15).slice(0, size))).toEqual(read(printBundlePath(bundle)));
      made.add(printBundlePath(bundle));
    }
    const files = readdirSync(join(folder, 'tile'), { recursive: true, encoding: 'utf8' })
      .map((name) => `tile/${name}`)
      .filter((name) => parseTilePath(name) !== undefined || parseBundlePath(name) !== undefined);
    expect(files.filter((name) => existsSync(join(folder, name))).toSorted()).toEqual([...made].toSorted());
  });

  test('has every entry in every tree, and every tree in every later one, by proofs from its tiles', async () => {
    const leaves = entriesOf(15).map(leafOf);
    for (const to of sizes) {
      const hashes = readFromTiles(to, readTile);
      expect(await treeRoot(to, hashes)).toEqual(checkpointOf(to).root);
      for (const [index, leaf] of leaves.slice(0, to).entries()) {
        const proof = await proveInclusion(index, to, hashes);
        expect(checkInclusion(proof, leaf, index, checkpointOf(to))).toBe(true);
        expect(checkInclusion(proof, leaf, index, checkpointOf((to + 1) % 16))).toBe(false);
      }
      for (const from of sizes.slice(1, to + 1)) {
        const proof = await proveConsistency(from, to, hashes);
        expect(checkConsistency(proof, checkpointOf(from), checkpointOf(to))).toBe(true);
        if (from < to) expect(checkConsistency(proof, checkpointOf(from - 1), checkpointOf(to))).toBe(false);
      }
    }
  });
});
