import { appendFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { saveIdentity } from '../../src/identity/envfile.ts';
import { SigningKey } from '../../src/identity/key.ts';
import { openLog } from '../../src/log/writer.ts';
import { linesOf, said } from '../support/log.ts';
import { type Ended, newFolder, session, shell, swarm } from './swarm.ts';

const key = SigningKey.generate();

/** Writes logs/swarm.jsonl, four records in two flushes, into a new folder in which its writer's key is our own. */
async function folderWithLog(): Promise<{ folder: string; path: string }> {
  const folder = newFolder();
  const path = join(folder, 'logs/swarm.jsonl');
  await using log = await openLog(path, { key });
  await log.append(said('one'));
  await Promise.all(['two', 'three', 'four'].map((text) => log.append(said(text))));
  await saveIdentity(join(folder, '.env'), key);
  return { folder, path };
}

test.concurrent('a log that is in order is said to be, with whose keys counted and what that cannot show', async () => {
  const { folder } = await folderWithLog();
  await session(
    folder,
    `
    $ swarm verify
    CONSISTENT (unanchored): complete to record 0 of 4, for it is not sealed
    Verified 4 records, 0 bad
    ! Keys: only our own key: no swarm.keys.json is here
    ! Records cut off at the end of a session would not show, unless something later names them, or a checkpoint kept elsewhere.
    $ swarm verify --quiet logs/swarm.jsonl
    CONSISTENT (unanchored): complete to record 0 of 4, for it is not sealed
    Verified 4 records, 0 bad
    $ swarm keys new --force --name other > other.line && swarm verify
    logs/swarm.jsonl:1: unknown-key: key ${key.publicKey} is not in the keyring
    logs/swarm.jsonl:2: unknown-key: key ${key.publicKey} is not in the keyring
    logs/swarm.jsonl:3: unknown-key: key ${key.publicKey} is not in the keyring
    logs/swarm.jsonl:4: unknown-key: key ${key.publicKey} is not in the keyring
    INVALID: not as it was written; complete to record 0 of 4
    Verified 0 records, 4 bad
    ! Wrote <...>
    ! The file as it was <...>
    ! Added other to swarm.keys.json. It may publish on: thread.*.other, thread.*.other.>
    ! To hand to others, for their \`swarm keys add\`:
    ! Keys: swarm.keys.json (SHA-256 <hash>)
    [1]`,
  );
});

describe.concurrent('whose keys count', () => {
  test('is the keyring that is named, which must be there', async () => {
    const { folder } = await folderWithLog();
    await session(
      folder,
      `
      $ swarm keys show --name t > line && swarm keys add - --keyring mine.json --publish 'thread.t.*' < line
      ! Added t to mine.json. It may publish on: thread.t.*
      $ swarm verify --keyring mine.json
      CONSISTENT (unanchored): complete to record 0 of 4, for it is not sealed
      Verified 4 records, 0 bad
      ! Keys: mine.json (SHA-256 <hash>)
      ! Records cut off <...>
      $ SWARM_KEYRING=mine.json swarm verify -q
      CONSISTENT (unanchored): complete to record 0 of 4, for it is not sealed
      Verified 4 records, 0 bad
      $ swarm verify --keyring none.json
      ! swarm: no keyring at none.json; \`swarm keys new\` makes one
      [3]
      $ swarm keys add - --keyring mine.json --publish 'thread.other.*' < line
      ! Changed what t may do in mine.json. It may publish on: thread.other.*
      ! No longer: thread.t.*
      $ swarm verify -q --keyring mine.json | tail -n 3
      logs/swarm.jsonl:4: not-permitted: the keyring does not let t publish on thread.t.planner
      INVALID: not as it was written; complete to record 0 of 4
      Verified 0 records, 4 bad`,
    );
  });

  test('is nobody where there is neither keyring nor key, unless those of the log are taken', async () => {
    const { folder } = await folderWithLog();
    await session(
      folder,
      `
      $ rm .env && swarm verify
      ! swarm: whose signatures count? There is no swarm.keys.json, and no key of our own in .env; name a keyring with --keyring, or have --trust-on-first-use take the keys from the log itself
      [3]
      $ swarm verify --trust-on-first-use
      CONSISTENT (unanchored): complete to record 0 of 4, for it is not sealed
      Verified 4 records, 0 bad
      ! Keys: taken from the log itself. Who they belong to, nobody has said:
      ! ${key.publicKey}  4 verified
      ! Records cut off <...>
      $ swarm verify --trust-on-first-use --keyring k.json
      ! swarm: either --keyring or --trust-on-first-use: the keys come from one place
      [2]`,
    );
  });
});

describe.concurrent('a log that cannot be looked at', () => {
  test.each([
    [
      'that is not there',
      'verify',
      /^swarm: there is no log at logs\/swarm\.jsonl; name one .*\(LOG, or SWARM_LOG\), or write one/,
    ],
    [
      'in a folder that is not there',
      'verify absent/log.jsonl',
      /^swarm: there is no log at absent\/log\.jsonl/,
    ],
    [
      'that is a folder',
      'verify folder.jsonl',
      /^swarm: cannot read the log folder\.jsonl: it is not a file/,
    ],
  ])('%s is no verdict', async (_, line, says) => {
    const folder = newFolder();
    mkdirSync(join(folder, 'folder.jsonl'));
    await saveIdentity(join(folder, '.env'), key);
    expect(await shell(folder, `swarm ${line}`)).toEqual({
      code: 3,
      stdout: '',
      stderr: expect.stringMatching(says),
    });
  });
});

test.concurrent('a byte changed anywhere is found, the line named, and the exit code 1', async () => {
  const { folder, path } = await folderWithLog();
  const original = readFileSync(path);
  const runs: { at: number; line: number; name: string }[] = [];
  for (let run = 0; run < 20; run += 1) {
    const at = Math.floor(Math.random() * original.length);
    const bytes = Buffer.from(original);
    bytes[at] = (bytes[at] ?? 0) ^ (1 + Math.floor(Math.random() * 255));
    const isLf = bytes[at] === 0x0a;
    const line = original.subarray(0, at).filter((byte) => byte === 0x0a).length + 1;
    if (isLf && (at === 0 || original[at - 1] === 0x0a)) continue; // a blank line, and the next one's first byte is lost
    runs.push({ at, line, name: `edited-${run}.jsonl` });
    writeFileSync(join(folder, `edited-${run}.jsonl`), bytes);
  }
  const answers: Ended[] = [];
  for (let start = 0; start < runs.length; start += 4) {
    const some = runs.slice(start, start + 4);
    answers.push(...(await Promise.all(some.map(({ name }) => swarm(folder, ['verify', name])))));
  }
  for (const [index, { at, line, name }] of runs.entries()) {
    const { code, stdout } = answers[index] ?? { code: null, stdout: '' };
    expect({ at, code, first: stdout.split('\n')[0] }).toEqual({
      at,
      code: 1,
      first: expect.stringMatching(new RegExp(`^${name}:${line}: [a-z-]+: .`)),
    });
    expect(stdout).toMatch(/\nVerified \d+ records, [1-9]\d* bad\n$/);
  }
});

test.concurrent('what is not bad but should be known is counted, with a word on what it means', async () => {
  const { folder, path } = await folderWithLog();
  const lines = linesOf(path);
  const withheld = (lines[0] ?? '').replace(/,"payload":.*\}$/, '}');
  writeFileSync(path, `${[withheld, ...lines.slice(1, 3)].join('\n')}\n{"torn":`);
  const log = await openLog(path, { key });
  await log.append({ ...said('five'), cause: 'c'.repeat(64) as never });
  await log.close();
  await session(
    folder,
    `
    $ swarm verify -q
    1 withheld: the payload is not in the log, the signed hash of it is
    1 unresolved: the record names a cause that this log does not hold
    1 recovered: a line that a killed writer left torn, as a later record says
    1 flush-cut: a session stops in the middle of a flush: a crash, or a cut
    CONSISTENT (unanchored): complete to record 0 of 6, for it is not sealed
    Verified 5 records, 0 bad
    $ swarm verify -q --require-payloads
    logs/swarm.jsonl:1: payload-withheld: the payload is not in the log
    1 withheld: the payload is not in the log, the signed hash of it is
    1 unresolved: the record names a cause that this log does not hold
    1 recovered: a line that a killed writer left torn, as a later record says
    1 flush-cut: a session stops in the middle of a flush: a crash, or a cut
    INVALID: not as it was written; complete to record 0 of 6
    Verified 4 records, 1 bad
    [1]`,
  );
  appendFileSync(path, '{"torn":');
  const { code, stdout } = await shell(folder, 'swarm verify -q');
  expect({ code, first: stdout.split('\n')[0] }).toEqual({
    code: 1,
    first: expect.stringMatching(/^logs\/swarm\.jsonl:7: unterminated: /),
  });
});

test.concurrent('with --json the report is one object on one line, and nothing else is on stdout', async () => {
  const { folder, path } = await folderWithLog();
  const lines = linesOf(path);
  writeFileSync(path, `${lines.toSpliced(1, 1).join('\n')}\n`);
  const { code, stdout } = await swarm(folder, ['verify', '--json']);
  expect(code).toBe(1);
  expect(stdout.indexOf('\n')).toBe(stdout.length - 1);
  expect(JSON.parse(stdout)).toEqual({
    log: 'logs/swarm.jsonl',
    verdict: 'INVALID',
    completeTo: 0,
    records: 3,
    verified: 2,
    bad: 1,
    findings: [
      {
        code: 'chain-broken',
        file: 'logs/swarm.jsonl',
        line: 2,
        offset: (lines[0]?.length ?? 0) + 1,
        detail: expect.stringContaining('1 missing between'),
      },
    ],
    findingCounts: { 'chain-broken': 1 },
    counted: { withheld: 0, unresolved: 0, recovered: 0, continues: 0, version1: 0, flushCut: 0 },
    quick: false,
    anchors: { matched: 0, ignored: 0, otherLogs: 0, absent: [] },
    withheld: [],
    notRevokedHere: [],
    forks: [],
    resumed: null,
    keyring: { source: 'only our own key: no swarm.keys.json is here', sha256: null },
    trees: [{ file: 'logs/swarm.jsonl', size: 3, root: expect.stringMatching(/^[0-9a-f]{64}$/), sealed: 0 }],
    signers: [{ key: key.publicKey, agent: 'self', verified: 2 }],
  });
  const first = await swarm(folder, ['verify', '--json', '--trust-on-first-use']);
  expect(JSON.parse(first.stdout)).toMatchObject({
    keyring: null,
    signers: [{ key: key.publicKey, agent: null }],
  });
});

test.concurrent('a long log shows a bar to whoever watches', async ({ skip }) => {
  const { folder, path } = await folderWithLog();
  if ((await shell(folder, 'script --version')).code !== 0) skip('there is no script(1) here');
  await using log = await openLog(path, { key });
  const payload = Buffer.from(JSON.stringify('x'.repeat(3 << 20)));
  for (let n = 0; n < 12; n += 1) await log.append({ ...said(''), payload });
  const watched = await shell(folder, 'script -qec "swarm verify" /dev/null < /dev/null');
  expect(watched.stdout).toMatch(/\d+% {2}\d+ of 36 MiB/);
  expect(watched.stdout).toMatch(/Verified 16 records, 0 bad/);
  const unwatched = await shell(folder, 'swarm verify 2>&1');
  expect(unwatched.stdout).not.toContain('MiB');
});
