import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { makeFolderDurably, writeFileDurably } from '../../src/base/durable.ts';

let folder = '';
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'swarm-durable-'));
});
afterEach(async () => {
  await rm(folder, { recursive: true });
});

test('a file is written and replaced, with its mode, and nothing else is left in the folder', async () => {
  const path = join(folder, 'file');
  await writeFileDurably(path, 'one', { mode: 0o644 });
  await writeFileDurably(path, Buffer.from('two'), { mode: 0o600 });
  expect(await readFile(path, 'utf8')).toBe('two');
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  expect(await readdir(folder)).toEqual(['file']);
});

test('of 20 exclusive writers at once exactly one succeeds, and its content stays', async () => {
  const path = join(folder, 'file');
  const outcomes = await Promise.allSettled(
    Array.from({ length: 20 }, (_, index) =>
      writeFileDurably(path, String(index), { mode: 0o600, exclusive: true }),
    ),
  );
  const winners = outcomes.flatMap(({ status }, index) => (status === 'fulfilled' ? [String(index)] : []));
  expect(winners).toEqual([await readFile(path, 'utf8')]);
  expect(outcomes.filter((o) => o.status === 'rejected' && o.reason.code === 'EEXIST')).toHaveLength(19);
  expect(await readdir(folder)).toEqual(['file']);
});

test('a reader during many writes never sees a part of a file', async () => {
  const path = join(folder, 'file');
  const whole = (n: number) => `${n}:`.padEnd(200_000, String(n % 10));
  await writeFileDurably(path, whole(0), { mode: 0o600 });
  let writing = true;
  const read = (async () => {
    const lengths = new Set<number>();
    while (writing) lengths.add((await readFile(path, 'utf8')).length);
    return lengths;
  })();
  for (let n = 1; n <= 30; n++) await writeFileDurably(path, whole(n), { mode: 0o600 });
  writing = false;
  expect([...(await read)]).toEqual([200_000]);
});

test('a write that fails leaves what was there and no temporary file', async () => {
  await mkdir(join(folder, 'taken'));
  await expect(writeFileDurably(join(folder, 'taken'), 'x', { mode: 0o600 })).rejects.toThrow();
  await expect(writeFileDurably(join(folder, 'absent/file'), 'x', { mode: 0o600 })).rejects.toThrow('ENOENT');
  expect(await readdir(folder)).toEqual(['taken']);
});

test('a folder is made with those above it, and one that is there is left', async () => {
  await makeFolderDurably(join(folder, 'a/b/c'));
  await makeFolderDurably(join(folder, 'a/b'));
  expect(await readdir(join(folder, 'a/b'))).toEqual(['c']);
});

test('of 20 that make the same folders at once none fails', async () => {
  const path = join(folder, 'a/b/c/d');
  await Promise.all(Array.from({ length: 20 }, () => makeFolderDurably(path)));
  expect((await stat(path)).isDirectory()).toBe(true);
});

describe('a folder that cannot be made is named, with the reason', () => {
  test.each([
    ['below a file', 'file/a/b', 'file/a/b', /ENOTDIR/],
    ['where a file is', 'file', 'file', /EEXIST/],
    ['behind a link that leads nowhere', 'link/a', 'link', /EEXIST/],
  ])('%s', async (_, path, named, reason) => {
    await writeFile(join(folder, 'file'), '');
    await symlink('nowhere', join(folder, 'link'));
    const failure = makeFolderDurably(join(folder, path));
    await expect(failure).rejects.toThrow(`cannot make the folder ${join(folder, named)}: `);
    await expect(failure).rejects.toThrow(reason);
  });

  // There a folder that exists answers as one that does not, and Node's own way to make folders asks for ever.
  test.skipIf(process.platform !== 'linux')('in /proc', async () => {
    await expect(makeFolderDurably('/proc/a/b')).rejects.toThrow('cannot make the folder /proc/a: ENOENT');
  });
});
