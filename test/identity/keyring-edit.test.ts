import { chmod, lstat, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { generateKey } from '../../src/identity/key.ts';
import {
  type AgentEntry,
  type KeyringKey,
  loadKeyring,
  parseKeyring,
  printKeyring,
} from '../../src/identity/keyring.ts';
import {
  emptyKeyring,
  saveKeyring,
  updateKeyring,
  withAgent,
  withoutAgent,
} from '../../src/identity/keyring-edit.ts';
import { openLocked } from '../../src/identity/locked-file.ts';
import { printNkey } from '../../src/identity/nkey.ts';
import { runMany, transpileInto } from './processes.ts';

let folder = '';
let path = '';
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'swarm-keyring-'));
  path = join(folder, 'swarm.keys.json');
});
afterEach(async () => {
  await rm(folder, { recursive: true });
});

const newKey = (): KeyringKey => ({ record: generateKey().publicKey });
const entry = (name: string, ...keys: KeyringKey[]): AgentEntry => ({
  name,
  keys: keys.length > 0 ? keys : [newKey()],
});
const conflict = (says: RegExp): object =>
  expect.objectContaining({ code: 'KEYRING_CONFLICT', message: expect.stringMatching(says) });

describe('adding', () => {
  const planner = entry('planner');
  const before = withAgent(emptyKeyring, planner);

  test('puts an agent at the end, and leaves the keyring it started from alone', () => {
    const after = withAgent(before, entry('listener'));
    expect(after.agents.map(({ name }) => name)).toEqual(['planner', 'listener']);
    expect(before.agents.map(({ name }) => name)).toEqual(['planner']);
    expect(emptyKeyring.agents).toEqual([]);
  });

  test('what is there already changes nothing', () => {
    expect(withAgent(before, planner)).toBe(before);
    expect(withAgent(before, planner, { rotate: true })).toBe(before);
  });

  test('another key under a name is refused with the way to rotate, which puts it beside', () => {
    const next = newKey();
    expect(() => withAgent(before, entry('planner', next))).toThrow(conflict(/--rotate.*beside/));
    const after = withAgent(before, entry('planner', next), { rotate: true });
    expect(after.file.agents).toEqual([{ ...planner, keys: [...planner.keys, next] }]);
  });

  test('a key of another agent is refused, by its name', () => {
    const stolen = entry('thief', ...planner.keys);
    for (const rotate of [false, true]) {
      expect(() => withAgent(before, stolen, { rotate })).toThrow(conflict(/already that of planner/));
    }
  });

  test('further keys of a known record key are filled in, but not replaced, and a revocation stays', () => {
    const [record] = planner.keys;
    if (record === undefined) throw new Error('no key');
    const nkey = printNkey(generateKey().publicKey);
    const fuller = withAgent(before, entry('planner', { ...record, nkey }));
    expect(fuller.find(record.record)?.key.nkey).toBe(nkey);
    expect(withAgent(fuller, planner)).toBe(fuller);
    const others = entry('planner', { ...record, nkey: printNkey(generateKey().publicKey) });
    expect(() => withAgent(fuller, others, { rotate: true })).toThrow(conflict(/another "nkey"/));

    const revoked = { leaf: 'ab'.repeat(32) };
    const revoking = parseKeyring(
      JSON.stringify({ version: 1, agents: [{ name: 'planner', keys: [{ ...record, revoked }] }] }),
      'x',
    );
    expect(withAgent(revoking, planner)).toBe(revoking);
  });

  test('rights to publish are kept unless the entry names some, which are then all', () => {
    const limited = withAgent(emptyKeyring, { ...planner, publish: ['a.>'] });
    expect(withAgent(limited, entry('planner', newKey()), { rotate: true }).file.agents[0]?.publish).toEqual([
      'a.>',
    ]);
    expect(withAgent(limited, planner)).toBe(limited);
    for (const keyring of [before, limited]) {
      const changed = withAgent(keyring, { ...planner, publish: ['b.>', 'c.d'] });
      expect(changed.named('planner')?.publish).toEqual(['b.>', 'c.d']);
      expect(withAgent(changed, { ...planner, publish: ['b.>', 'c.d'] })).toBe(changed);
    }
  });

  test('what no keyring could hold is refused', () => {
    expect(() => withAgent(before, entry('a.b'))).toThrow(
      expect.objectContaining({ code: 'KEYRING_INVALID' }),
    );
    const [record] = planner.keys;
    const shared = entry('sealer', { ...newKey(), ...(record && { checkpoint: record.record }) });
    expect(() => withAgent(before, shared)).toThrow(expect.objectContaining({ code: 'KEYRING_INVALID' }));
  });
});

describe('taking out', () => {
  test('an agent leaves the others and the rest of the file as they are', () => {
    const text = JSON.stringify({
      $schema: './s.json',
      version: 1,
      swarm: 's',
      agents: [entry('a'), entry('b')],
    });
    const after = withoutAgent(parseKeyring(text, 'x'), 'a');
    expect(after.agents.map(({ name }) => name)).toEqual(['b']);
    expect(printKeyring(after)).toMatch(
      /^\{\n {2}"\$schema": ".\/s.json",\n {2}"version": 1,\n {2}"swarm": "s",/,
    );
  });

  test('an agent that is not there is refused, with the names that are', () => {
    const keyring = withAgent(emptyKeyring, entry('planner'));
    expect(() => withoutAgent(keyring, 'planer')).toThrow(
      expect.objectContaining({ code: 'USAGE', message: expect.stringMatching(/"planer".*planner/) }),
    );
  });
});

describe('the file', () => {
  test('is made in a folder made for it, readable by all, and loads as it was saved', async () => {
    const deep = join(folder, 'config/swarm.keys.json');
    const keyring = withAgent(emptyKeyring, entry('planner'));
    await saveKeyring(deep, keyring);
    expect((await loadKeyring(deep)).keyring.file).toEqual(keyring.file);
    expect((await stat(deep)).mode & 0o777).toBe(0o644 & ~process.umask());
    expect(await readFile(deep, 'utf8')).toBe(printKeyring(keyring));
    expect(await readdir(join(folder, 'config'))).toEqual(['swarm.keys.json']);
  });

  test('loses no entry when many change it at once', async () => {
    const names = Array.from({ length: 20 }, (_, index) => `agent-${index}`);
    await Promise.all(names.map((name) => updateKeyring(path, (keyring) => withAgent(keyring, entry(name)))));
    const { keyring } = await loadKeyring(path);
    expect(keyring.agents.map(({ name }) => name).sort()).toEqual(names.sort());
  });

  test('loses no entry when several processes change it at once', async () => {
    await transpileInto(folder);
    await runMany(
      folder,
      `import { generateKey } from './identity/key.js';
       import { updateKeyring, withAgent } from './identity/keyring-edit.js';
       for (let n = 0; n < 10; n++) {
         const agent = { name: \`agent-\${process.argv[2]}-\${n}\`, keys: [{ record: generateKey().publicKey }] };
         await updateKeyring(${JSON.stringify(path)}, (keyring) => withAgent(keyring, agent));
       }`,
      4,
    );
    expect((await loadKeyring(path)).keyring.agents).toHaveLength(40);
  });

  test('is not written when nothing changes, nor when the change fails, and the lock is free after', async () => {
    await saveKeyring(path, withAgent(emptyKeyring, entry('planner')));
    const { ino } = await stat(path);
    await updateKeyring(path, (keyring) => keyring);
    const failure = new Error('no');
    await expect(
      updateKeyring(path, () => {
        throw failure;
      }),
    ).rejects.toBe(failure);
    expect((await stat(path)).ino).toBe(ino);
    await updateKeyring(path, (keyring) => withAgent(keyring, entry('listener')));
    expect((await loadKeyring(path)).keyring.agents).toHaveLength(2);
  });

  test('that is faulty is refused, and stays as it is', async () => {
    await writeFile(path, '{"version":1}');
    await expect(updateKeyring(path, () => emptyKeyring)).rejects.toMatchObject({ code: 'KEYRING_INVALID' });
    expect(await readFile(path, 'utf8')).toBe('{"version":1}');
  });

  test('behind a link is changed where it is', async () => {
    await writeFile(join(folder, 'real.json'), '{"version":1,"agents":[]}');
    await symlink('real.json', path);
    await updateKeyring(path, (keyring) => withAgent(keyring, entry('planner')));
    expect((await lstat(path)).isSymbolicLink()).toBe(true);
    expect((await loadKeyring(join(folder, 'real.json'))).keyring.agents).toHaveLength(1);
  });

  test('that cannot be written or locked is refused by its path', async () => {
    await writeFile(join(folder, 'file'), '');
    const impossible = join(folder, 'file/swarm.keys.json');
    const refusal = { code: 'KEYRING_FILE', message: expect.stringContaining(impossible) };
    await expect(saveKeyring(impossible, emptyKeyring)).rejects.toMatchObject(refusal);
    await expect(updateKeyring(impossible, (keyring) => keyring)).rejects.toMatchObject(refusal);
  });

  test('locked by another waits for it', async () => {
    const lock = await openLocked(`${path}.lock`, 'a+');
    let done = false;
    const update = updateKeyring(path, (keyring) => withAgent(keyring, entry('planner'))).then(() => {
      done = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(done).toBe(false);
    await lock.close();
    await update;
    expect(done).toBe(true);
  });
});

describe('the modes of the keyring and its lock', () => {
  const modeOf = async (file: string): Promise<number> => (await stat(file)).mode & 0o777;
  const add = (): Promise<unknown> => updateKeyring(path, (keyring) => withAgent(keyring, entry('planner')));

  test.each([0o600, 0o640, 0o664])('stay %o where the keyring has it, whatever the umask', async (mode) => {
    await saveKeyring(path, emptyKeyring);
    await chmod(path, mode);
    await add();
    expect(await modeOf(path)).toBe(mode);
    expect(await modeOf(`${path}.lock`)).toBe(mode);
  });

  test('follow the umask where they are new', async () => {
    await add();
    expect(await modeOf(path)).toBe(0o666 & ~process.umask());
    expect(await modeOf(`${path}.lock`)).toBe(0o666 & ~process.umask());
  });

  test('of a link that leads nowhere yet: it stays a link', async () => {
    await symlink('real.json', path);
    await add();
    expect((await lstat(path)).isSymbolicLink()).toBe(true);
    expect((await loadKeyring(join(folder, 'real.json'))).keyring.agents).toHaveLength(1);
  });
});
