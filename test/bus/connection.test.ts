import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type BusOptions, connectBus } from '../../src/bus/connection.ts';
import { connectFailure } from '../../src/bus/failure.ts';
import { requireVersion } from '../../src/bus/requirements.ts';
import { temporaryFolder } from '../support/folder.ts';
import { testServer } from '../support/nats.ts';
import { failureOf, freeze, impostor, serverWith, statusesDuring } from './broker.ts';

const info = {
  server_id: 'X',
  server_name: 'x',
  version: '2.10.27',
  headers: true,
  max_payload: 1_048_576,
  proto: 1,
};
const greeting = (changed: object): string => `INFO ${JSON.stringify({ ...info, ...changed })}\r\n`;

/** Returns how connecting failed, and checks that no secret got into the words. */
async function refusal(options: BusOptions): Promise<{ code: string; message: string }> {
  const { code, message, cause } = await failureOf(connectBus({ connectTimeoutMs: 400, ...options }));
  expect(`${message} ${String(cause)}`).not.toContain('s3cret');
  return { code, message };
}

describe('the first connection fails at once, and says what to do', () => {
  test('nobody listens', async () => {
    const { code, message } = await refusal({ url: 'nats://ann:s3cret@127.0.0.1:1' });
    expect(code).toBe('BUS_UNREACHABLE');
    expect(message).toBe(
      'no NATS server answers at nats://127.0.0.1:1 (connect ECONNREFUSED 127.0.0.1:1); start one with `swarm up`, or set NATS_URL',
    );
  });

  test('there is no such host', async () => {
    const { code, message } = await refusal({ url: 'nats://nowhere.invalid' });
    expect(code).toBe('BUS_UNREACHABLE');
    expect(message).toContain('nats://nowhere.invalid:4222');
  });

  test('the server is frozen', async () => {
    await using server = await testServer({ stopWithinMs: 0 });
    await freeze(server);
    const { code, message } = await refusal({ url: server.url });
    expect(code).toBe('BUS_UNREACHABLE');
    expect(message).toContain('no greeting within 400 ms');
  });

  test('something else listens there', async () => {
    const { server, port } = await impostor('HTTP/1.1 400 Bad Request\r\n\r\n');
    onTestFinished(() => void server.close());
    const { code, message } = await refusal({ url: `127.0.0.1:${port}` });
    expect(code).toBe('BUS_UNREACHABLE');
    expect(message).toContain('what answers there is no NATS server');
  });

  test('of several addresses none is right', async () => {
    const { server, port } = await impostor('');
    onTestFinished(() => void server.close());
    const { code, message } = await refusal({ url: `nats://127.0.0.1:1,nats://127.0.0.1:${port}` });
    expect(code).toBe('BUS_UNREACHABLE');
    expect(message).toContain('connect ECONNREFUSED 127.0.0.1:1; no greeting within 400 ms');
  });

  test('the server is too old', async () => {
    const { server, port } = await impostor(greeting({ version: '2.9.25' }));
    onTestFinished(() => void server.close());
    expect(await refusal({ url: `127.0.0.1:${port}` })).toEqual({
      code: 'BUS_TOO_OLD',
      message: `nats-server 2.9.25 at nats://127.0.0.1:${port} is too old; 2.10 or newer is needed`,
    });
  });

  test('JetStream is off', async () => {
    await using server = await testServer({ jetstream: false });
    const { code, message } = await refusal({ url: server.url });
    expect(code).toBe('BUS_NO_JETSTREAM');
    expect(message).toContain('JetStream is switched off');
  });

  test('TLS is asked for and not to be had', async () => {
    await using server = await testServer();
    expect(await refusal({ url: server.url.replace('nats:', 'tls:') })).toMatchObject({ code: 'BUS_TLS' });
  });

  test('the file with the certificate authority is missing', async () => {
    const { server, port } = await impostor(greeting({ tls_required: true }));
    onTestFinished(() => void server.close());
    const { code, message } = await refusal({ url: `127.0.0.1:${port}`, tls: { caFile: '/nowhere/ca.pem' } });
    expect(message).toContain('/nowhere/ca.pem');
    expect(code).toBe('BUS_TLS');
  });

  test('the address is none', async () => {
    expect(await refusal({ url: 'ws://ann:s3cret@host' })).toMatchObject({ code: 'USAGE' });
  });
});

describe('credentials', () => {
  test('a wrong password, a wrong token and none at all are told apart, and none is repeated', async () => {
    await using server = await serverWith('authorization { user: ann, password: right }');
    const at = `127.0.0.1:${server.port}`;
    expect(await refusal({ url: `nats://ann:s3cret@${at}` })).toEqual({
      code: 'BUS_AUTH',
      message: `nats://${at} refused the user "ann" with the password in the url (authorization violation); correct the url (--url, NATS_URL), or name a credentials file (--creds, NATS_CREDS)`,
    });
    expect((await refusal({ url: `nats://s3cret@${at}` })).message).toContain(
      'refused the token in the url (authorization violation); correct the url',
    );
    expect((await refusal({ url: at })).message).toContain('asks for credentials and none were given');
    await using bus = await connectBus({ url: `nats://ann:right@${at}` });
    expect(bus.isConnected).toBe(true);
  });

  test('a token in the url is enough where the server wants one', async () => {
    await using server = await serverWith('authorization { token: "a:b@c" }');
    await using bus = await connectBus({ url: `nats://a%3Ab%40c@127.0.0.1:${server.port}` });
    expect(bus.isConnected).toBe(true);
  });

  test.each([
    ['is missing', undefined],
    ['is empty', ''],
    ['holds something else', 'hello'],
    [
      'holds a broken seed',
      '-----BEGIN NATS USER JWT-----\nx\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\ns3cret\n------END USER NKEY SEED------\n',
    ],
  ])('a credentials file that %s is named before anything is connected', async (_, content) => {
    await using folder = await temporaryFolder();
    const credentials = join(folder.path, 'me.creds');
    if (content !== undefined) await writeFile(credentials, content);
    const { code, message } = await refusal({ url: '127.0.0.1:1', credentials });
    expect(code).toBe('BUS_CREDENTIALS');
    expect(message).toContain(credentials);
  });
});

test('an inbox that the server does not permit is found out at once', async () => {
  await using server = await serverWith(
    'authorization { users: [{ user: a, password: b, permissions: { subscribe: { deny: "mine.>" } } }] }',
  );
  const { code, message } = await refusal({
    url: `nats://a:b@127.0.0.1:${server.port}`,
    inboxPrefix: 'mine',
  });
  expect(code).toBe('BUS_PERMISSION');
  expect(message).toMatch(
    /does not permit subscribing to replies on mine\..*; permit it, or choose another inboxPrefix$/,
  );
});

describe('an established connection', () => {
  test('says who the server is, measures a round trip, and closes', async () => {
    await using server = await testServer({ serverName: 'broker-1' });
    const bus = await connectBus({ url: server.url });
    expect(bus.serverName).toBe('broker-1');
    expect(bus.maxPayload).toBe(1_048_576);
    expect(await bus.roundTripMs()).toBeGreaterThanOrEqual(0);
    await bus.close();
    await bus.close();
    expect(await bus.closed).toBeUndefined();
    expect(bus.isConnected).toBe(false);
    expect(await failureOf(bus.roundTripMs())).toMatchObject({ code: 'BUS_UNREACHABLE' });
  });

  test('mends itself, says each change once, and counts its sessions', async () => {
    await using server = await testServer();
    const heard = await statusesDuring(async () => {
      await using bus = await connectBus({ url: server.url, reconnectWaitMs: 20 });
      const reconnected = new Promise<void>((resolve) => {
        bus.listen({ reconnected: resolve });
      });
      server.kill('SIGKILL');
      await server.exited;
      await new Promise((resolve) => setTimeout(resolve, 150)); // several attempts fail
      expect(bus.isConnected).toBe(false);
      await server.restart();
      await reconnected;
      expect(bus.session).toBe(2);
    });
    expect(heard.map(({ status }) => status)).toEqual(['connected', 'disconnected', 'reconnected']);
  });

  test('goes on trying while the server refuses the credentials', async () => {
    const config = (password: string): string => `authorization { user: ann, password: ${password} }`;
    await using folder = await temporaryFolder();
    const configFile = join(folder.path, 'server.conf');
    await writeFile(configFile, config('right'));
    await using server = await testServer({ configFile });
    await using bus = await connectBus({
      url: `nats://ann:right@127.0.0.1:${server.port}`,
      reconnectWaitMs: 20,
    });
    const reconnected = new Promise<void>((resolve) => {
      bus.listen({ reconnected: resolve });
    });
    await writeFile(configFile, config('changed'));
    const heard = await statusesDuring(async () => {
      await server.restart();
      await new Promise((resolve) => setTimeout(resolve, 200));
    });
    expect(heard.map(({ detail }) => detail).join()).toContain('Authorization Violation');
    await writeFile(configFile, config('right'));
    await server.restart();
    await reconnected;
    expect(bus.isConnected).toBe(true);
  });

  test('is made to whichever of several addresses answers', async () => {
    await using server = await testServer();
    await using bus = await connectBus({ url: `nats://127.0.0.1:1,${server.url}` });
    expect(bus.isConnected).toBe(true);
  });

  test('closes while the server is frozen', async () => {
    await using server = await testServer({ stopWithinMs: 0 });
    const bus = await connectBus({ url: server.url, reconnectWaitMs: 20 });
    await freeze(server);
    const started = performance.now();
    await bus.close();
    expect(performance.now() - started).toBeLessThan(10_000);
  });
});

test.each(['2.9.99', '1.4.0', '0', '', 'x'])('a server that calls itself %j is too old', (version) => {
  expect(() => requireVersion(version, 'nats://host')).toThrow(
    expect.objectContaining({ code: 'BUS_TOO_OLD' }),
  );
});

test.each(['2.10.0', '2.10.27', '2.12.0-beta', '3.0.0'])(
  'a server that calls itself %j is new enough',
  (version) => {
    expect(() => requireVersion(version, 'nats://host')).not.toThrow();
  },
);

test.each(['DEPTH_ZERO_SELF_SIGNED_CERT', 'CERT_HAS_EXPIRED', 'ERR_TLS_CERT_ALTNAME_INVALID', 'EPROTO'])(
  'a socket that fails with %s is a matter of TLS',
  (code) => {
    const thrown = Object.assign(new Error('handshake'), { code });
    const attempt = { shown: 'tls://host:4222', loginWords: '', timeoutMs: 1 };
    expect(connectFailure(thrown, attempt)).toMatchObject({ code: 'BUS_TLS', cause: thrown });
  },
);
