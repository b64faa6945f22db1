import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { checkpointKeyOf } from '../../src/agent/self.ts';
import { SigningKey } from '../../src/identity/key.ts';
import { closedSegments } from '../../src/log/files.ts';
import { sealLog } from '../../src/log/sealer.ts';
import { openLog } from '../../src/log/writer.ts';
import { parseLine } from '../../src/record/line.ts';
import { linesOf, said } from '../support/log.ts';
import { natsServerPath } from '../support/nats.ts';
import { newFolder, type RunOptions, session, shell, start, swarm } from './swarm.ts';

async function options(more: Record<string, string> = {}): Promise<RunOptions> {
  return { env: { SWARM_NATS_SERVER: await natsServerPath(), ...more } };
}

test.concurrent('two agents, one message, one verified log; and again, with the old log kept', async () => {
  const folder = newFolder();
  await session(
    folder,
    `
    $ swarm demo
    Got: { hello: 'world', n: 1 }
    CONSISTENT (unanchored): complete to record 2 of 2, by the checkpoint beside it
    Verified 2 records, 0 bad
    ! A broker:   nats-server <...> at nats://127.0.0.1:<n>, for this demo alone
    ! Two agents: planner and listener, with keys made now in .swarm/demo
    ! listener    subscribes to thread.demo-thread.>
    ! planner     signs a message, logs it, publishes it on thread.demo-thread.planner
    ! listener    checks signature, key, right and payload, logs the delivery, and handles it:
    ! Both have left. The log logs/swarm.jsonl, against the keyring .swarm/demo/swarm.keys.json:
    !
    ! What to try next:
    ! npx swarm tail --keyring .swarm/demo/swarm.keys.json <...>
    ! npx swarm verify --keyring .swarm/demo/swarm.keys.json <...>
    $ swarm demo 2> talk
    Got: { hello: 'world', n: 1 }
    CONSISTENT (unanchored): complete to record 2 of 2, by the checkpoint beside it
    Verified 2 records, 0 bad
    $ grep -e 'Two agents' -e 'The log that was here' talk
    Two agents: planner and listener, with keys from before in .swarm/demo
    The log that was here is now logs/before-demo-<file-time>/swarm.jsonl`,
    await options(),
  );
  await session(
    folder,
    `
    $ swarm verify -q --keyring .swarm/demo/swarm.keys.json
    CONSISTENT (unanchored): complete to record 2 of 2, by the checkpoint beside it
    Verified 2 records, 0 bad
    $ swarm verify -q --keyring .swarm/demo/swarm.keys.json logs/before-demo-*/swarm.jsonl
    CONSISTENT (unanchored): complete to record 2 of 2, by the checkpoint beside it
    Verified 2 records, 0 bad
    $ swarm tail --keyring .swarm/demo/swarm.keys.json
    <time> BUS.PUBLISH planner thread.demo-thread.planner {"hello":"world","n":1}
    <time> BUS.DELIVER listener < planner thread.demo-thread.planner {"hello":"world","n":1}`,
  );
  const [published, delivered] = linesOf(join(folder, 'logs/swarm.jsonl')).map((line) => parseLine(line));
  expect(delivered).toMatchObject({
    ok: true,
    record: { header: { cause: published?.ok && published.record.leaf } },
  });
});

test.concurrent('whatever the environment says, it is the demo’s own broker, keys and log', async () => {
  const folder = newFolder();
  writeFileSync(join(folder, '.env'), 'NATS_URL=nats://127.0.0.1:1\nSWARM_SIGNING_SK_B64=spoilt\n');
  const environment = {
    NATS_URL: 'nats://127.0.0.1:1',
    NATS_CREDS: 'absent.creds',
    SWARM_KEYRING: 'absent.json',
    SWARM_ENV: 'absent.env',
    SWARM_LOG: 'elsewhere.jsonl',
    SWARM_STREAM: 'OTHER',
    SWARM_NAME: 'production',
  };
  expect(await swarm(folder, ['demo'], await options(environment))).toMatchObject({
    code: 0,
    stdout: `Got: { hello: 'world', n: 1 }
CONSISTENT (unanchored): complete to record 2 of 2, by the checkpoint beside it
Verified 2 records, 0 bad
`,
  });
  expect(readdirSync(folder).sort()).toEqual(['.env', '.swarm', 'logs']);
});

test.concurrent('a log of many segments, with its tree, is moved aside whole', async () => {
  const folder = newFolder();
  const path = join(folder, 'logs/swarm.jsonl');
  const key = SigningKey.generate();
  const log = await openLog(path, { key, rotateBytes: 2_000 });
  for (let n = 0; n < 10; n += 1) await log.append(said(String(n)));
  await log.close();
  await sealLog(path, { key: checkpointKeyOf(key), state: join(folder, 'sealed') });
  const checkpoint = readFileSync(join(folder, 'logs/swarm.tlog/checkpoint'), 'utf8');
  const segments = closedSegments(path).length;
  expect(segments).toBeGreaterThan(1);
  expect(await swarm(folder, ['demo'], await options())).toMatchObject({ code: 0 });
  const aside = join(
    folder,
    'logs',
    readdirSync(join(folder, 'logs')).find((name) => name.startsWith('before')) ?? '',
  );
  expect(closedSegments(join(aside, 'swarm.jsonl'))).toHaveLength(segments);
  expect(readFileSync(join(aside, 'swarm.tlog/checkpoint'), 'utf8')).toBe(checkpoint);
  expect(closedSegments(path)).toEqual([]);
  expect(await shell(folder, `swarm verify -q --trust-on-first-use ${aside}/swarm.jsonl`)).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/complete to record 10 of 10, .*\nVerified 10 records, 0 bad\n$/),
  });
});

describe.concurrent('what goes wrong', () => {
  test('is said, with an exit code, and leaves no server behind', async () => {
    const folder = newFolder();
    writeFileSync(join(folder, 'logs'), 'in the way');
    const { code, stdout, stderr } = await swarm(folder, ['demo'], await options());
    expect({ code, stdout }).toEqual({ code: 3, stdout: '' });
    expect(stderr).toMatch(/\nswarm: .*logs/);
    const port = /127\.0\.0\.1:(\d+)/.exec(stderr)?.[1];
    await expect(fetch(`http://127.0.0.1:${port}`)).rejects.toThrow();
  });

  test('with the demo’s own keys says that they can be deleted', async () => {
    const folder = newFolder();
    mkdirSync(join(folder, '.swarm/demo'), { recursive: true });
    writeFileSync(join(folder, '.swarm/demo/planner.env'), 'SWARM_SIGNING_SK_B64=spoilt\n');
    const { code, stderr } = await swarm(folder, ['demo'], await options());
    expect(code).toBe(3);
    expect(stderr).toMatch(
      /planner\.env .* \(what is in \.swarm\/demo is the demo's alone and can be deleted\)\n$/,
    );
    expect(existsSync(join(folder, 'logs'))).toBe(false);
  });

  test('with the server is told with the ways to get one', async () => {
    const { code, stderr } = await swarm(newFolder(), ['demo'], {
      env: { SWARM_NATS_SERVER: '/absent' },
    });
    expect({ code, stderr }).toEqual({
      code: 3,
      stderr: expect.stringMatching(/^swarm: SWARM_NATS_SERVER names \/absent, which will not do: .*\n$/),
    });
  });

  test.each(['SIGINT', 'SIGTERM'] as const)('as %s ends it in order, server and all', async (signal) => {
    const demo = start(newFolder(), ['demo'], await options());
    await demo.says('Two agents');
    demo.signal(signal);
    const { code, stderr } = await demo.ended;
    expect(code).toBe(signal === 'SIGINT' ? 130 : 143);
    expect(stderr).not.toMatch(/swarm: /);
    const port = /127\.0\.0\.1:(\d+)/.exec(stderr)?.[1];
    await expect(fetch(`http://127.0.0.1:${port}`)).rejects.toThrow();
  });
});
