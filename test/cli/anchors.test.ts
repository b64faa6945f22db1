import { copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { checkpointKeyOf } from '../../src/agent/self.ts';
import { ensureCheckpoints, sendCheckpoint } from '../../src/bus/checkpoints.ts';
import { connectBus } from '../../src/bus/connection.ts';
import type { SigningKey } from '../../src/identity/key.ts';
import { openLog } from '../../src/log/writer.ts';
import { signCheckpoint } from '../../src/merkle/checkpoint.ts';
import { checkpointBeside } from '../log/sealed.ts';
import { linesOf, said } from '../support/log.ts';
import { testServer } from '../support/nats.ts';
import { newFolder, saveAgent, session, shell } from './swarm.ts';

const checkpoint = 'logs/swarm.tlog/checkpoint';

/** Writes logs/swarm.jsonl, two sealed records of planner's, into a new folder with its key and a keyring. */
async function folderWithLog(): Promise<{ folder: string; path: string; key: SigningKey }> {
  const folder = newFolder();
  const path = join(folder, 'logs/swarm.jsonl');
  const key = await saveAgent(folder, 'planner');
  await write(folder, path, key, ['one', 'two']);
  copyFileSync(join(folder, checkpoint), join(folder, 'kept.checkpoint'));
  return { folder, path, key };
}

async function write(folder: string, path: string, key: SigningKey, texts: readonly string[]): Promise<void> {
  const log = await openLog(path, {
    key,
    seal: { key: checkpointKeyOf(key), state: join(folder, '.swarm/sealed') },
  });
  for (const text of texts) await log.append(said(text));
  await log.close();
}

/** Signs another history of as many records as the checkpoint beside the log at `path`. */
function otherHistory(path: string, key: SigningKey): string {
  return signCheckpoint({ ...checkpointBeside(path, key), root: Buffer.alloc(32, 7) }, checkpointKeyOf(key));
}

describe.concurrent('a checkpoint kept elsewhere', () => {
  test('anchors the log, and shows an end that was cut off with what was beside it', async () => {
    const { folder, path } = await folderWithLog();
    await session(
      folder,
      `
      $ swarm verify --checkpoint kept.checkpoint
      ANCHORED: complete to record 2 of 2, by 1 checkpoint kept elsewhere
      Verified 2 records, 0 bad
      ! Keys: swarm.keys.json (SHA-256 <hash>)
      ! Checkpoints kept elsewhere: of 1, 1 agrees with the log`,
    );
    writeFileSync(path, `${linesOf(path)[0]}\n`);
    await session(
      folder,
      `
      $ rm -r logs/swarm.tlog && swarm verify -q
      CONSISTENT (unanchored): complete to record 0 of 1, for it is not sealed
      Verified 1 records, 0 bad
      $ swarm verify -q --checkpoint kept.checkpoint
      kept.checkpoint: truncated: it is of 2 records, and only 1 are here
      TRUNCATED: its end was cut off; complete to record 0 of 1
      Verified 1 records, 0 bad
      [1]
      $ swarm verify -q --checkpoint none.checkpoint
      ! swarm: cannot read none.checkpoint: ENOENT<...>
      [3]`,
    );
  });

  test('of another history is kept as evidence, beside evidence that is there', async () => {
    const { folder, path, key } = await folderWithLog();
    writeFileSync(join(folder, 'other.checkpoint'), otherHistory(path, key));
    await session(
      folder,
      `
      $ swarm verify --checkpoint other.checkpoint
      other.checkpoint: forked: <...>
      FORKED: there are two histories; complete to record 0 of 2
      Verified 2 records, 0 bad
      ! Keys: swarm.keys.json (SHA-256 <hash>)
      ! Checkpoints kept elsewhere: of 1, 0 agree with the log
      ! Evidence of two histories: fork-evidence/2-theirs.checkpoint, which is other.checkpoint, against fork-evidence/2-ours.checkpoint
      [1]
      $ cmp other.checkpoint fork-evidence/2-theirs.checkpoint && cmp ${checkpoint} fork-evidence/2-ours.checkpoint
      $ swarm verify -q --checkpoint other.checkpoint > again; ls fork-evidence
      2-ours.checkpoint
      2-theirs.checkpoint`,
    );
    mkdirSync(join(folder, 'seen'));
    writeFileSync(join(folder, 'seen/2-theirs.checkpoint'), 'of before');
    await shell(folder, 'swarm verify --checkpoint other.checkpoint --evidence seen');
    expect(readdirSync(join(folder, 'seen')).sort()).toEqual([
      '2-2-ours.checkpoint',
      '2-2-theirs.checkpoint',
      '2-theirs.checkpoint',
    ]);
    expect(readFileSync(join(folder, 'seen/2-theirs.checkpoint'), 'utf8')).toBe('of before');
  });

  test('in the swarm’s stream counts if it is of somebody in the keyring', async () => {
    const { folder, path, key } = await folderWithLog();
    await using server = await testServer();
    const options = { env: { NATS_URL: server.url } };
    const bus = await connectBus({ url: server.url });
    await ensureCheckpoints(bus, 1);
    await sendCheckpoint(bus, 'planner', readFileSync(join(folder, checkpoint), 'utf8'));
    await sendCheckpoint(bus, 'stranger', otherHistory(path, key).replace(/^— .*$/m, '— x AAAAAAAAAAA='));
    const elsewhere = join(newFolder(), 'swarm.jsonl');
    await write(folder, elsewhere, key, ['another log']);
    await sendCheckpoint(
      bus,
      'planner',
      readFileSync(elsewhere.replace('.jsonl', '.tlog/checkpoint'), 'utf8'),
    );
    await session(
      folder,
      `
      $ swarm verify --anchor nats
      ANCHORED: complete to record 2 of 2, by 1 checkpoint kept elsewhere
      Verified 2 records, 0 bad
      ! Read 3 checkpoints at ${server.url}
      ! Keys: swarm.keys.json (SHA-256 <hash>)
      ! Checkpoints kept elsewhere: of 3, 1 agrees with the log; 1 ignored: of nobody in the keyring, or of a key that was revoked; 1 of other logs
      ! swarm: warning: no file is here of a log with this one's name that somebody sealed: on another machine, moved aside, or taken away? A checkpoint that is named with --checkpoint must be of this log
      ! swarm/<...>, of 1 record, says checkpoint.planner at ${server.url}`,
      options,
    );
    await sendCheckpoint(bus, 'planner', otherHistory(path, key));
    await bus.close();
    const forked = await shell(folder, `swarm verify -q --anchor nats --url ${server.url}`);
    expect(forked).toMatchObject({ code: 1, stdout: expect.stringContaining('\nFORKED: ') });
  });

  test('in a stream that cannot be read is no verdict', async () => {
    const { folder } = await folderWithLog();
    const { code, stdout, stderr } = await shell(
      folder,
      'swarm verify --anchor nats --url nats://127.0.0.1:1',
    );
    expect({ code, stdout, stderr }).toEqual({
      code: 3,
      stdout: '',
      stderr: expect.stringMatching(/^swarm: .*127\.0\.0\.1:1/),
    });
  });
});

test.concurrent('with a state, only what is new is read, and it is said why where all is', async () => {
  const { folder, path, key } = await folderWithLog();
  await session(
    folder,
    `
    $ swarm verify --state verified.json > first
    ! Keys: swarm.keys.json (SHA-256 <hash>)
    ! All was read: verified.json remembers nothing yet.
    ! Records cut off <...>`,
  );
  await write(folder, path, key, ['three']);
  await session(
    folder,
    `
    $ swarm verify --state verified.json
    CONSISTENT (unanchored): complete to record 3 of 3, by the checkpoint beside it
    Verified 3 records, 0 bad
    ! Keys: swarm.keys.json (SHA-256 <hash>)
    ! Resumed: 2 records were verified before, says verified.json; the rest was read.
    ! Records cut off <...>
    $ swarm verify --state verified.json --trust-on-first-use 2>&1 | grep 'All was read'
    All was read: the keyring or what is demanded is another one than before.
    $ swarm verify --state $(printf '%0250d' 0) -q
    CONSISTENT (unanchored): complete to record 3 of 3, by the checkpoint beside it
    Verified 3 records, 0 bad
    ! swarm: warning: nothing new is remembered, for 0<...> cannot be written: ENAMETOOLONG<...>
    $ swarm verify --state absent/verified.json
    ! swarm: the state cannot be written to absent/verified.json: ENOENT<...>
    [3]
    $ swarm verify --quick --jobs 1 -q
    CONSISTENT (unanchored): complete to record 3 of 3, by the checkpoint beside it
    Hashed 3 records, 0 bad (signatures not checked)`,
  );
});

describe.concurrent('options that do not go together', () => {
  test.each([
    ['--quick --state s.json', /^swarm: either --quick or --state: /],
    ['--url nats://x', /^swarm: --url is where --anchor nats looks/],
    ['--creds x', /^swarm: --creds are those of --anchor nats/],
    ['--anchor web', /^swarm: option '--anchor <where>' argument 'web' is invalid/],
    ['--jobs 0', /^swarm: option '--jobs <n>' argument '0' is invalid/],
    ['--explain 1 --checkpoint x', /^swarm: --explain is about one record and takes no --checkpoint/],
  ])('as in verify %s are wrong usage', async (options, says) => {
    expect(await shell(newFolder(), `swarm verify ${options}`)).toEqual({
      code: 2,
      stdout: '',
      stderr: expect.stringMatching(says),
    });
  });
});
