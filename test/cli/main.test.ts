import { writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { SigningKey } from '../../src/identity/key.ts';
import { openLog } from '../../src/log/writer.ts';
import { said } from '../support/log.ts';
import { newFolder, saveAgent, session, shell, start, swarm } from './swarm.ts';

describe.concurrent('help', () => {
  test('of the command and of each subcommand is on stdout, with examples', async () => {
    const folder = newFolder();
    const named = ['demo', 'keys', 'keys new', 'keys show', 'keys add', 'keys list', 'keys remove'];
    const asked = ['', ...named, 'up', 'pub', 'sub', 'tail', 'verify'];
    const answers = await Promise.all(asked.map((name) => shell(folder, `swarm ${name} --help`)));
    for (const [index, { code, stdout, stderr }] of answers.entries()) {
      expect({ name: asked[index], code, stderr }).toEqual({ name: asked[index], code: 0, stderr: '' });
      expect(stdout).toMatch(new RegExp(`^Usage: swarm ${asked[index]}`));
      expect(stdout).toContain('Examples:\n  $ swarm');
    }
    expect((await shell(folder, 'swarm help keys')).stdout).toBe(answers[2]?.stdout);
  });

  test('and the version load neither NATS nor zod', async () => {
    const env = { NODE_DEBUG: 'esm' }; // has node name each module that it loads
    const loadedBy = async (line: string): Promise<string> => {
      const { code, stderr } = await shell(newFolder(), line, { env });
      expect(code).toBe(0);
      expect(stderr).toContain('commander');
      return stderr;
    };
    expect(await loadedBy('swarm --version && swarm --help')).not.toMatch(/nats-io|zod|sodium/);
    expect(await loadedBy('swarm help verify')).toMatch(/zod/);
    expect(await loadedBy('swarm help verify')).not.toMatch(/nats-io/);
    expect(await loadedBy('swarm help pub')).toMatch(/nats-io/);
  });
});

test.concurrent('what is used wrongly is named, with what was meant and where to look, and exits with 2', async () => {
  await session(
    newFolder(),
    `
    $ swarm --version
    0.1.0
    $ swarm verfy
    ! swarm: unknown command 'verfy' (Did you mean verify?)
    ! \`swarm --help\` lists the commands.
    [2]
    $ swarm help verfy
    ! swarm: unknown command 'verfy' (Did you mean verify?)
    ! \`swarm --help\` lists the commands.
    [2]
    $ swarm verify --keyrnig keys.json
    ! swarm: unknown option '--keyrnig' (Did you mean --keyring?)
    ! \`swarm verify --help\` shows how it is used.
    [2]
    $ swarm verify one.jsonl two.jsonl
    ! swarm: too many arguments for 'verify'. Expected 1 argument but got 2.
    ! \`swarm verify --help\` shows how it is used.
    [2]
    $ swarm pub thread.t.planner
    ! swarm: missing required argument 'payload'
    ! \`swarm pub --help\` shows how it is used.
    [2]
    $ swarm keys ad
    ! swarm: unknown command 'ad' (Did you mean add?)
    ! \`swarm keys --help\` shows how it is used.
    [2]
    $ swarm keys new --nmae planner
    ! swarm: unknown option '--nmae' (Did you mean --name?)
    ! \`swarm keys new --help\` shows how it is used.
    [2]
    $ swarm up --port 65536
    ! swarm: option '--port <port>' argument '65536' is invalid. It is not a port: 0 (a free one) to 65535.
    ! \`swarm up --help\` shows how it is used.
    [2]
    $ swarm sub 'thread..x'
    ! swarm: not a subject pattern: "thread..x" (a subject in which * stands for one token and a last > for the rest)
    [2]
    $ swarm pub 'thread.>' '{}'
    ! swarm: not a subject: "thread.>" (2 to 16 tokens of letters, digits, _ and - joined by dots, at most 255 bytes)
    [2]`,
  );
  const nothing = await swarm(newFolder(), []);
  expect(nothing).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('Usage: swarm') });
});

describe.concurrent('an error', () => {
  test('is a line on stderr; its causes and their places are there on demand', async () => {
    const folder = newFolder();
    writeFileSync(join(folder, 'file'), '');
    const path = 'file/swarm.jsonl'; // no folder, so that the system has something to say
    const brief = await swarm(folder, ['tail', path]);
    expect(brief).toMatchObject({ code: 3, stdout: '' });
    expect(brief.stderr).toMatch(/^swarm: there is no log at file\/swarm\.jsonl[^\n]*\n$/);
    for (const verbose of [
      await swarm(folder, ['tail', path, '--verbose']),
      await swarm(folder, ['--verbose', 'tail', path]),
      await swarm(folder, ['tail', path], { env: { SWARM_DEBUG: '1' } }),
    ]) {
      expect(verbose.code).toBe(3);
      expect(verbose.stderr).toMatch(/because of .*ENOTDIR/);
      expect(verbose.stderr).toMatch(/\n {2}LOG_OPEN\n(?: {6}at .*\n)* {6}at .*reader\.js/);
    }
  });

  test('shows the control characters of what it names', async () => {
    const { stderr, code } = await swarm(newFolder(), ['verify', '\u001b[2J.jsonl']);
    expect(stderr).toMatch(/^swarm: there is no log at \\u001b\[2J\.jsonl; name [^\n]*\n$/);
    expect(code).toBe(3);
    const unknown = await swarm(newFolder(), ['\u001b[2J']);
    expect(unknown.stderr).toContain("unknown command '\\u001b[2J'");
  });
});

test.concurrent('warnings are said as the command says things, and other talk is left out when it is to be quiet', async () => {
  const folder = newFolder();
  await shell(folder, 'swarm keys new');
  const { stderr } = await shell(
    folder,
    'chmod 644 .env; swarm --quiet pub thread.t.agent 1 --url nats://127.0.0.1:1',
  );
  expect(stderr).toMatch(
    /^swarm: warning: \.env holds a secret key and is open to other users: chmod 600 \.env\nswarm: no NATS server answers at .*\n$/,
  );
  expect((await shell(folder, 'swarm keys list --quiet')).stderr).toBe('');
});

test.concurrent('a reader that has read enough ends the command quietly, and cannot change a verdict', async () => {
  const folder = newFolder();
  await using log = await openLog(join(folder, 'log.jsonl'), { key: SigningKey.generate() });
  await Promise.all(Array.from({ length: 3_000 }, (_, n) => log.append(said(String(n).repeat(100)))));
  const tail = await shell(folder, '{ swarm tail -n 3000 log.jsonl; echo "exit $?" >&2; } | head -n 1');
  expect(tail.stderr).toBe('exit 0\n');
  expect(tail.stdout.split('\n')).toHaveLength(2);
  const verify = await shell(
    folder,
    'swarm keys new -q >/dev/null; { swarm verify -q log.jsonl; echo "exit $?" >&2; } | head -n 1',
  );
  expect(verify.stderr).toBe('exit 1\n');
  expect(verify.stdout).toMatch(/^log\.jsonl:1: unknown-key: /);
});

test('a second Ctrl-C ends at once what the first one waits for', async () => {
  const folder = newFolder();
  await shell(folder, 'swarm keys new');
  const mute = createServer().listen(0, '127.0.0.1'); // takes connections, and never greets
  await new Promise((resolve) => mute.once('listening', resolve));
  const connected = new Promise((resolve) => mute.once('connection', resolve));
  const address = mute.address();
  const port = typeof address === 'object' ? address?.port : 0;
  try {
    const pub = start(folder, ['pub', 'thread.t.agent', '1', '--url', `nats://127.0.0.1:${port}`]);
    await connected;
    pub.signal('SIGINT');
    await new Promise((resolve) => setTimeout(resolve, 400));
    expect(pub.child.exitCode).toBeNull();
    const since = performance.now();
    pub.signal('SIGINT');
    expect(await pub.ended).toMatchObject({ code: 130, stdout: '' });
    expect(performance.now() - since).toBeLessThan(3_000); // connecting takes 5 s
  } finally {
    mute.close();
  }
});

test.concurrent('output that cannot be written is a failure, whatever the verdict', async () => {
  const folder = newFolder();
  await saveAgent(folder, 'planner');
  expect(await shell(folder, 'swarm keys list > /dev/full')).toMatchObject({
    code: 3,
    stderr: expect.stringMatching(/^swarm: .*ENOSPC/),
  });
});

test.concurrent('these tests would notice a secret in what is printed', async () => {
  const folder = newFolder();
  await saveAgent(folder, 'planner');
  await expect(shell(folder, 'cat .env')).rejects.toThrow('the secret of .env is shown');
});
