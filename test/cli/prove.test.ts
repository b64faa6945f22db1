import { appendFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { checkpointKeyOf } from '../../src/agent/self.ts';
import type { SigningKey } from '../../src/identity/key.ts';
import { sealLog } from '../../src/log/sealer.ts';
import { openLog } from '../../src/log/writer.ts';
import { leafOfLine } from '../../src/record/entry.ts';
import { linesOf, said } from '../support/log.ts';
import { newFolder, saveAgent, session, shell } from './swarm.ts';

/** Writes logs/swarm.jsonl, three records of planner's, into a new folder with its key and a keyring. */
async function folderWithLog(): Promise<{ folder: string; path: string; key: SigningKey; leaves: string[] }> {
  const folder = newFolder();
  const path = join(folder, 'logs/swarm.jsonl');
  const key = await saveAgent(folder, 'planner');
  const log = await openLog(path, { key });
  const one = await log.append(said('one'));
  await log.append({ ...said('two'), cause: one.leaf });
  await log.append(said('three'));
  await log.close();
  return { folder, path, key, leaves: linesOf(path).map((line) => leafOfLine(Buffer.from(line))) };
}

async function seal(folder: string, key: SigningKey): Promise<void> {
  await sealLog(join(folder, 'logs/swarm.jsonl'), {
    key: checkpointKeyOf(key),
    state: join(folder, '.swarm/sealed'),
  });
}

describe.concurrent('seal', () => {
  test('says what it sealed, once, and then that nothing is new', async () => {
    const { folder } = await folderWithLog();
    await session(
      folder,
      `
      $ swarm seal
      logs/swarm.jsonl  size 3  root <hash>
      $ swarm verify -q
      CONSISTENT (unanchored): complete to record 3 of 3, by the checkpoint beside it
      Verified 3 records, 0 bad
      $ swarm seal
      ! Nothing is new: all whole lines of logs/swarm.jsonl are sealed.
      $ swarm seal --entries --json -q
      {"log":"logs/swarm.jsonl","sealed":[],"bundles":1}
      $ ls logs/swarm.tlog/tile/entries/000.p
      3
      $ swarm seal --entires
      ! swarm: unknown option '--entires' (Did you mean --entries?)
      ! \`swarm seal --help\` shows how it is used.
      [2]`,
    );
  });

  test('is refused for a log that lost what was sealed, and without a key', async () => {
    const { folder, path } = await folderWithLog();
    await session(
      folder,
      `
      $ swarm seal --state remembered > sealed; ls remembered | wc -l
      1`,
    );
    writeFileSync(path, `${linesOf(path).slice(0, 2).join('\n')}\n`);
    await session(
      folder,
      `
      $ swarm seal --state remembered
      ! swarm: logs/swarm.jsonl will not be sealed: <...>
      [3]
      $ swarm verify -q
      logs/swarm.tlog/checkpoint: truncated: it is of 3 records, and only 2 are here
      TRUNCATED: its end was cut off; complete to record 0 of 2
      Verified 2 records, 0 bad
      [1]`,
    );
    rmSync(join(folder, '.env'));
    expect(await shell(folder, 'swarm seal')).toMatchObject({ code: 3, stdout: '' });
  });

  test('warns where the keyring does not have our checkpoint key', async () => {
    const { folder } = await folderWithLog();
    await saveAgent(folder, 'stranger', 'stranger.env');
    await session(
      folder,
      `
      $ swarm keys remove stranger -q
      $ swarm seal --env stranger.env
      logs/swarm.jsonl  size 3  root <hash>
      ! swarm: warning: swarm.keys.json does not have our checkpoint key <key>: who verifies against it takes our checkpoints for nobody's`,
    );
  });
});

describe.concurrent('a record that is proved', () => {
  test('is checked with the keyring alone, whichever way it was named', async () => {
    const { folder, key, leaves } = await folderWithLog();
    await seal(folder, key);
    await session(
      folder,
      `
      $ swarm prove logs/swarm.jsonl:2
      ${leaves[1]?.slice(0, 16)}.tlog-proof
      ! It proves record 2 of 3 of log swarm/${leaves[0]?.slice(0, 32)}, logs/swarm.jsonl:2.
      ! To check it with the keyring and nothing else:  swarm check-proof ${leaves[1]?.slice(0, 16)}.tlog-proof
      $ swarm prove -q ${leaves[0]} logs/swarm.jsonl --out one.proof --withhold-payload --json
      {"proof":"one.proof","leaf":"${leaves[0]}","file":"logs/swarm.jsonl","line":1,"index":0,"size":3,"origin":"swarm/${leaves[0]?.slice(0, 32)}","withheld":true}
      $ mkdir away && mv *proof swarm.keys.json away && rm -r logs .env
      $ cd away && swarm check-proof -q ${leaves[1]?.slice(0, 16)}.tlog-proof
      PROVED: record 2 of the 3 of log swarm/${leaves[0]?.slice(0, 32)}
      signed by  planner (key ${key.publicKey})
      what       BUS.PUBLISH on thread.t.planner
      when       <time>, as its writer says
      leaf       ${leaves[1]}
      payload    {"text":"two"}
      $ cd away && swarm check-proof - < one.proof | tail -n 1
      payload withheld: SHA-256 <hash>
      ! Keys: swarm.keys.json (SHA-256 <hash>)
      $ cd away && swarm check-proof --json -q one.proof | grep -o '"proved":true'
      "proved":true
      $ cd away && swarm check-proof one.proof --keyring none.json
      ! swarm: no keyring at none.json; \`swarm keys new\` makes one
      [3]
      $ swarm check-proof none.proof --keyring away/swarm.keys.json
      ! swarm: cannot read none.proof: ENOENT<...>
      [3]`,
    );
  });

  test('is not, where its proof or the keyring is another one', async () => {
    const { folder, key } = await folderWithLog();
    await seal(folder, key);
    await saveAgent(folder, 'other', 'other.env');
    await session(
      folder,
      `
      $ swarm prove -q logs/swarm.jsonl:1 --out one.proof
      one.proof
      $ sed 's/^index 0/index 1/' one.proof > moved.proof && swarm check-proof -q moved.proof
      moved.proof: proof-mismatch: the record is not number 1 of the 3 that the checkpoint is of
      [1]
      $ swarm keys remove -q planner && swarm check-proof -q one.proof
      one.proof: checkpoint-unknown-key: <...>
      [1]
      $ echo nonsense > bad.proof && swarm check-proof -q bad.proof --json
      {"file":"bad.proof","proved":false,"faults":[{"code":"proof-malformed","detail":"<...>"}],"origin":null,<...>,"record":null}
      [1]`,
    );
  });

  test.each([
    ['prove nonsense', 2, /^swarm: no record is named by "nonsense": give its leaf/],
    ['prove logs/swarm.jsonl:9', 3, /^swarm: logs\/swarm\.jsonl has no record on line 9/],
    [`prove ${'a'.repeat(64)}`, 3, /^swarm: no record of logs\/swarm\.jsonl has the leaf aaaa/],
    ['prove 7', 3, /^swarm: no record of logs\/swarm\.jsonl is of message 7 of the stream/],
    [
      'prove logs/swarm.jsonl:1 other.jsonl',
      2,
      /^swarm: logs\/swarm\.jsonl is no file of the log other\.jsonl/,
    ],
    [
      'prove logs/swarm.jsonl:1',
      3,
      /^swarm: logs\/swarm\.jsonl:1 is not sealed yet: .*`swarm seal` seals the log/,
    ],
    ['prove logs/swarm.jsonl:1 --out - --json', 2, /^swarm: either --out - or --json/],
  ])('is what `%s` is not', async (line, code, says) => {
    const { folder, path } = await folderWithLog();
    appendFileSync(join(folder, 'other.jsonl'), readFileSync(path));
    expect(await shell(folder, `swarm ${line}`)).toEqual({
      code,
      stdout: '',
      stderr: expect.stringMatching(says),
    });
  });
});

describe.concurrent('verify --explain', () => {
  test('walks through a record that holds', async () => {
    const { folder, key, leaves } = await folderWithLog();
    await seal(folder, key);
    const origin = `swarm/${leaves[0]?.slice(0, 32)}`;
    await session(
      folder,
      `
      $ swarm verify -q --explain ${leaves[1]} | grep -v '^ '
      ok     header    The header H is <n> bytes: a BUS.PUBLISH, written at <time> by its writer's clock.
      ok     leaf      SHA-256(0x00 ‖ entry) is ${leaves[1]}; the entry is H.
      ok     flush     It was alone in its flush: what is signed is its leaf.
      ok     signature The signature over that is one of the key ${key.publicKey}.
      ok     payload   Its 14 bytes have the SHA-256 that was signed.
      ok     key       By the keyring the key is that of planner, who may publish on thread.*.planner, thread.*.planner.>.
      ok     chain     It is number 1 of session <...>, and names the leaf of number 0, at logs/swarm.jsonl:1.
      ok     cause     Its cause ${leaves[0]} is logs/swarm.jsonl:1.
      ok     place     It is leaf 1 of the tree of logs/swarm.jsonl; a path of 2 leads from it to the root of the checkpoint of 3 records of ${origin}, signed by planner.
      logs/swarm.jsonl:2 holds
      $ swarm verify -q --explain logs/swarm.jsonl:1 | grep -o 'prev .*'
      prev          0000000000000000000000000000000000000000000000000000000000000000
      $ swarm verify --explain logs/swarm.jsonl:1 --quick
      ! swarm: --explain is about one record and takes no --quick
      [2]`,
    );
  });

  test('names the steps of one that does not', async () => {
    const { folder, path } = await folderWithLog();
    const lines = linesOf(path);
    writeFileSync(path, `${[lines[0], lines[2]?.replace('three', 'thr33')].join('\n')}\n{"torn":\n`);
    await session(
      folder,
      `
      $ swarm verify -q --explain logs/swarm.jsonl:2 | grep -v -e '^ok' -e '^ '
      NOT OK payload   The SHA-256 of its 16 bytes is <hash>, not the <hash> that was signed.
      NOT OK chain     It is number 2 of session <...>, and follows number 0 at logs/swarm.jsonl:1.
      logs/swarm.jsonl:2 does not hold: payload, chain
      $ swarm verify -q --explain logs/swarm.jsonl:3
      NOT OK line      It is not a record: <...>
      ok     leaf      <...>
      ok     place     It is leaf 2 of the tree of logs/swarm.jsonl, which is not sealed as far.
      logs/swarm.jsonl:3 does not hold: line
      [1]
      $ swarm verify -q --explain logs/swarm.jsonl:2 --json | grep -o '"ok":false,"steps"'
      "ok":false,"steps"`,
    );
  });
});
