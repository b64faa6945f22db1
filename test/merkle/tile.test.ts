import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  parseBundlePath,
  parseTilePath,
  printBundlePath,
  printTilePath,
  tilesBetween,
} from '../../src/merkle/tile.ts';

test.each([
  ['tile/0/000', { level: 0, index: 0, width: 256 }],
  ['tile/0/000.p/1', { level: 0, index: 0, width: 1 }],
  ['tile/3/999.p/255', { level: 3, index: 999, width: 255 }],
  ['tile/1/x001/000', { level: 1, index: 1000, width: 256 }],
  ['tile/0/x001/x234/067', { level: 0, index: 1234067, width: 256 }],
  ['tile/63/x001/x234/067.p/8', { level: 63, index: 1234067, width: 8 }],
])('%s is the path of one tile', (path, tile) => {
  expect(printTilePath(tile)).toBe(path);
  expect(parseTilePath(path)).toEqual(tile);
});

test('every tile and bundle has one path, and that path is no other’s', () => {
  const place = fc.record({ index: fc.maxSafeNat(), width: fc.integer({ min: 1, max: 256 }) });
  fc.assert(
    fc.property(place, fc.integer({ min: 0, max: 63 }), (bundle, level) => {
      expect(parseTilePath(printTilePath({ level, ...bundle }))).toEqual({ level, ...bundle });
      expect(parseBundlePath(printBundlePath(bundle))).toEqual(bundle);
      expect(parseTilePath(printBundlePath(bundle))).toBeUndefined();
    }),
  );
});

test.each([
  '',
  'tile',
  'tile/0',
  'tile/0/',
  'tile/0/0',
  'tile/0/00',
  'tile/0/0000',
  'tile/00/000',
  'tile/01/000',
  'tile/64/000',
  'tile/-1/000',
  'tile/0/x000/001',
  'tile/0/x001',
  'tile/0/001/x000',
  'tile/0/001/000',
  'tile/0/X001/000',
  'tile/0/x1/000',
  'tile/0/x999/x999/x999/x999/x999/999',
  'tile/0/000.p/0',
  'tile/0/000.p/01',
  'tile/0/000.p/256',
  'tile/0/000.p/1000',
  'tile/0/000.p/',
  'tile/0/000.p',
  'tile/0/000.p/1/',
  'tile/0/000/',
  'tile/0/000\n',
  'tile//000',
  '/tile/0/000',
  'tile/8/0/000',
  'tile/0/../000',
  'tile/entries/000',
  'tile/0/٠٠٠',
])('%j is not the path of a tile', (path) => {
  expect(parseTilePath(path)).toBeUndefined();
});

test.each(['tile/entries/', 'tile/entries/x000/001', 'tile/entries/000.p/256', 'tile/0/000', 'entries/000'])(
  '%j is not the path of a bundle',
  (path) => {
    expect(parseBundlePath(path)).toBeUndefined();
  },
);

test('a log of 70,000 has the tiles of the example in tlog-tiles', () => {
  const tiles = tilesBetween(0, 70_000);
  const full = tiles.filter(({ width }) => width === 256);
  expect(full.filter(({ level }) => level === 0)).toHaveLength(273);
  expect(full.filter(({ level }) => level === 1)).toHaveLength(1);
  expect(tiles.filter(({ width }) => width < 256)).toEqual([
    { level: 0, index: 273, width: 112 },
    { level: 1, index: 1, width: 17 },
    { level: 2, index: 0, width: 1 },
  ]);
});

test('what a log of one size has and one of another has not is told in time that grows with what is new', () => {
  expect(tilesBetween(5, 5)).toEqual([]);
  expect(tilesBetween(256, 256)).toEqual([]);
  expect(tilesBetween(255, 256)).toEqual([
    { level: 0, index: 0, width: 256 },
    { level: 1, index: 0, width: 1 },
  ]);
  expect(tilesBetween(256, 257)).toEqual([{ level: 0, index: 1, width: 1 }]);
  expect(tilesBetween(2 ** 53 - 2, 2 ** 53 - 1)).toEqual([{ level: 0, index: 2 ** 45 - 1, width: 255 }]);
});

test('the tiles between two sizes are those of the larger that the smaller has not', () => {
  const size = fc.oneof(fc.nat(70_000), fc.nat(600), fc.constantFrom(255, 256, 257, 65_535, 65_536, 65_537));
  fc.assert(
    fc.property(size, size, (one, other) => {
      const [from, to] = [Math.min(one, other), Math.max(one, other)];
      const had = new Set(tilesBetween(0, from).map(printTilePath));
      const expected = tilesBetween(0, to)
        .map(printTilePath)
        .filter((path) => !had.has(path));
      expect(tilesBetween(from, to).map(printTilePath)).toEqual(expected);
    }),
  );
});
