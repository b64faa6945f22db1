import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { SigningKey } from '../../src/identity/key.ts';
import { newFolder, saveAgent, session, shell, swarm } from './swarm.ts';

const secretOf = (key: SigningKey): string => key.exportSeed().toString('base64');

/** Returns the keyring in `folder`, its keys as many as there are. */
function agentsIn(folder: string): Record<string, { keys: number; publish?: string[] }> {
  const { agents } = JSON.parse(readFileSync(join(folder, 'swarm.keys.json'), 'utf8'));
  return Object.fromEntries(
    agents.map(({ name, keys, publish }: { name: string; keys: unknown[]; publish?: string[] }) => [
      name,
      { keys: keys.length, ...(publish && { publish }) },
    ]),
  );
}

test.concurrent('a newcomer makes a key, shows it, and sees it in the keyring', async () => {
  const folder = newFolder();
  await session(
    folder,
    `
    $ swarm keys list
    ! swarm: no keyring at swarm.keys.json; \`swarm keys new\` makes one
    [3]
    $ swarm keys show
    ! swarm: there is no .env; \`swarm keys new --env .env\` makes it with a key pair
    [3]
    $ swarm keys new --name planner
    planner <key> <key> <nkey>
    ! Wrote a new key pair to .env. It holds the secret: keep it to yourself, and out of git.
    ! Added planner to swarm.keys.json. It may publish on: thread.*.planner, thread.*.planner.>
    ! To hand to others, for their \`swarm keys add\`:
    $ swarm keys show
    planner <key> <key> <nkey>
    $ swarm keys list | tr '\\t' '|'
    planner|<key>|thread.*.planner thread.*.planner.>|-|-
    $ swarm keys new
    ! swarm: .env already holds a key pair; \`swarm keys show\` prints its line, \`swarm keys new --force\` replaces it and keeps the file as it was beside it
    [3]`,
  );
  expect(statSync(join(folder, '.env')).mode & 0o777).toBe(0o600);
});

test.concurrent('several agents live in one folder, named for their files, or as they are told', async () => {
  const folder = newFolder();
  await session(
    folder,
    `
    $ swarm -q keys new --env listener.env
    listener <key> <key> <nkey>
    $ SWARM_ENV=.env.writer swarm -q keys new --publish 'thread.*.writer' --publish 'thread.*.drafts'
    writer <key> <key> <nkey>
    $ swarm -q keys new
    agent <key> <key> <nkey>
    $ swarm keys show --env .env.writer
    writer <key> <key> <nkey>
    $ swarm keys show --env .env.writer --name other
    ! swarm: swarm.keys.json calls the agent with this key writer, not other
    [2]
    $ swarm keys show --env .env.writer --name other --keyring elsewhere.json
    ! swarm: no keyring at elsewhere.json; \`swarm keys new\` makes one
    [3]
    $ swarm keys list | cut -f 1,3
    listener	thread.*.listener thread.*.listener.>
    writer	thread.*.writer thread.*.drafts
    agent	thread.*.agent thread.*.agent.>`,
  );
});

describe.concurrent('what keys new would be refused', () => {
  test.each([
    ['a name that has another key', '--name listener', 3, /already has an agent listener, with another key/],
    ['a name that is none', '--name "a b"', 2, /not an agent's name/],
    ['a pattern that is none', '--publish "a..b"', 2, /not a subject pattern/],
    [
      'a keyring that is none',
      '--keyring broken.json',
      3,
      /broken\.json is not valid JSON at line 1, column 2: .*; correct it/,
    ],
    ['an env file that is a folder', '--env folder', 3, /cannot read folder: it is a folder, not a file/],
    ['an env file whose folder cannot be made', '--env broken.json/x/t.env', 3, /broken\.json\/x/],
  ])('for %s leaves everything as it was', async (_, options, code, says) => {
    const folder = newFolder();
    writeFileSync(join(folder, 'broken.json'), '{');
    mkdirSync(join(folder, 'folder'));
    await saveAgent(folder, 'listener', 'listener.env');
    const before = [readdirSync(folder), agentsIn(folder)];
    const refused = await shell(folder, `swarm keys new ${options}`);
    expect(refused).toMatchObject({ code, stdout: '', stderr: expect.stringMatching(says) });
    expect([readdirSync(folder), agentsIn(folder)]).toEqual(before);
  });
});

test.concurrent('a forced new key stands beside the old one, whose file is kept', async () => {
  const folder = newFolder();
  const first = await shell(folder, 'swarm keys new --name planner --publish "thread.*.planner"');
  await session(
    folder,
    `
    $ swarm keys new --force
    planner <key> <key> <nkey>
    ! Wrote a new key pair to .env. It holds the secret: keep it to yourself, and out of git.
    ! The file as it was is now <...>.env.<file-time>.bak.
    ! Added the key to planner in swarm.keys.json. Its older keys still count there until \`swarm keys revoke\` ends that.
    ! To hand to others, for their \`swarm keys add\`:`,
  );
  expect(agentsIn(folder)).toEqual({ planner: { keys: 2, publish: ['thread.*.planner'] } });
  const kept = readdirSync(folder).find((name) => name.endsWith('.bak')) ?? '';
  expect((await shell(folder, `swarm keys show --env ${kept}`)).stdout).toBe(first.stdout);
  expect((await swarm(folder, ['keys', 'show'])).stdout).not.toBe(first.stdout);
});

test.concurrent('a forced new key also replaces one that cannot be read', async () => {
  const folder = newFolder();
  await shell(folder, 'echo SWARM_SIGNING_SK_B64=spoilt > .env; echo SWARM_VERIFY_PK_B64=spoilt >> .env');
  expect(await shell(folder, 'swarm keys new')).toMatchObject({
    code: 3,
    stderr: expect.stringContaining('holds a broken key pair'),
  });
  expect(await shell(folder, 'swarm keys new --force')).toMatchObject({ code: 0 });
});

test.concurrent('of an incomplete pair the command that replaces it is told', async () => {
  const folder = newFolder();
  await session(
    folder,
    `
    $ swarm -q keys new --env t.env
    t <key> <key> <nkey>
    $ swarm keys new --env t.env
    ! swarm: t.env already holds a key pair; \`swarm keys show --env t.env\` prints its line, \`swarm keys new --env t.env --force\` replaces it and keeps the file as it was beside it
    [3]
    $ grep VERIFY t.env > half.env && swarm keys show --env half.env
    ! swarm: no SWARM_SIGNING_SK_B64 in half.env; copy it there, or \`swarm keys new --env half.env --force\` makes a new pair
    [3]
    $ swarm keys new --env half.env
    ! swarm: half.env holds an incomplete key pair (no SWARM_SIGNING_SK_B64); complete it, or \`swarm keys new --env half.env --force\` replaces it and keeps the file as it was beside it
    [3]
    $ swarm -q keys new --env half.env --force
    half <key> <key> <nkey>
`,
  );
});

test.concurrent('of a broken pair the command that replaces it is told', async () => {
  const folder = newFolder();
  await saveAgent(folder, 't', 't.env');
  await session(
    folder,
    `
    $ sed 's/SK_B64=../SK_B64=/' t.env > 'cut short.env'; swarm keys show --env 'cut short.env'
    ! swarm: SWARM_SIGNING_SK_B64 in cut short.env is not a signing key (it is not in canonical base64: 44 characters, the last a =); copy it anew, or \`swarm keys new --env 'cut short.env' --force\` makes a new pair
    [3]
    $ swarm keys new --env 'cut short.env'
    ! swarm: cut short.env holds a broken key pair; \`swarm keys show --env 'cut short.env'\` says what is wrong with it, \`swarm keys new --env 'cut short.env' --force\` replaces it and keeps the file as it was beside it
    [3]
    $ swarm -q keys new --env 'cut short.env' --force --name other
    other <key> <key> <nkey>
`,
  );
});

test.concurrent('an env file that holds a key twice, or is a folder, is told as that', async () => {
  const folder = newFolder();
  await saveAgent(folder, 't', 't.env');
  await saveAgent(folder, 'u', 'u.env');
  await session(
    folder,
    `
    $ cat u.env >> t.env; sed -i 's/VERIFY_PK_B64=.*=$/VERIFY_PK_B64=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=/' t.env; swarm keys show --env t.env
    ! swarm: SWARM_SIGNING_SK_B64 is given twice in t.env, and what counts, the last of each, is no pair; take out what does not belong
    [3]
    $ mkdir folder; swarm keys show --env folder
    ! swarm: cannot read folder: it is a folder, not a file
    [3]`,
  );
});

test.concurrent('a key in the environment that goes before the new one is warned of', async () => {
  const folder = newFolder();
  await shell(folder, 'swarm keys new --env other.env');
  const { stderr } = await shell(folder, '. ./other.env; export SWARM_SIGNING_SK_B64; swarm keys new -q');
  expect(stderr).toMatch(/^swarm: warning: SWARM_SIGNING_SK_B64 in the environment goes before \.env/);
});

describe.concurrent('keys add', () => {
  test('takes a line as one argument, as four, or from stdin, and once', async () => {
    const folder = newFolder();
    await session(
      folder,
      `
      $ for name in a b c d; do swarm -q keys new --env $name.env --keyring other.json > $name.line; done
      $ swarm keys add "$(cat a.line)"
      ! Added a to swarm.keys.json. It may publish on: thread.*.a, thread.*.a.>
      $ swarm keys add $(cat b.line) --publish 'thread.*.b'
      ! Added b to swarm.keys.json. It may publish on: thread.*.b
      $ cat c.line d.line | swarm keys add -
      ! Added c to swarm.keys.json. It may publish on: thread.*.c, thread.*.c.>
      ! Added d to swarm.keys.json. It may publish on: thread.*.d, thread.*.d.>
      $ swarm keys add $(cat b.line)
      ! swarm.keys.json already has b with this key. It may publish on: thread.*.b
      $ swarm keys list | cut -f 1
      a
      b
      c
      d
      $ swarm keys remove c
      ! Removed c from swarm.keys.json. Its records no longer verify against it.
      $ swarm keys remove c
      ! swarm: no agent "c" in the keyring, which has: a, b, d
      [2]
      $ swarm keys remove c --keyring none.json
      ! swarm: no keyring at none.json; \`swarm keys new\` makes one
      [3]`,
    );
  });

  test('replaces the rights of an agent by all those that are named, and says which it lost', async () => {
    const folder = newFolder();
    await session(
      folder,
      `
      $ swarm -q keys new --name a > line
      $ swarm keys add "$(cat line)" --publish 'thread.*.a' --publish 'thread.t.*'
      ! Changed what a may do in swarm.keys.json. It may publish on: thread.*.a, thread.t.*
      ! No longer: thread.*.a.>
      $ swarm keys add "$(cat line)" --publish 'thread.*.a' --publish 'thread.t.*'
      ! swarm.keys.json already has a with this key. It may publish on: thread.*.a, thread.t.*
      $ swarm keys list | cut -f 3
      thread.*.a thread.t.*`,
    );
  });

  test('says what an agent may do at a broker that knows the agents', async () => {
    const folder = newFolder();
    await session(
      folder,
      `
      $ swarm -q keys new --name a --durable work=thread.x.b --durable work=thread.y.b --durable all='thread.>' > a
      $ swarm keys new --name b --env b.env --operator | cut -d ' ' -f 1
      b
      ! Wrote a new key pair to b.env. It holds the secret: keep it to yourself, and out of git.
      ! Added b to swarm.keys.json. It may publish on: thread.*.b, thread.*.b.>
      ! It is the operator.
      ! To hand to others, for their \`swarm keys add\`:
      $ swarm keys list | cut -f 1,5
      a	work=thread.x.b work=thread.y.b all=thread.>
      b	operator
      $ swarm keys add "$(cat a)" --durable work='thread.>' --operator
      ! swarm: b is the operator; \`swarm keys add LINE --operator --force\` puts a in its place
      [3]
      $ swarm keys new --env c.env --operator
      ! swarm: b is the operator; \`swarm keys add LINE --operator --force\` puts c in its place
      [3]
      $ swarm keys list | cut -f 1,5
      a	work=thread.x.b work=thread.y.b all=thread.>
      b	operator
      $ swarm keys add "$(cat a)" --durable work='thread.>' --force
      ! swarm: --force is about who is the operator, and goes with --operator
      [2]
      $ swarm keys add "$(cat a)" --durable work='thread.>' --operator --force
      ! Changed what a may do in swarm.keys.json. It may publish on: thread.*.a, thread.*.a.>
      ! No longer: work=thread.x.b, work=thread.y.b, all=thread.>
      ! Its durables: work=thread.>
      ! It is the operator.
      ! b is the operator no longer.
      $ swarm -q keys add "$(cat a)" --operator
      $ swarm keys list | cut -f 1,5
      a	operator work=thread.>
      b	-
      $ swarm keys add "$(cat a)" --durable 'no filter'
      ! swarm: option '--durable <name=filter>' argument 'no filter' is invalid. It is not a durable and its filter: worker='thread.*.planner'.
      ! \`swarm keys add --help\` shows how it is used.
      [2]
      $ swarm keys remove a
      ! Removed a from swarm.keys.json. Its records no longer verify against it.
      ! It was the operator: \`swarm keys add LINE --operator\` names another.
      $ swarm keys list | cut -f 1,5
      b	-`,
    );
  });

  test('puts another key of an agent beside its old one only if told to', async () => {
    const folder = newFolder();
    await session(
      folder,
      `
      $ swarm -q keys new --name a > old
      $ swarm -q keys new --name a --env new.env --keyring other.json > new
      $ swarm keys add "$(cat new)"
      ! swarm: a is already in the keyring with another key; if this is a new key of the same agent, --rotate puts it beside the old one
      [3]
      $ swarm keys add "$(cat new)" --rotate
      ! Added a key to a in swarm.keys.json. It may publish on: thread.*.a, thread.*.a.>`,
    );
    expect(agentsIn(folder)).toEqual({ a: { keys: 2 } });
  });

  test.each([
    ['three words', 'a b c', /3 words instead of 4/],
    ['nothing on stdin', '- < /dev/null', /there is no line on stdin/],
    ['a key of another form', `a ${'x'.repeat(44)} x x`, /NKey/],
    ['the secret line of an env file', 'SWARM_SIGNING_SK_B64=x', /1 word instead of 4/],
  ])('refuses %s', async (_, words, says) => {
    const folder = newFolder();
    const { code, stderr } = await shell(folder, `swarm keys add ${words}`);
    expect(stderr).toMatch(says);
    expect(code).toBeGreaterThanOrEqual(2);
    expect(readdirSync(folder)).not.toContain('swarm.keys.json');
  });
});

test.concurrent.each([
  ['ours', '.env'],
  ['of an agent in the keyring', 'other.env'],
])(
  'a secret key %s that is pasted into keys add is called what it is, not shown, and not added',
  async (_, env) => {
    const folder = newFolder();
    const key = await saveAgent(folder, 'planner', env);
    const { stdout, stderr, code } = await swarm(folder, [
      'keys',
      'add',
      'friend',
      secretOf(key),
      key.publicKey,
    ]);
    expect({ stdout, code }).toEqual({ stdout: '', code: 3 });
    expect(stderr).toMatch(
      /^swarm: word 2 of the line is a secret key; hand over what `swarm keys show` prints, .*\n$/,
    );
    expect(agentsIn(folder)).toEqual({ planner: { keys: 1 } });
  },
);

describe.concurrent('keys list', () => {
  test('is JSON for programs, with every key and right', async () => {
    const folder = newFolder();
    await saveAgent(folder, 'planner');
    const { stdout } = await swarm(folder, ['keys', 'list', '--json']);
    expect(stdout.endsWith('}\n') && stdout.split('\n')).toHaveLength(2);
    expect(JSON.parse(stdout)).toEqual({
      keyring: 'swarm.keys.json',
      sha256: expect.stringMatching(/^[0-9a-f]{64}$/),
      swarm: null,
      operator: null,
      agents: [
        {
          name: 'planner',
          durables: {},
          publish: ['thread.*.planner', 'thread.*.planner.>'],
          keys: [{ record: expect.any(String), checkpoint: expect.any(String), nkey: expect.any(String) }],
        },
      ],
    });
  });

  test('says from where on a key no longer counts', async () => {
    const folder = newFolder();
    await saveAgent(folder, 'a');
    await saveAgent(folder, 'b', 'b.env');
    const path = join(folder, 'swarm.keys.json');
    const file = JSON.parse(readFileSync(path, 'utf8'));
    file.agents[0].keys[0].revoked = { leaf: 'a'.repeat(64) };
    file.agents[1].keys[0].revoked = { log: `swarm.jsonl/${'b'.repeat(32)}`, size: 7 };
    writeFileSync(path, JSON.stringify(file));
    expect((await shell(folder, 'swarm keys list | cut -f 4')).stdout).toBe(
      `from record ${'a'.repeat(64)} on\nafter 7 records of swarm.jsonl/${'b'.repeat(32)}\n`,
    );
  });

  test('is a table on a terminal', async ({ skip }) => {
    const folder = newFolder();
    if ((await shell(folder, 'script --version')).code !== 0) skip('there is no script(1) here');
    await saveAgent(folder, 'planner');
    const { stdout } = await shell(folder, 'script -qec "swarm keys list" /dev/null < /dev/null');
    expect(stdout).toMatch(/│ agent +│ record key +│ may publish on +│ revoked │ at the broker │/);
    expect(stdout).toMatch(
      /│ planner │ [A-Za-z0-9+/]{43}= │ thread\.\*\.planner +│ - +│ - +│\r\n│ +│ +│ thread\.\*\.planner\.> │/,
    );
  });
});

describe.concurrent('keys revoke', () => {
  test('says from where on a key counts no more, once', async () => {
    const folder = newFolder();
    const key = await saveAgent(folder, 'planner');
    const leaf = 'a'.repeat(64);
    const origin = `swarm/${'b'.repeat(32)}`;
    await session(
      folder,
      `
      $ swarm keys revoke planner --from ${leaf}
      ! Revoked the key ${key.publicKey} of planner in swarm.keys.json, from record ${leaf} on.
      ! Agents read the keyring when they join: who is in the swarm now hears that key until it joins again.
      $ swarm keys list | cut -f 4
      from record ${leaf} on
      $ swarm keys revoke ${key.publicKey} --log ${origin} --size 7
      ! swarm: the key ${key.publicKey} of planner is already revoked; --force revokes it from another place on
      [3]
      $ swarm keys revoke -q ${key.publicKey} --log ${origin} --size 7 --force && swarm keys list | cut -f 4
      after 7 records of ${origin}`,
    );
  });

  test('wants the key of an agent that has more than one', async () => {
    const folder = newFolder();
    const key = await saveAgent(folder, 'planner');
    await session(
      folder,
      `
      $ swarm keys new -q --name planner --force > line
      $ swarm keys revoke planner --from ${'a'.repeat(64)}
      ! swarm: planner has more than one key; name the one to revoke:
      ! ${key.publicKey}
      ! <key>
      [2]
      $ swarm keys revoke -q ${key.publicKey} --from ${'a'.repeat(64)} && swarm keys list | cut -f 4
      from record ${'a'.repeat(64)} on
      -`,
    );
  });

  test.each([
    ['planner', 2, /^swarm: from where on\? Either --from LEAF, or --log ORIGIN with --size N/],
    [`planner --from ${'a'.repeat(64)} --size 1`, 2, /^swarm: from where on\?/],
    ['planner --from abc', 2, /^swarm: not a leaf: "abc"/],
    ['planner --log nowhere --size 1', 2, /^swarm: not a log's origin: "nowhere"/],
    [`nobody --from ${'a'.repeat(64)}`, 2, /^swarm: no agent "nobody" in the keyring, which has: planner/],
    [`planner --from ${'a'.repeat(64)} --keyring none.json`, 3, /^swarm: no keyring at none\.json/],
  ])('refuses %s', async (words, code, says) => {
    const folder = newFolder();
    await saveAgent(folder, 'planner');
    expect(await shell(folder, `swarm keys revoke ${words}`)).toEqual({
      code,
      stdout: '',
      stderr: expect.stringMatching(says),
    });
  });
});
