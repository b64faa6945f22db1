/** What the documentation says that a reader will see is what the reader sees. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expectSameHistory } from 'can-swarm/testing';
import { beforeAll, expect, test } from 'vitest';
import { team } from '../../examples/research-team/team.ts';
import { loadKeyring } from '../../src/identity/keyring.ts';
import { verifyRecord } from '../../src/record/line.ts';
import { verifyLog } from '../../src/verify/verify.ts';
import { linesOf, temporaryFolder } from '../support/log.ts';
import { natsServerPath } from '../support/nats.ts';
import { project, readPage } from './markdown.ts';
import { layOutClone, play } from './session.ts';

const twoMinutes = 120_000;

beforeAll(async () => {
  await promisify(execFile)(process.execPath, ['scripts/build.mjs', '--if-needed'], { cwd: project });
}, twoMinutes);

test(
  'README.md: the demo, two agents with keys of their own on one log, and its verification',
  async () => {
    const folder = temporaryFolder();
    layOutClone(folder);
    await play(readPage('README.md'), folder, await natsServerPath());

    const log = join(folder, 'logs/swarm.jsonl');
    const { keyring } = await loadKeyring(join(folder, 'swarm.keys.json'));
    expect(await verifyLog(log, { keyring })).toMatchObject({
      verified: 2,
      bad: 0,
      counted: { unresolved: 0 },
    });
    const [published, delivered] = linesOf(log).map((line) => verifyRecord(line).record);
    expect(published?.header.kind).toBe('BUS.PUBLISH');
    expect(delivered?.header).toMatchObject({ kind: 'BUS.DELIVER', cause: published?.leaf });
    const writers = [published, delivered].map(
      (record) => record && keyring.find(record.header.signer)?.agent.name,
    );
    expect(writers).toEqual(['planner', 'listener']);
  },
  twoMinutes,
);

test.each(['docs/cli.md', 'docs/replay.md'])(
  '%s: its session',
  async (page) => {
    const folder = temporaryFolder();
    layOutClone(folder);
    await play(readPage(page), folder, await natsServerPath());
  },
  twoMinutes,
);

test(
  'examples/research-team/README.md: its session, whose log the team does again',
  async () => {
    const folder = temporaryFolder();
    layOutClone(folder);
    await play(readPage('examples/research-team/README.md'), folder, await natsServerPath());

    const keyring = join(folder, 'swarm.keys.json');
    for (const agent of team) await expectSameHistory(agent, join(folder, 'logs/swarm.jsonl'), { keyring });
  },
  twoMinutes,
);
