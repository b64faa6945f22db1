import { chmod, lstat, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { encodeBase64 } from '../../src/base/encoding.ts';
import { SwarmError } from '../../src/base/errors.ts';
import {
  envFileWarnings,
  identityFrom,
  loadIdentity,
  readEnvFile,
  saveIdentity,
} from '../../src/identity/envfile.ts';
import { generateKey, type SigningKey } from '../../src/identity/key.ts';
import { runMany, transpileInto } from './processes.ts';

let folder = '';
let path = '';
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'swarm-envfile-'));
  path = join(folder, '.env');
});
afterEach(async () => {
  await rm(folder, { recursive: true });
});

const key = generateKey();
const other = generateKey();
const secretOf = (of: SigningKey): string => encodeBase64(of.exportSeed());
const pairOf = (of: SigningKey): string =>
  `SWARM_SIGNING_SK_B64=${secretOf(of)}\nSWARM_VERIFY_PK_B64=${of.publicKey}\n`;

async function failureOf(work: Promise<unknown>): Promise<SwarmError> {
  const failure = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(failure).toBeInstanceOf(SwarmError);
  return failure as SwarmError;
}

async function modeOf(file: string): Promise<number> {
  return (await stat(file)).mode & 0o777;
}

describe('a pair that is saved', () => {
  test('is loaded again, from a file that only its owner may read, in a folder made for it', async () => {
    const deep = join(folder, 'agents/planner/.env');
    expect(await saveIdentity(deep, key)).toBeUndefined();
    const loaded = await loadIdentity(deep);
    expect(loaded.key.exportSeed()).toEqual(key.exportSeed());
    expect(loaded.warnings).toEqual([]);
    expect(await modeOf(deep)).toBe(0o600);
    expect(await readFile(deep, 'utf8')).toBe(pairOf(key));
    expect(await readdir(join(folder, 'agents/planner'))).toEqual(['.env']);
  });

  test('is not overwritten, and the refusal says how to insist', async () => {
    await saveIdentity(path, key);
    const failure = await failureOf(saveIdentity(path, other));
    expect(failure.code).toBe('KEY_EXISTS');
    expect(failure.message).toContain(path);
    expect(failure.message).toContain('--force');
    expect(await readFile(path, 'utf8')).toBe(pairOf(key));
  });

  test.each([
    ['only the secret', `SWARM_SIGNING_SK_B64=${secretOf(key)}\n`],
    ['only the public key', `SWARM_VERIFY_PK_B64=${key.publicKey}\n`],
    ['a malformed secret', 'SWARM_SIGNING_SK_B64=oops\n'],
  ])('is not written over %s either', async (_, text) => {
    await writeFile(path, text);
    expect((await failureOf(saveIdentity(path, other))).code).toBe('KEY_EXISTS');
    expect(await readFile(path, 'utf8')).toBe(text);
  });

  test('is replaced by force, and the file as it was stays beside it, as closed as the new one', async () => {
    const before = `# mine\nNATS_URL=nats://a:4222\n${pairOf(key)}SWARM_NAME=staging`;
    await writeFile(path, before, { mode: 0o644 });
    const now = (): Date => new Date('2026-11-22T22:50:00.123Z');
    const kept = await saveIdentity(path, other, { force: true, now });
    expect(kept).toBe(`${path}.2026-11-22T22-50-00Z.bak`);
    expect(await readFile(kept ?? '', 'utf8')).toBe(before);
    expect(await modeOf(kept ?? '')).toBe(0o600);
    expect(await modeOf(path)).toBe(0o600);
    expect(await readFile(path, 'utf8')).toBe(
      `# mine\nNATS_URL=nats://a:4222\n${pairOf(other)}SWARM_NAME=staging\n`,
    );

    const again = await saveIdentity(path, key, { force: true, now });
    expect(again).toBe(`${path}.2026-11-22T22-50-00Z-2.bak`);
    expect(await readFile(kept ?? '', 'utf8')).toBe(before);
  });

  test('joins a file of other variables, whose lines stay as they are', async () => {
    const others = `# swarm of one\r\nexport A="two words"\n\nB=1 # why\nC='x\ny'\nSWARM_NAME=staging`;
    await writeFile(path, others);
    expect(await saveIdentity(path, key, { force: true })).toBeUndefined();
    expect(await readFile(path, 'utf8')).toBe(`${others}\n${pairOf(key)}`);
    expect(await readEnvFile(path)).toMatchObject({
      A: 'two words',
      B: '1',
      C: 'x\ny',
      SWARM_NAME: 'staging',
    });
    expect((await loadIdentity(path)).key.publicKey).toBe(key.publicKey);
    expect(await modeOf(path)).toBe(0o600);
  });

  test('fills in a template’s empty lines where they are', async () => {
    await writeFile(path, 'A=1\nexport SWARM_SIGNING_SK_B64=\nSWARM_VERIFY_PK_B64=""\nB=2\n');
    await saveIdentity(path, key);
    expect(await readFile(path, 'utf8')).toBe(`A=1\nexport ${pairOf(key)}B=2\n`);
  });

  test('leaves one line of each where a file had several', async () => {
    await writeFile(path, `${pairOf(other)}A=1\n${pairOf(other)}`);
    await saveIdentity(path, key, { force: true });
    expect(await readFile(path, 'utf8')).toBe(`${pairOf(key)}A=1\n`);
  });

  test('does not go into a file that it would change the meaning of', async () => {
    const text = `NOTE="first\nSWARM_SIGNING_SK_B64=example\nlast"\n`;
    await writeFile(path, text);
    const failure = await failureOf(saveIdentity(path, key));
    expect(failure.code).toBe('ENV_FILE');
    expect(failure.message).toContain('NOTE');
    expect(await readFile(path, 'utf8')).toBe(text);
  });

  test('follows a link to the file it stands for', async () => {
    await writeFile(join(folder, 'real.env'), 'A=1\n');
    await symlink('real.env', path);
    await saveIdentity(path, key);
    expect((await lstat(path)).isSymbolicLink()).toBe(true);
    expect(await readFile(join(folder, 'real.env'), 'utf8')).toBe(`A=1\n${pairOf(key)}`);
  });

  test.each<[string, () => Promise<void>]>([
    ['where there is no file', async () => undefined],
    ['where there is a file of other variables', () => writeFile(path, 'A=1\n')],
  ])('is the only one that many at once save %s', async (_, prepare) => {
    await prepare();
    const keys = Array.from({ length: 12 }, () => generateKey());
    const outcomes = await Promise.allSettled(keys.map((one) => saveIdentity(path, one)));
    const winners = keys.filter((_, index) => outcomes[index]?.status === 'fulfilled');
    expect(winners.map(({ publicKey }) => publicKey)).toEqual([(await loadIdentity(path)).key.publicKey]);
    const refusals = outcomes.flatMap((outcome) =>
      outcome.status === 'rejected' ? [outcome.reason.code] : [],
    );
    expect(refusals).toEqual(Array.from({ length: 11 }, () => 'KEY_EXISTS'));
    expect(await readdir(folder)).toEqual(['.env']);
  });

  test('by force from many at once loses no key: each is in the file or in a kept one', async () => {
    await saveIdentity(path, key);
    const keys = Array.from({ length: 8 }, () => generateKey());
    await Promise.all(keys.map((one) => saveIdentity(path, one, { force: true })));
    const texts = await Promise.all(
      (await readdir(folder)).map((name) => readFile(join(folder, name), 'utf8')),
    );
    expect(texts.sort()).toEqual([key, ...keys].map(pairOf).sort());
  });

  test('is one of several processes’, of which the others are refused', async () => {
    await transpileInto(folder);
    const printed = await runMany(
      folder,
      `import { saveIdentity } from './identity/envfile.js';
       import { generateKey } from './identity/key.js';
       const key = generateKey();
       console.log(await saveIdentity(${JSON.stringify(path)}, key).then(() => key.publicKey, ({ code }) => code));`,
      5,
    );
    const saved = (await loadIdentity(path)).key.publicKey;
    expect(printed.sort()).toEqual([saved, ...Array.from({ length: 4 }, () => 'KEY_EXISTS')].sort());
  });

  test('that cannot be written is refused by the name of the file', async () => {
    await writeFile(join(folder, 'file'), '');
    for (const impossible of [folder, join(folder, 'file/.env')]) {
      const failure = await failureOf(saveIdentity(impossible, key));
      expect(failure.code).toBe('ENV_FILE');
      expect(failure.message).toContain(impossible);
    }
  });
});

describe('loading', () => {
  const unpadded = secretOf(key).slice(0, -1);
  const short = encodeBase64(key.exportSeed().subarray(0, 31));
  const pkcs = encodeBase64(Buffer.concat([key.exportSeed(), Buffer.alloc(32)]));
  const refusals: Record<string, [text: string, code: string, names: RegExp]> = {
    'without the secret': [
      `SWARM_VERIFY_PK_B64=${key.publicKey}\n`,
      'KEY_MISSING',
      /SWARM_SIGNING_SK_B64.*swarm keys new --env/,
    ],
    'with an empty secret': ['SWARM_SIGNING_SK_B64=\n', 'KEY_MISSING', /SWARM_SIGNING_SK_B64/],
    'without the public key': [
      `SWARM_SIGNING_SK_B64=${secretOf(key)}\n`,
      'KEY_MISSING',
      /SWARM_VERIFY_PK_B64.*should be/,
    ],
    'with a secret of 31 bytes': [
      `SWARM_SIGNING_SK_B64=${short}\n`,
      'KEY_MALFORMED',
      /SWARM_SIGNING_SK_B64.*31 bytes/,
    ],
    'with a secret of 64 bytes': [
      `SWARM_SIGNING_SK_B64=${pkcs}\n`,
      'KEY_MALFORMED',
      /SWARM_SIGNING_SK_B64.*64 bytes/,
    ],
    'with a secret without padding': [
      `SWARM_SIGNING_SK_B64=${unpadded}\n`,
      'KEY_MALFORMED',
      /SWARM_SIGNING_SK_B64.*canonical/,
    ],
    'with a secret in hex': [
      `SWARM_SIGNING_SK_B64=${key.exportSeed().toString('hex')}\n`,
      'KEY_MALFORMED',
      /SWARM_SIGNING_SK_B64/,
    ],
    'with white space in the secret': [
      `SWARM_SIGNING_SK_B64="${secretOf(key)} "\n`,
      'KEY_MALFORMED',
      /white space/,
    ],
    'with a malformed public key': [
      `SWARM_SIGNING_SK_B64=${secretOf(key)}\nSWARM_VERIFY_PK_B64=x\n`,
      'KEY_MALFORMED',
      /SWARM_VERIFY_PK_B64.*should be/,
    ],
    'with another’s public key': [
      `SWARM_SIGNING_SK_B64=${secretOf(key)}\nSWARM_VERIFY_PK_B64=${other.publicKey}\n`,
      'KEY_MISMATCH',
      /SWARM_VERIFY_PK_B64.*should be/,
    ],
    'with the secret as the public key': [
      `SWARM_SIGNING_SK_B64=${secretOf(key)}\nSWARM_VERIFY_PK_B64=${secretOf(key)}\n`,
      'KEY_MISMATCH',
      /SWARM_VERIFY_PK_B64/,
    ],
  };

  test.each(Object.entries(refusals))(
    'a file %s is refused, by name and without its secret',
    async (_, [text, code, names]) => {
      await writeFile(path, text, { mode: 0o600 });
      const failure = await failureOf(loadIdentity(path));
      expect(failure.code).toBe(code);
      expect(failure.message).toContain(path);
      expect(failure.message).toMatch(names);
      if (failure.message.includes('should be')) expect(failure.message).toContain(key.publicKey);
      const shown = `${failure.message} ${inspect(failure, { depth: null })}`;
      expect(shown).not.toContain(secretOf(key).slice(0, 12));
      expect(shown).not.toContain(key.exportSeed().toString('hex').slice(0, 16));
    },
  );

  test('a file that is not there is refused with the command that makes it', async () => {
    const failure = await failureOf(loadIdentity(path));
    expect(failure.code).toBe('KEY_MISSING');
    expect(failure.message).toContain(`\`swarm keys new --env ${path}\``);
    expect(await readEnvFile(path)).toBeUndefined();
  });

  test('a file that cannot be read is refused by its name', async () => {
    const failure = await failureOf(loadIdentity(folder));
    expect(failure.code).toBe('ENV_FILE');
    expect(failure.message).toContain(folder);
    await writeFile(path, Buffer.of(0x41, 0x3d, 0xff));
    expect((await failureOf(readEnvFile(path))).code).toBe('ENV_FILE');
  });

  test.each(['640', '604', '644', '620', '602'])(
    'a file of mode %s is warned of, with the command to close it',
    async (mode) => {
      await saveIdentity(path, key);
      await chmod(path, Number.parseInt(mode, 8));
      const { key: loaded, warnings } = await loadIdentity(path);
      expect(loaded.publicKey).toBe(key.publicKey);
      expect(warnings).toEqual([expect.stringContaining(`chmod 600 ${path}`)]);
    },
  );

  test('the command to close a file holds for a name with spaces and quotes', async () => {
    const odd = join(folder, "it's odd.env");
    await saveIdentity(odd, key);
    await chmod(odd, 0o644);
    expect((await envFileWarnings(odd))[0]).toMatch(/chmod 600 '.*it'\\''s odd\.env'$/);
  });

  test('nothing of the file gets into the environment of the process', async () => {
    await writeFile(path, `${pairOf(key)}SWARM_TEST_LEAK=1\n`);
    await loadIdentity(path);
    expect(process.env.SWARM_TEST_LEAK).toBeUndefined();
    expect(process.env.SWARM_SIGNING_SK_B64).toBeUndefined();
  });

  test('a pair from the environment is used, and its faults name the environment', () => {
    const values = { SWARM_SIGNING_SK_B64: secretOf(key), SWARM_VERIFY_PK_B64: key.publicKey };
    expect(identityFrom(values, 'the environment').publicKey).toBe(key.publicKey);
    expect(() => identityFrom({}, 'the environment')).toThrow('no SWARM_SIGNING_SK_B64 in the environment');
  });
});

describe('a link that leads nowhere yet', () => {
  test('stays a link, and the pair is written where it leads, its folder made', async () => {
    await symlink('deep/real.env', path);
    await saveIdentity(path, key);
    expect((await lstat(path)).isSymbolicLink()).toBe(true);
    expect((await loadIdentity(join(folder, 'deep', 'real.env'))).key.publicKey).toBe(key.publicKey);
    expect(await readdir(join(folder, 'deep'))).toEqual(['real.env']);
  });

  test('by way of another link is followed to the end', async () => {
    await symlink('second', path);
    await symlink(join(folder, 'real.env'), join(folder, 'second'));
    await saveIdentity(path, key);
    expect((await loadIdentity(join(folder, 'real.env'))).key.publicKey).toBe(key.publicKey);
  });

  test('but round in a circle is refused, and no secret is left behind', async () => {
    await symlink('second', path);
    await symlink('.env', join(folder, 'second'));
    expect(await failureOf(saveIdentity(path, key))).toMatchObject({ code: 'ENV_FILE' });
    expect((await readdir(folder)).toSorted()).toEqual(['.env', 'second']);
  });
});
