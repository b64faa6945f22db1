/**
 * What an agent may ack at a broker that knows the agents, in either form in which servers spell acknowledgements: on the
 * project's nats-server and on the newest, and there also with the form that is to come (`js_ack_fc_v2`, since 2.14).
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { isPermissionRefused } from '../../src/bus/requirements.ts';
import { updateKeyring, withOperator } from '../../src/identity/keyring-edit.ts';
import { compareVersions } from '../../src/server/version.ts';
import { failureOf } from '../bus/broker.ts';
import { SecuredPlace } from '../cli/secured.ts';
import { testedServers } from '../support/servers.ts';

/** Returns a nats-server that spells acknowledgements in the form that is to come. */
function spelledAnew(path: string, folder: string): string {
  const program = join(folder, 'nats-server-anew');
  const own = join(folder, 'anew.conf');
  writeFileSync(
    program,
    `#!/bin/sh
for arg; do case $arg in */nats-server.conf)
  { cat "$arg"; echo 'feature_flags { js_ack_fc_v2: true }'; } > '${own}'; set -- "$@" -c '${own}' ;;
esac; done
exec '${path}' "$@"
`,
    { mode: 0o755 },
  );
  return program;
}

for (const { path, version, isMissing } of await testedServers()) {
  describe.skipIf(isMissing)(`nats-server ${version}`, () => {
    const forms = isMissing || compareVersions(version, '2.14.0') < 0 ? [9] : [9, 11];
    test.each(forms)('what an agent is handed under %i tokens it acks, and nobody else', async (tokens) => {
      const place = new SecuredPlace();
      await place.add('boss');
      await place.add('planner', { durables: { planner: 'thread.>' } });
      await place.add('listener', { durables: { listener: 'thread.>', other: 'thread.>' } });
      await updateKeyring(place.keyring, (keyring) => withOperator(keyring, 'boss'));
      const program = tokens === 9 ? path : spelledAnew(path, place.folder);
      const broker = await place.up('--env', 'boss.env', '--server', program);
      {
        await using planner = await place.joinAs('planner');
        await using boss = await place.busOf('boss');
        const seen = async (durable: string): Promise<number> =>
          (await boss.manager.consumers.info('THREADS', durable)).ack_floor.stream_seq;
        await planner.publish('thread.t.planner', 'heard');

        const thief = await place.clientOf('planner');
        const client = await place.clientOf('listener');
        const inbox = '_INBOX_listener.next';
        const handed = new Promise<string>((resolve) => {
          client.subscribe(inbox, { max: 1, callback: (_, { reply = '' }) => resolve(reply) });
        });
        client.publish('$JS.API.CONSUMER.MSG.NEXT.THREADS.other', '{"batch":1}', { reply: inbox });
        const reply = await handed;
        expect(reply.split('.')).toHaveLength(tokens);
        // Nobody's but the one that it was handed to, in both forms, and in one that reads as the other.
        const anothers = reply.replace('.other.', '.listener.');
        const planners = `$JS.ACK.THREADS.planner.${reply.split('.').slice(-7).join('.')}`;
        for (const subject of [reply, anothers, planners]) {
          const thrown = await failureOf(thief.request(subject, '+ACK', { timeout: 5_000 }));
          expect([subject, isPermissionRefused(thrown)]).toEqual([subject, true]);
        }
        expect(await seen('other')).toBe(0);
        await client.request(reply, '+ACK', { timeout: 5_000 });
        expect(await seen('other')).toBe(1);
        await client.close();
        await thief.close();

        await using listener = await place.joinAs('listener');
        const heard = new Promise<unknown>((resolve) => {
          void listener.handle('thread.>', { durable: 'listener' }, async ({ payload }) => resolve(payload));
        });
        expect(await heard).toBe('heard');
        await expect.poll(() => seen('listener')).toBe(1);
      }
      broker.signal('SIGINT');
      expect((await broker.ended).code).toBe(0);
    });
  });
}
