import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { logSealed, sealFailed } from '../../src/base/events.ts';
import { SigningKey } from '../../src/identity/key.ts';
import { writeAllBundles } from '../../src/log/bundles.ts';
import { closedSegments, treeFolderOf } from '../../src/log/files.ts';
import { Sealer, sealLog } from '../../src/log/sealer.ts';
import { openLog } from '../../src/log/writer.ts';
import { printTilePath, tilesBetween } from '../../src/merkle/tile.ts';
import { linesOf, said, temporaryFolder } from '../support/log.ts';
import { checkpointBeside, keyringOf, rootOfLines, sealOptions, writeSealed } from './sealed.ts';

const key = SigningKey.generate();
const place = (): string => join(temporaryFolder(), 'swarm.jsonl');

function tree(path: string): string {
  return treeFolderOf(path);
}

test('a log is sealed when its writer closes it: the checkpoint is the root over its lines', async () => {
  const path = place();
  await writeSealed(path, 600, key);
  const { origin, size, root } = checkpointBeside(path, key);
  expect(size).toBe(600);
  expect(root.toString('hex')).toBe(rootOfLines(path));
  expect(origin).toMatch(/^swarm\/[0-9a-f]{32}$/);
});

test('every tile that the checkpoint needs is there, and no full one has partial ones beside it', async () => {
  const path = place();
  await writeSealed(path, 700, key, { everyRecords: 50, everyMs: 1 });
  for (const tile of tilesBetween(0, 700)) {
    const { size } = statSync(join(tree(path), printTilePath(tile)));
    expect(size).toBe(tile.width * 32);
  }
  expect(readdirSync(join(tree(path), 'tile/0')).sort()).toEqual(['000', '001', '002.p']);
});

test('a writer seals as it goes: by number of records, and after a while', async () => {
  const path = place();
  const sizes: number[] = [];
  onTestFinished(logSealed.subscribe(({ file, size }) => void (file === path && sizes.push(size))));
  await using log = await openLog(path, {
    key,
    seal: { ...sealOptions(path, key), everyRecords: 10, everyMs: 100 },
  });
  await Promise.all(Array.from({ length: 10 }, () => log.append(said('by number'))));
  await expect.poll(() => sizes).toEqual([10]);
  await log.append(said('after a while'));
  await expect.poll(() => sizes).toEqual([10, 11]);
  expect(checkpointBeside(path, key).size).toBe(11);
});

test('sealing again without new records changes nothing', async () => {
  const path = place();
  await writeSealed(path, 20, key);
  const before = readFileSync(join(tree(path), 'checkpoint'));
  expect(await sealLog(path, sealOptions(path, key))).toEqual([]);
  expect(readFileSync(join(tree(path), 'checkpoint'))).toEqual(before);
});

test('agents that know each other by the keyring seal one log in turn, and the tree is one', async () => {
  const path = place();
  const other = SigningKey.generate();
  const keyring = keyringOf({ key, other });
  for (let turn = 0; turn < 3; turn += 1) {
    await writeSealed(path, 100, key, { keyring });
    await writeSealed(path, 100, other, { keyring });
  }
  appendFileSync(path, '\n\nnot a record\n{"ts_ns":17');
  await writeSealed(path, 1, other, { keyring });
  expect(linesOf(path).at(-2)).toContain('LOG.RECOVER');
  const { size, root } = checkpointBeside(path, other);
  expect(size).toBe(605); // the line that is no record, the torn one, the recovery of each, and one record
  expect(root.toString('hex')).toBe(rootOfLines(path));
});

test('two sealing writers of one log at once leave one tree over all lines', async () => {
  const path = place();
  const other = SigningKey.generate();
  const keyring = keyringOf({ key, other });
  const failures: string[] = [];
  onTestFinished(sealFailed.subscribe(({ error }) => void failures.push(error.message)));
  await Promise.all([
    writeSealed(path, 1_000, key, { keyring, everyRecords: 20 }),
    writeSealed(path, 1_000, other, { keyring, everyRecords: 30 }),
  ]);
  expect(failures).toEqual([]);
  const { size, root } = checkpointBeside(path, key, other);
  expect(size).toBe(2_000);
  expect(root.toString('hex')).toBe(rootOfLines(path));
});

test('closed segments take their trees with them, each sealed to its last line', async () => {
  const path = place();
  await writeSealed(path, 400, key, { rotateBytes: 50_000, everyRecords: 30 });
  const closed = closedSegments(path);
  expect(closed.length).toBeGreaterThan(2);
  for (const file of [...closed, path]) {
    const { size, root, origin } = checkpointBeside(file, key);
    expect(size).toBe(linesOf(file).length);
    expect(root.toString('hex')).toBe(rootOfLines(file));
    expect(origin).toMatch(/^swarm\//);
  }
});

test('a rotation that died between the tree and its segment is taken back', async () => {
  const path = place();
  await writeSealed(path, 30, key);
  renameSync(tree(path), tree(path.replace('.jsonl', '.000001.jsonl')));
  await writeSealed(path, 30, key);
  expect(checkpointBeside(path, key).size).toBe(60);
  expect(existsSync(tree(path.replace('.jsonl', '.000001.jsonl')))).toBe(false);
});

test('a tree whose segment was put away stays where it is, and its number is not used again', async () => {
  const path = place();
  await writeSealed(path, 100, key, { rotateBytes: 20_000 });
  const closed = closedSegments(path);
  for (const file of closed) rmSync(file);
  await writeSealed(path, 100, key, { rotateBytes: 20_000 });
  for (const file of closed) expect(checkpointBeside(file, key).size).toBeGreaterThan(0);
  expect(closedSegments(path)[0]).toBe(path.replace('.jsonl', `.00000${closed.length + 1}.jsonl`));
});

test('a seal costs what is new: lines that were sealed are not read again', async () => {
  const path = place();
  await writeSealed(path, 300, key);
  // Were they read, one would be found to have changed. To find that is for `swarm verify`.
  writeFileSync(path, readFileSync(path, 'utf8').replace(/^(.*\n.*)BUS.PUBLISH/, '$1BUS.PUBLUSH'));
  await writeSealed(path, 10, key);
  expect(checkpointBeside(path, key).size).toBe(310);
  expect(checkpointBeside(path, key).root.toString('hex')).not.toBe(rootOfLines(path));
});

const refusals: Readonly<Record<string, { attack(path: string): void; says: RegExp }>> = {
  'its tree is gone': {
    attack: (path) => rmSync(tree(path), { recursive: true }),
    says: /we sealed 50 lines of it, and no checkpoint is beside it/,
  },
  'its checkpoint is an older one': {
    attack: (path) => cpSync(`${path}.old-checkpoint`, join(tree(path), 'checkpoint')),
    says: /we sealed 50 lines of it, and the checkpoint beside it is of 40/,
  },
  'lines were cut off at its end': {
    attack: (path) => writeFileSync(path, `${linesOf(path).slice(0, 45).join('\n')}\n`),
    says: /50 lines of it were sealed, and only 45 are here/,
  },
  'a sealed line was changed, and all is read again': {
    attack: (path) => {
      const lines = linesOf(path);
      lines.splice(10, 1);
      writeFileSync(path, `${lines.join('\n')}\nanother\n`);
    },
    says: /its first 50 lines are not those that were sealed/,
  },
  'its checkpoint is signed by a stranger': {
    attack: (path) => {
      const text = readFileSync(join(tree(path), 'checkpoint'), 'utf8');
      writeFileSync(
        join(tree(path), 'checkpoint'),
        text.replace(/— (\S+) .*\n/, `— $1 ${Buffer.alloc(68, 7).toString('base64')}\n`),
      );
    },
    says: /the checkpoint beside it is of nobody whom we know/,
  },
  'its tree is another log’s': {
    attack: (path) => {
      const other = join(path, '../other/swarm.jsonl');
      mkdirSync(join(path, '../other'));
      execFileSync('cp', [path, other]);
      const lines = linesOf(path);
      writeFileSync(path, `${lines.slice(1).join('\n')}\n`);
    },
    says: /the checkpoint beside it is of another log/,
  },
};

test.each(Object.entries(refusals))('a log is not sealed further when %s', async (_, { attack, says }) => {
  const path = place();
  await writeSealed(path, 40, key);
  cpSync(join(tree(path), 'checkpoint'), `${path}.old-checkpoint`);
  await writeSealed(path, 10, key);
  attack(path);
  await expect(sealLog(path, sealOptions(path, key))).rejects.toMatchObject({
    code: 'SEAL_REFUSED',
    message: expect.stringMatching(says),
  });
});

test('a log that must not be sealed further is not opened by a writer that seals', async () => {
  const path = place();
  await writeSealed(path, 10, key);
  rmSync(tree(path), { recursive: true });
  await expect(writeSealed(path, 1, key)).rejects.toMatchObject({ code: 'SEAL_REFUSED' });
  expect(linesOf(path)).toHaveLength(10);
});

test.each(['gone', 'an older one'])(
  'a sealer does not seal on when what it saw of another’s seals is %s',
  async (what) => {
    const path = place();
    const other = SigningKey.generate();
    const keyring = keyringOf({ key, other });
    await writeSealed(path, 300, other, { keyring });
    cpSync(tree(path), `${path}.old-tree`, { recursive: true });
    await writeSealed(path, 300, other, { keyring });
    const sealer = new Sealer(path, sealOptions(path, key, { keyring }));
    expect(await sealer.seal()).toEqual([]); // nothing is left for it to sign, or to remember
    rmSync(tree(path), { recursive: true });
    if (what !== 'gone') cpSync(`${path}.old-tree`, tree(path), { recursive: true });
    appendFileSync(path, 'another\n');
    await expect(sealer.seal()).rejects.toMatchObject({
      code: 'SEAL_REFUSED',
      message: expect.stringMatching(
        /600 lines of it were sealed when we last looked, and (?:no checkpoint|a checkpoint of 300) is/,
      ),
    });
    await sealer.close();
  },
);

test('tiles that are gone or damaged are made anew from the lines', async () => {
  const path = place();
  await writeSealed(path, 300, key);
  rmSync(join(tree(path), 'tile/0/001.p'), { recursive: true });
  writeFileSync(join(tree(path), 'tile/0/000'), Buffer.alloc(256 * 32));
  await writeSealed(path, 10, key);
  const { size, root } = checkpointBeside(path, key);
  expect(size).toBe(310);
  expect(root.toString('hex')).toBe(rootOfLines(path));
  expect(readFileSync(join(tree(path), 'tile/0/000')).equals(Buffer.alloc(256 * 32))).toBe(false);
});

test('what we remember may not be replaced by something else', async () => {
  const path = place();
  await writeSealed(path, 10, key);
  const remembered = join(path, '../remembered');
  const [name = ''] = readdirSync(remembered);
  writeFileSync(join(remembered, name), '{"checkpoint":"none","offset":1}');
  await expect(sealLog(path, sealOptions(path, key))).rejects.toMatchObject({ code: 'SEAL_STATE' });
  writeFileSync(join(remembered, name), '{');
  await expect(sealLog(path, sealOptions(path, key))).rejects.toMatchObject({ code: 'SEAL_STATE' });
});

test('what we remember and cannot be read for a while stops no sealing for good', async () => {
  const path = place();
  const failures: string[] = [];
  onTestFinished(
    sealFailed.subscribe(
      ({ log, error }) => void (log === path && failures.push(`${error.code} ${error.message}`)),
    ),
  );
  await writeSealed(path, 10, key);
  const remembered = join(path, '../remembered');
  const [name = ''] = readdirSync(remembered);
  await using log = await openLog(path, { key, seal: { ...sealOptions(path, key), everyRecords: 1 } });
  renameSync(join(remembered, name), join(remembered, 'away'));
  mkdirSync(join(remembered, name)); // cannot be read, as on a disk that fails
  await log.append(said('one'));
  await expect
    .poll(() => failures)
    .toEqual([
      expect.stringMatching(
        /^SEAL_FAILED cannot seal .* last checkpoint that we remember, .*: it is a folder/,
      ),
    ]);
  rmdirSync(join(remembered, name));
  renameSync(join(remembered, 'away'), join(remembered, name));
  await log.append(said('two'));
  await expect.poll(() => checkpointBeside(path, key).size).toBe(12);
});

test.each([
  ['of the growing segment', undefined],
  ['of a closed one', 3_000],
])(
  'a checkpoint %s that we signed, and died before we remembered it, is told of once',
  async (_, rotateBytes) => {
    const path = place();
    await writeSealed(path, 10, key, rotateBytes === undefined ? {} : { rotateBytes });
    const file = closedSegments(path)[0] ?? path;
    const text = readFileSync(join(tree(file), 'checkpoint'), 'utf8');
    const remembered = join(path, '../remembered');
    const [, id = ''] = /\/([0-9a-f]{32})\n/.exec(text) ?? [];
    const [name = ''] = readdirSync(remembered).filter((entry) => entry.startsWith(id));
    rmSync(join(remembered, name));
    const stranger = SigningKey.generate();
    const keyring = keyringOf({ key, stranger });
    expect(await sealLog(path, { ...sealOptions(path, stranger), keyring })).toEqual([]);
    const told: string[] = [];
    const onSealed = (seal: { readonly text: string }): void => void told.push(seal.text);
    for (let turn = 0; turn < 2; turn += 1) {
      await using log = await openLog(path, { key, seal: { ...sealOptions(path, key), onSealed } });
      await log.seal();
    }
    expect(told).toEqual([text]);
    expect(readFileSync(join(tree(file), 'checkpoint'), 'utf8')).toBe(text);
    expect(readdirSync(remembered)).toContain(name);
  },
);

test('entry bundles are as far as the seal, and no full one has partial ones beside it', async () => {
  const path = place();
  await writeSealed(path, 250, key);
  expect(await writeAllBundles(path)).toBe(1);
  const bundles = join(tree(path), 'tile/entries');
  expect(readdirSync(bundles, { recursive: true }).sort()).toEqual(['000.p', '000.p/250']);
  await writeSealed(path, 10, key);
  expect(await writeAllBundles(path)).toBe(2);
  expect(readdirSync(bundles, { recursive: true }).sort()).toEqual(['000', '001.p', '001.p/4']);
  expect(await writeAllBundles(path)).toBe(0);
});

test('a seal that fails is told, leaves the writer writing, and is made up for', async () => {
  const path = place();
  const failures: string[] = [];
  onTestFinished(sealFailed.subscribe(({ log, error }) => void (log === path && failures.push(error.code))));
  await using log = await openLog(path, { key, seal: { ...sealOptions(path, key), everyRecords: 1 } });
  writeFileSync(tree(path), 'in the way of the folder');
  await log.append(said('one'));
  await expect.poll(() => failures).toEqual(['SEAL_FAILED']);
  await log.append(said('two'));
  rmSync(tree(path));
  await expect
    .poll(async () => {
      await log.append(said('more'));
      return existsSync(tree(path));
    })
    .toBe(true);
  await log.seal();
  expect(checkpointBeside(path, key).size).toBe(linesOf(path).length);
});

test('after a refusal, told once, a seal that is asked for is refused alike', async () => {
  const path = place();
  await writeSealed(path, 10, key);
  const failures: string[] = [];
  onTestFinished(sealFailed.subscribe(({ log, error }) => void (log === path && failures.push(error.code))));
  await using log = await openLog(path, { key, seal: { ...sealOptions(path, key), everyRecords: 1 } });
  rmSync(tree(path), { recursive: true });
  await log.append(said('one'));
  await expect.poll(() => failures).toEqual(['SEAL_REFUSED']);
  await log.append(said('two'));
  await expect(log.seal()).rejects.toMatchObject({ code: 'SEAL_REFUSED' });
  await expect(log.seal()).rejects.toMatchObject({ code: 'SEAL_REFUSED' });
  expect(failures).toEqual(['SEAL_REFUSED']);
});
