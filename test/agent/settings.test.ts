/** Where an agent's settings come from, and which are refused before anything is opened. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readSettings } from '../../src/agent/settings.ts';
import { joinSwarm } from '../../src/agent/swarm.ts';
import { agentsIn } from '../support/agents.ts';
import { temporaryFolder } from '../support/log.ts';

describe('an empty value', () => {
  test('in the env file is none: what stands elsewhere counts', async () => {
    const env = join(temporaryFolder(), 'agent.env');
    writeFileSync(env, 'NATS_URL=\nSWARM_STREAM=""\nSWARM_LOG=mine.jsonl\nSWARM_KEYRING=\nSWARM_NAME=\n');
    const environment = { NATS_URL: 'nats://elsewhere:4222', SWARM_LOG: 'theirs.jsonl' };
    expect(await readSettings({ env, environment })).toMatchObject({
      url: 'nats://elsewhere:4222',
      stream: 'THREADS',
      log: 'mine.jsonl',
      keyring: 'swarm.keys.json',
      keyringNamed: false,
      swarm: undefined,
    });
  });

  test('in the environment is none either', async () => {
    const env = join(temporaryFolder(), 'agent.env');
    writeFileSync(env, 'NATS_URL=nats://here:4222\n');
    const settings = await readSettings({ env, environment: { NATS_URL: '', SWARM_STREAM: '' } });
    expect(settings).toMatchObject({ url: 'nats://here:4222', stream: 'THREADS' });
  });
});

test.each(['my=threads', 'a.b', 'a b', '', 'x'.repeat(65)])(
  'a stream of the name %j, which no record can hold, is refused before anything is opened',
  async (stream) => {
    const place = await agentsIn(temporaryFolder(), 'nats://127.0.0.1:1', ['planner']);
    const env = join(place.folder, 'planner.env');
    await expect(
      joinSwarm({ env, environment: {}, url: 'nats://127.0.0.1:1', stream }),
    ).rejects.toMatchObject({
      code: 'USAGE',
      message: expect.stringContaining(JSON.stringify(stream)),
    });
  },
);
