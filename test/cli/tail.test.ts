import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { expect, test } from 'vitest';
import { saveIdentity } from '../../src/identity/envfile.ts';
import { SigningKey } from '../../src/identity/key.ts';
import { closedSegments } from '../../src/log/files.ts';
import { openLog } from '../../src/log/writer.ts';
import { linesOf, said } from '../support/log.ts';
import { newFolder, session, shell, start, swarm } from './swarm.ts';

const key = SigningKey.generate();
const short = `${key.publicKey.slice(0, 8)}…`;

test.concurrent('the last records are lines for people; one that does not verify is shown with its problem', async () => {
  const folder = newFolder();
  const path = join(folder, 'logs/swarm.jsonl');
  await using log = await openLog(path, { key });
  const message = await log.append(said('one'));
  await log.append({
    ...said('one'),
    kind: 'BUS.DELIVER',
    cause: message.leaf,
    received: message,
    delivery: { stream: 'THREADS', seq: 1, consumer: 'c', attempt: 1 },
  });
  await log.append({
    ...said('', 'agent.step'),
    kind: 'AGENT.STEP',
    step: 'llm:plan',
    payload: Buffer.of(0, 255),
  });
  const payload = Buffer.from('"\u009b2J \u202e"');
  await log.append({ ...said(''), payload });
  appendFileSync(path, 'no record\u001b[2J\n');
  await saveIdentity(join(folder, '.env'), key);
  await session(
    folder,
    `
    $ swarm tail
    <time> BUS.PUBLISH ${short} thread.t.planner {"text":"one"}
    <time> BUS.DELIVER ${short} < ${short} thread.t.planner {"text":"one"}
    <time> AGENT.STEP  ${short} agent.step llm:plan base64:AP8=
    <time> BUS.PUBLISH ${short} thread.t.planner "\\u009b2J \\u202e"
    logs/swarm.jsonl:5: malformed: the header and its signature do not fit the grammar
    $ swarm keys show --name planner | swarm keys add -
    ! Added planner to swarm.keys.json. It may publish on: thread.*.planner, thread.*.planner.>
    $ swarm tail -n 4 | head -n 1
    <time> BUS.DELIVER planner < planner thread.t.planner {"text":"one"}
    $ swarm tail -n 0
    $ swarm tail -n x
    ! swarm: option '-n, --lines <n>' argument 'x' is invalid. It is not a whole number.
    ! \`swarm tail --help\` shows how it is used.
    [2]`,
  );
  const raw = await shell(folder, 'swarm tail --json -n 100');
  expect(raw.stdout).toBe(readFileSync(path, 'utf8'));
});

test.concurrent('on a terminal a line is cut to its width, and raw lines are shown, not sent', async ({
  skip,
}) => {
  const folder = newFolder();
  if ((await shell(folder, 'script --version')).code !== 0) skip('there is no script(1) here');
  const path = join(folder, 'log.jsonl');
  await using log = await openLog(path, { key });
  await log.append({ ...said(''), payload: Buffer.from(JSON.stringify('long '.repeat(100))) });
  const run = (line: string): Promise<{ stdout: string }> =>
    shell(folder, `script -qec "stty cols 60; ${line}" /dev/null < /dev/null`, { env: { TERM: 'xterm' } });
  const coloured = (await run('swarm tail log.jsonl')).stdout.trimEnd();
  expect(coloured).toContain('\u001b[1m'); // the name is bold
  const plain = (await run('NO_COLOR=1 swarm tail log.jsonl')).stdout.trimEnd();
  expect(plain).toMatch(/^.{59}…$/);
  expect(plain).not.toContain('\u001b');
  expect(stripVTControlCharacters(coloured)).toBe(plain);
  writeFileSync(path, '\u001b[2J\n');
  expect((await run('swarm tail --json log.jsonl')).stdout.trimEnd()).toBe('\\u001b[2J');
});

test.concurrent('-f goes on across rotations, until Ctrl-C, which is no failure', async () => {
  const folder = newFolder();
  const path = join(folder, 'logs/swarm.jsonl');
  await using log = await openLog(path, { key, rotateBytes: 3_000 });
  for (let n = 0; n < 3; n += 1) await log.append(said(`before ${n}`));
  const tail = start(folder, ['tail', '-n', '2', '-f']);
  await tail.says('before 2');
  for (let n = 0; n < 12; n += 1) await log.append(said(`after ${n}`));
  await tail.says('after 11');
  expect(closedSegments(path).length).toBeGreaterThan(1);
  tail.signal('SIGINT');
  const { code, stdout, stderr } = await tail.ended;
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(Array.from(stdout.matchAll(/"text":"([^"]*)"/g), (match) => match[1])).toEqual([
    'before 1',
    'before 2',
    ...Array.from({ length: 12 }, (_, n) => `after ${n}`),
  ]);
});

test.concurrent('-f waits for a log that is not there yet', async () => {
  const folder = newFolder();
  const tail = start(folder, ['tail', 'log.jsonl', '-f', '--json']);
  await tail.says('Waiting for log.jsonl');
  await using log = await openLog(join(folder, 'log.jsonl'), { key });
  await log.append(said('at last'));
  await tail.says('at last');
  tail.signal('SIGTERM');
  expect(await tail.ended).toMatchObject({ code: 0, stdout: `${linesOf(log.path)[0]}\n` });
});

test.concurrent('a log that is not there is no empty one', async () => {
  expect(await swarm(newFolder(), ['tail', 'log.jsonl'])).toEqual({
    code: 3,
    stdout: '',
    stderr:
      'swarm: there is no log at log.jsonl; name one that there is (LOG, or SWARM_LOG), or write one: `swarm demo` does, and every agent\n',
  });
});
