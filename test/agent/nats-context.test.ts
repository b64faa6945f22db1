/** How an agent connects, said as the nats CLI has it: files for TLS, and contexts. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { busOptionsOf } from '../../src/agent/self.ts';
import { readSettings, type Settings } from '../../src/agent/settings.ts';
import { connectBus } from '../../src/bus/connection.ts';
import type { EnvValues } from '../../src/identity/envfile.ts';
import { failureOf, serverWith } from '../bus/broker.ts';
import { temporaryFolder } from '../support/log.ts';

/** Returns the settings where NATS_CONTEXT names a context of these members. */
async function settingsWith(members: object, environment: EnvValues = {}): Promise<Settings> {
  const home = temporaryFolder();
  const folder = join(home, '.config/nats/context');
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'work.json'), JSON.stringify(members));
  return await readSettings({ environment: { HOME: home, NATS_CONTEXT: 'work', ...environment } });
}

describe('a context of the nats CLI', () => {
  test('says where and how to connect', async () => {
    const settings = await settingsWith({
      description: 'at work',
      url: 'tls://broker:4222',
      creds: '~/me.creds',
      ca: '/etc/ca.pem',
      cert: '',
      inbox_prefix: '_MINE',
      color_scheme: 'blue',
      tls_first: false,
    });
    const home = settings.environment.HOME;
    expect(busOptionsOf(settings, undefined, 'me')).toEqual({
      url: 'tls://broker:4222',
      credentials: `${home}/me.creds`,
      tls: { caFile: '/etc/ca.pem' },
      inboxPrefix: '_MINE',
      name: 'me',
    });
  });

  test('gives way to what the environment says', async () => {
    const environment = { NATS_URL: 'nats://here', NATS_CREDS: 'my.creds', NATS_CA: 'my.pem' };
    expect(await settingsWith({ url: 'nats://there', creds: 'x', ca: 'y' }, environment)).toMatchObject({
      url: 'nats://here',
      credentials: 'my.creds',
      tls: { caFile: 'my.pem' },
    });
  });

  test.each([
    [{ url: 'nats://host', user: 'ann', password: 'p@ss,word' }, 'nats://ann:p%40ss%2Cword@host'],
    [{ url: 'host:4333', token: 't' }, 'nats://t@host:4333'],
    [{ user: 'ann', password: 'x' }, 'nats://ann:x@127.0.0.1:4222'],
    [{ url: 'tls://a,tls://b', token: 't' }, 'tls://t@a,tls://b'],
  ])('holds a login, as in %j', async (members, url) => {
    expect((await settingsWith(members)).url).toBe(url);
  });

  test('has its login and its files go with what the environment says besides', async () => {
    const members = { url: 'nats://there', user: 'ann', password: 'x', cert: 'c', key: 'k', ca: 'y' };
    expect(await settingsWith(members, { NATS_URL: 'nats://here', NATS_CA: 'my.pem' })).toMatchObject({
      url: 'nats://ann:x@here',
      tls: { caFile: 'my.pem', certFile: 'c', keyFile: 'k' },
    });
    const own = await settingsWith(members, { NATS_URL: 'nats://me:mine@here' });
    expect(own.url).toBe('nats://me:mine@here');
  });

  test.each([
    [{ url: 'nats://host', password: 's3cret' }, 'a password without a user'],
    [{ url: 'nats://host', user: 'ann', token: 's3cret' }, 'a token and a user'],
  ])('that half says a login, as %j, is an error', async (members, says) => {
    const failure = await failureOf(settingsWith(members));
    expect(failure).toMatchObject({ code: 'BUS_CONTEXT', message: expect.stringContaining(says) });
    expect(failure.message).not.toContain('s3cret');
  });

  test.each(['nsc', 'nkey', 'user_jwt', 'socks_proxy', 'jetstream_domain', 'windows_cert_store', 'newer'])(
    'that asks for %s, which is not supported, is an error and never half obeyed',
    async (member) => {
      const failure = await failureOf(settingsWith({ url: 'nats://host', [member]: 's3cret' }));
      expect(failure).toMatchObject({
        code: 'BUS_CONTEXT',
        message: expect.stringMatching(
          new RegExp(`/work\\.json \\(NATS_CONTEXT\\) has "${member}", which is not`),
        ),
      });
      expect(failure.message).not.toContain('s3cret');
    },
  );

  test('that is not there, is no JSON, or has two logins is an error', async () => {
    const missing = readSettings({ environment: { HOME: temporaryFolder(), NATS_CONTEXT: 'none' } });
    expect(await failureOf(missing)).toMatchObject({
      code: 'BUS_CONTEXT',
      message: expect.stringContaining('none.json (NATS_CONTEXT): ENOENT'),
    });
    const path = join(temporaryFolder(), 'x.json');
    writeFileSync(path, '{"password": "s3cret"');
    const failure = await failureOf(readSettings({ environment: { NATS_CONTEXT: path } }));
    expect(failure.message).toBe(`cannot read the context ${path} (NATS_CONTEXT): it is not JSON`);
    const two = settingsWith({ url: 'nats://a:b@host', token: 't' });
    expect(await failureOf(two)).toMatchObject({ code: 'BUS_CONTEXT' });
  });
});

test('a server that asks for certificates is shown the one that NATS_CERT and NATS_KEY name', async ({
  skip,
}) => {
  const folder = temporaryFolder();
  const openssl = (...args: string[]): void => {
    execFileSync('openssl', args, { cwd: folder, stdio: 'ignore' });
  };
  try {
    openssl('version');
  } catch {
    skip('there is no openssl here');
  }
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'];
  openssl(
    'req',
    '-x509',
    '-newkey',
    'rsa:2048',
    '-nodes',
    '-keyout',
    'key.pem',
    '-out',
    'cert.pem',
    ...subject,
  );
  const file = (name: string): string => join(folder, name);
  await using server = await serverWith(
    `tls { cert_file: "${file('cert.pem')}", key_file: "${file('key.pem')}", ca_file: "${file('cert.pem')}", verify: true }`,
  );
  const connecting = async (environment: EnvValues): Promise<string> => {
    const settings = await readSettings({
      environment: { NATS_URL: `tls://localhost:${server.port}`, ...environment },
    });
    await using bus = await connectBus(busOptionsOf(settings, undefined, undefined));
    return bus.serverName;
  };
  const all = { NATS_CA: file('cert.pem'), NATS_CERT: file('cert.pem'), NATS_KEY: file('key.pem') };
  expect(await connecting(all)).not.toBe('');
  expect(await failureOf(connecting({ ...all, NATS_CA: '' }))).toMatchObject({ code: 'BUS_TLS' });
  // The server says nothing to who shows no certificate.
  expect((await failureOf(connecting({ NATS_CA: all.NATS_CA }))).code).toMatch(/^BUS_(?:TLS|UNREACHABLE)$/);
  const absent = await failureOf(connecting({ ...all, NATS_CA: file('absent.pem') }));
  expect(absent).toMatchObject({ code: 'BUS_TLS', message: expect.stringContaining('absent.pem') });
});
