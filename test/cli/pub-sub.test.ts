import { join } from 'node:path';
import { connect, headers } from '@nats-io/transport-node';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { saveIdentity } from '../../src/identity/envfile.ts';
import { SigningKey } from '../../src/identity/key.ts';
import type { NatsServer } from '../../src/server/nats-server.ts';
import { linesOf } from '../support/log.ts';
import { testServer } from '../support/nats.ts';
import { newFolder, type RunOptions, saveAgent, session, shell, start } from './swarm.ts';

let server: NatsServer;
beforeAll(async () => {
  server = await testServer();
});
afterAll(() => server?.stop());

let streams = 0;

/** Returns a folder with an agent called planner, and an environment that leads to a stream of its own. */
async function planner(): Promise<{ folder: string; options: RunOptions; subject: string }> {
  const folder = newFolder();
  streams += 1;
  const subject = `thread.t${streams}.planner`;
  const env = { NATS_URL: server.url };
  await saveAgent(folder, 'planner');
  return { folder, options: { env }, subject };
}

describe.concurrent('pub', () => {
  test('sends JSON byte for byte as typed, text as a JSON string, and stdin', async () => {
    const { folder, options, subject } = await planner();
    await session(
      folder,
      `
      $ swarm pub ${subject} '{"n": 1730216238594927800,  "x":[]}'
      ${subject}  seq <n>  leaf <hash>
      $ swarm pub ${subject} --text 'hello, "world"' --json
      {"seq":<n>,"subject":"${subject}","leaf":"<hash>"}
      $ printf '{\\n"a":1}\\n' | swarm pub ${subject} -
      ${subject}  seq <n>  leaf <hash>
      $ printf 'two\\nlines\\n' | swarm pub ${subject} - --text
      ${subject}  seq <n>  leaf <hash>
      $ swarm pub ${subject} -1
      ${subject}  seq <n>  leaf <hash>`,
      options,
    );
    expect(
      linesOf(join(folder, 'logs/swarm.jsonl')).map((line) => line.replace(/^.*?"payload":/, '')),
    ).toEqual([
      '{"n": 1730216238594927800,  "x":[]}}',
      '"hello, \\"world\\""}',
      '{ "a":1}}',
      '"two\\nlines"}',
      '-1}',
    ]);
  });

  test('refuses what it cannot send before anything is logged, and says how it would', async () => {
    const { folder, options, subject } = await planner();
    await session(
      folder,
      `
      $ swarm pub ${subject} hello
      ! swarm: the payload is not JSON: hello
      ! to send it as text:  swarm pub SUBJECT --text 'hello'
      ! to send JSON:        swarm pub SUBJECT '{"hello":"world"}'   (quoted, so that the shell leaves it alone)
      [2]
      $ printf '\\377' | swarm pub ${subject} - --text
      ! swarm: what is on stdin is not UTF-8
      [2]
      $ swarm pub thread.t.someone 1
      ! swarm: the keyring does not let planner publish on thread.t.someone, <...>
      [3]
      $ swarm pub ${subject} 1 --keyring none.json
      ! swarm: no keyring at none.json; \`swarm keys new\` makes one
      [3]
      $ swarm pub ${subject} 1 --env none.env
      ! swarm: there is no none.env; \`swarm keys new --env none.env\` makes it with a key pair
      [3]
      $ head -c 1100000 /dev/zero | tr '\\0' x | swarm pub ${subject} --text -
      ! swarm: ${subject}: the payload is 1100002 bytes and its headers up to <...>, the server takes 1048576; send less, or raise the server's max_payload
      [3]
      $ swarm pub ${subject} 1 --url nats://127.0.0.1:1
      ! swarm: no NATS server answers at nats://127.0.0.1:1 (<...>); start one with \`swarm up\`, or set NATS_URL
      [3]
      $ cat logs/swarm.jsonl`,
      options,
    );
  });
});

describe.concurrent('sub', () => {
  test('prints what was said, once, and goes on where it stopped', async () => {
    const { folder, options, subject } = await planner();
    const filter = subject.replace(/\.planner$/, '.>');
    await session(
      folder,
      `
      $ for n in 1 2 3; do swarm pub ${subject} "{\\"n\\":$n}" > /dev/null; done
      $ swarm sub '${filter}' --count 2
      planner ${subject} {"n":1}
      planner ${subject} {"n":2}
      ! Listening on ${filter} as planner-cli-<...>; Ctrl-C ends.
      $ swarm sub '${filter}' --count 1 --quiet | cut -c 1-60
      planner ${subject} {"n":3}<...>
      $ swarm sub '${filter}' --durable another --count 1 -q
      planner ${subject} {"n":1}
      $ swarm sub '${filter}' --count 0
      ! swarm: option '--count <n>' argument '0' is invalid. It is not a whole number from 1 on.
      ! \`swarm sub --help\` shows how it is used.
      [2]
      $ swarm sub thread.other.x --durable another -q
      ! swarm: consumer another of stream THREADS exists otherwise: filter: ${filter}, wanted thread.other.x. <...>
      [3]
      $ swarm sub '${filter}' --durable 'a b'
      ! swarm: not a <...> name: "a b" (1 to 64 letters, digits, _ and -)
      [2]
      $ swarm verify -q | tail -n 1
      Verified <n> records, 0 bad`,
      options,
    );
  });

  test('puts no more on the log as heard than it prints', async () => {
    const { folder, options, subject } = await planner();
    await shell(folder, `for n in 1 2 3 4 5 6; do swarm pub ${subject} $n; done`, options);
    await shell(folder, `swarm sub ${subject} --count 2`, options);
    const delivered = linesOf(join(folder, 'logs/swarm.jsonl')).filter((line) =>
      line.includes('BUS.DELIVER'),
    );
    expect(delivered).toHaveLength(2);
    const rest = await shell(folder, `swarm sub ${subject} --count 4 -q | cut -d ' ' -f 3`, options);
    expect(rest.stdout).toBe('3\n4\n5\n6\n');
  });

  test('prints JSON for programs, with the payload as it was said', async () => {
    const { folder, options, subject } = await planner();
    await shell(folder, `swarm pub ${subject} '{"n": 1730216238594927800, "c":"\u009b\u202e"}'`, options);
    const { stdout } = await shell(folder, `swarm sub ${subject} --json --count 1`, options);
    expect(stdout).toMatch(/,"payload":\{"n": 1730216238594927800, "c":"\\u009b\\u202e"\}\}\n$/);
    expect(JSON.parse(stdout)).toEqual({
      ts_ns: expect.stringMatching(/^\d{19}$/),
      thread_id: subject.split('.')[1],
      subject,
      sender: 'planner',
      leaf: expect.stringMatching(/^[0-9a-f]{64}$/),
      id: expect.stringMatching(/^[A-Za-z0-9+/]{43}=\/[0-9a-f]{64}$/),
      seq: expect.any(Number),
      attempt: 1,
      payload: { n: Number('1730216238594927800'), c: '\u009b\u202e' },
    });
  });

  test('tells of what it refuses, and prints only what it does not', async () => {
    const { folder, options, subject } = await planner();
    const stranger = newFolder();
    await saveAgent(stranger, 'planner');
    await shell(stranger, `swarm pub ${subject} '"lies"'`, options);
    const nats = await connect({ servers: server.url });
    const forged = headers();
    forged.set('Swarm-Record', '\u009b2J');
    await nats.request(subject, '"unsigned"', { timeout: 5_000 });
    await nats.request(subject, '"forged"', { timeout: 5_000, headers: forged });
    await nats.close();
    await shell(folder, `swarm pub ${subject} '"true"'`, options);
    const { stdout, stderr } = await shell(folder, `swarm sub ${subject} --count 1`, options);
    expect(stdout).toBe(`planner ${subject} "true"\n`);
    expect(
      stderr.match(/^swarm: warning: message \d+ on thread\.t\d+\.planner was refused \([a-z-]+\): .*$/gm)
        ?.length,
    ).toBe(3);
    expect(stderr).toMatch(/\(unknown-key\): key [A-Za-z0-9+/=]{44} is not in the keyring/);
  });

  test.each([
    ['SIGINT', [], 0],
    ['SIGTERM', ['--count', '9'], 143],
  ] as const)(
    'ends in order at %s %j: what it printed is acked, what it did not comes again',
    async (signal, more, code) => {
      const { folder, options, subject } = await planner();
      await shell(folder, `swarm pub ${subject} 1`, options);
      const sub = start(folder, ['sub', subject, ...more], options);
      await sub.says(`planner ${subject} 1\n`);
      sub.signal(signal);
      expect(await sub.ended).toMatchObject({ code, stdout: `planner ${subject} 1\n` });
      await shell(folder, `swarm pub ${subject} 2`, options);
      const next = await shell(folder, `swarm sub ${subject} --count 1 -q`, options);
      expect(next.stdout).toBe(`planner ${subject} 2\n`);
      expect((await shell(folder, 'swarm verify -q', options)).stdout).toMatch(
        /^CONSISTENT .*\nVerified 4 records, 0 bad\n$/,
      );
    },
  );

  test('does not ack what nobody read', async () => {
    const { folder, options, subject } = await planner();
    await shell(folder, `for n in 1 2 3; do swarm pub ${subject} $n; done`, options);
    const head = await shell(folder, `{ swarm sub ${subject} -q; echo "exit $?" >&2; } | true`, options);
    expect(head).toEqual({ code: 0, stdout: '', stderr: 'exit 0\n' });
    const { stdout } = await shell(folder, `swarm sub ${subject} --count 3 -q`, options);
    // The broker hands out in any order what it was given back, and at times to the command that has just done so.
    const again = stdout
      .replaceAll(/ \(attempt \d\)$/gm, ' again')
      .trimEnd()
      .split('\n')
      .toSorted();
    expect(again).toEqual([1, 2, 3].map((n) => `planner ${subject} ${n} again`));
  });
});

test.concurrent('an agent that the keyring does not know can listen but not speak', async () => {
  const { folder, options, subject } = await planner();
  await shell(folder, `swarm pub ${subject} 1`, options);
  const key = SigningKey.generate();
  await saveIdentity(join(folder, 'stranger.env'), key);
  await session(
    folder,
    `
    $ swarm pub ${subject} 2 --env stranger.env
    ! swarm: the keyring does not hold this agent's key ${key.publicKey}, <...>
    [3]
    $ swarm sub ${subject} --count 1 --env stranger.env
    planner ${subject} 1
    ! Listening on ${subject} as <...>-cli-<...>; Ctrl-C ends.`,
    options,
  );
});
