/**
 * Much talk through two agents and a broker, each agent a process with a log of its own: memory does not grow with it, and
 * both logs verify and agree with the stream. MESSAGES=1000000 takes a million; less is for every day.
 */
import { once } from 'node:events';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { reconcile } from '../../src/agent/reconcile.ts';
import { connectBus } from '../../src/bus/connection.ts';
import { loadKeyring } from '../../src/identity/keyring.ts';
import { logFiles } from '../../src/log/files.ts';
import { verifyLog } from '../../src/verify/verify.ts';
import { agentsIn, type Place } from '../support/agents.ts';
import { temporaryFolder } from '../support/log.ts';
import { testServer } from '../support/nats.ts';
import { startProgram } from '../support/program.ts';

const messages = Number(process.env.MESSAGES ?? 100_000);
const names = ['planner', 'listener'] as const;
const grownAtMost = 50e6;
const withinMs = 10 * 60_000 + 5 * messages;

interface Memory {
  /** After so many messages. */
  readonly at: number;
  /** In bytes. */
  readonly rss: number;
  readonly heap: number;
}

/** Runs one end of the talk, and returns what memory it used on the way. */
async function run({ folder }: Place, url: string, name: string): Promise<Memory[]> {
  const args = [folder, url, name, String(messages)];
  const child = startProgram('test/fixtures/measured-agent.ts', args, {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let told = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    told += text;
  });
  const [code] = await once(child, 'close');
  expect([name, code]).toEqual([name, 0]);
  return told
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Memory);
}

const inMegabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;

test(
  `${messages} messages leave memory as it was after a fifth of them, and logs and stream that agree`,
  async () => {
    await using server = await testServer();
    const place = await agentsIn(temporaryFolder(), server.url, names);
    const started = performance.now();
    const memories = await Promise.all(names.map((name) => run(place, server.url, name)));
    console.log(`${messages} messages in ${((performance.now() - started) / 1000).toFixed(0)} s`);
    for (const [index, name] of names.entries()) {
      const [atFifth, atEnd] = memories[index] ?? [];
      if (atFifth === undefined || atEnd === undefined) throw new Error(`${name} does not tell its memory`);
      const { rss, heap } = { rss: atEnd.rss - atFifth.rss, heap: atEnd.heap - atFifth.heap };
      console.log(
        `${name}: ${inMegabytes(atEnd.rss)} resident (${inMegabytes(rss)} more), heap ${inMegabytes(atEnd.heap)} (${inMegabytes(heap)} more)`,
      );
      expect([atFifth.at, atEnd.at]).toEqual([Math.floor(messages / 5), messages]);
      expect(rss).toBeLessThan(grownAtMost);
      expect(heap).toBeLessThan(grownAtMost);
    }

    const { keyring } = await loadKeyring(place.keyring);
    await using bus = await connectBus({ url: server.url });
    for (const name of names) {
      const log = join(place.folder, name, 'swarm.jsonl');
      const report = await verifyLog(log, { keyring });
      console.log(`${name}: ${report.verified} records in ${logFiles(log).length} files, ${report.verdict}`);
      expect(report).toMatchObject({ findings: [], bad: 0, counted: { withheld: 0 } });
      expect(report.verified).toBeGreaterThanOrEqual(messages);
      const reconciled = await reconcile(bus, { log, stream: 'THREADS', keyring });
      expect(reconciled).toMatchObject({
        messages,
        differences: [],
        counted: { agreed: messages, repeated: 0, unsent: 0, elsewhere: 0, stale: 0 },
      });
    }
  },
  withinMs,
);
