/** What a person at the command hears of a seal that fails. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { linesOf } from '../support/log.ts';
import { testServer } from '../support/nats.ts';
import { newFolder, saveAgent, session } from './swarm.ts';

test('a seal that fails is a warning, and what was said is said', async () => {
  const folder = newFolder();
  await using server = await testServer();
  await saveAgent(folder, 'planner');
  mkdirSync(join(folder, 'logs'));
  writeFileSync(join(folder, 'logs/swarm.tlog'), 'in the way of the folder');
  await session(
    folder,
    `
    $ swarm pub thread.t.planner '{}'
    thread.t.planner  seq 1  leaf <hash>
    ! swarm: warning: cannot seal the log <...>logs/swarm.jsonl: <...>`,
    { env: { NATS_URL: server.url } },
  );
  expect(linesOf(join(folder, 'logs/swarm.jsonl'))).toHaveLength(1);
});
