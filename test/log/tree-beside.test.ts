/** The tree beside a file whose segment is closed at the very moment at which it is read. */
import { mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { SigningKey } from '../../src/identity/key.ts';
import { treeFolderOf } from '../../src/log/files.ts';
import { LogLock } from '../../src/log/lock.ts';
import { type TreeBeside, treeOfInode } from '../../src/log/tree-beside.ts';
import { temporaryFolder } from '../support/log.ts';
import { writeSealed } from './sealed.ts';

const tile = { level: 0, index: 0, width: 5 };

/** Reads `what` between the two renames of a rotation, which goes on a moment later. */
async function readInRotation<Result>(what: (tree: TreeBeside) => Promise<Result>): Promise<Result> {
  const path = join(temporaryFolder(), 'swarm.jsonl');
  await writeSealed(path, 5, SigningKey.generate());
  const closed = path.replace('.jsonl', '.000001.jsonl');
  const tree = treeOfInode(path, statSync(path, { bigint: true }).ino, path);
  const lock = LogLock.open(path);
  const reading = await lock.hold(async () => {
    renameSync(treeFolderOf(path), treeFolderOf(closed));
    const found = { promise: what(tree) };
    await wait(50);
    renameSync(path, closed);
    writeFileSync(path, '');
    return found;
  });
  lock.close();
  return await reading.promise;
}

test('a tile that moves away while it is read is read where it is now', async () => {
  expect(await readInRotation((tree) => tree.readTile(tile))).toHaveLength(160);
});

test('so is a checkpoint', async () => {
  expect(await readInRotation((tree) => tree.readCheckpoint())).toMatch(/^swarm\/[0-9a-f]{32}\n5\n/);
});

test('what is not there once nobody writes is not there', async () => {
  const path = join(temporaryFolder(), 'swarm.jsonl');
  await writeSealed(path, 5, SigningKey.generate());
  const tree = treeOfInode(path, statSync(path, { bigint: true }).ino, path);
  expect(await tree.readTile(tile)).toEqual(readFileSync(join(tree.folder, 'tile/0/000.p/5')));
  expect(await tree.readTile({ ...tile, index: 1 })).toBeUndefined();
  rmSync(join(tree.folder, 'checkpoint'));
  expect(await tree.readCheckpoint()).toBeUndefined();
  mkdirSync(join(tree.folder, 'checkpoint'));
  await expect(tree.readCheckpoint()).rejects.toMatchObject({ code: 'EISDIR' });
});
