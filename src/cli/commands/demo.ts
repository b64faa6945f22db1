/**
 * `swarm demo`: the whole of it once, for real: a broker, two agents with keys of their own, one message, its log.
 *
 * It keeps to itself: the broker is private and gone afterwards, the keys are the demo's, and of the environment only
 * the path of nats-server counts. What it leaves is the log, to look at, and the keyring to verify it with.
 */
import { inspect } from 'node:util';
import type { Command } from '@commander-js/extra-typings';
import type { Message } from '../../agent/message.ts';
import type { Published } from '../../agent/outbox.ts';
import type { SettingSources } from '../../agent/settings.ts';
import { joinSwarm } from '../../agent/swarm.ts';
import { SwarmError } from '../../base/errors.ts';
import { loadKeyring } from '../../identity/keyring.ts';
import { readLog } from '../../log/reader.ts';
import { verifyRecord } from '../../record/line.ts';
import { findNatsServer } from '../../server/find.ts';
import { startNatsServer } from '../../server/nats-server.ts';
import { verifyLog } from '../../verify/verify.ts';
import { demoAgentsIn } from '../demo-agents.ts';
import type { Invocation } from '../invocation.ts';
import { tellOfEvents } from '../joining.ts';
import type { Output } from '../output.ts';
import { printReport } from '../report.ts';
import { setLogAside } from '../set-aside.ts';

const folder = '.swarm/demo';
const state = `${folder}/sealed`;
const log = 'logs/swarm.jsonl';
const subject = 'thread.demo-thread.planner';
const heardWithinMs = 30_000;

export function define(command: Command, { out, interruption, end }: Invocation): void {
  command
    .description(
      `Run two agents against a NATS server of their own, in the current folder: planner publishes one message, listener
hears it, and the log that both wrote (${log}) is verified. A log that is there already is moved aside. Keys and keyring
of the two stay in ${folder}.`,
    )
    .addHelpText(
      'after',
      `
Examples:
  $ swarm demo`,
    )
    .action(async () => {
      const { path, version } = await findNatsServer({ download: true, note: (line) => out.note(line) });
      const interrupted = interruption.take();
      const stopTelling = tellOfEvents(out);
      try {
        await using server = await startNatsServer({ path });
        interrupted.throwIfAborted();
        out.note(`A broker:   nats-server ${version} at ${server.url}, for this demo alone`);
        const keyring = await converse(server.url, out, interrupted);
        if (!(await proves(keyring, out))) return end('findings');
      } finally {
        stopTelling();
      }
      out.note('');
      out.note('What to try next:');
      out.note(`  npx swarm tail --keyring ${folder}/swarm.keys.json     read the log`);
      out.note(`  npx swarm verify --keyring ${folder}/swarm.keys.json   … after changing a byte of ${log}`);
    });
}

/** Has planner speak and listener hear, on a log that begins with it; returns the path of their keyring. */
async function converse(url: string, out: Output, interrupted: AbortSignal): Promise<string> {
  const agents = await demoAgentsIn(folder);
  out.note(
    `Two agents: planner and listener, with keys ${agents.made ? 'made now' : 'from before'} in ${folder}`,
  );
  const aside = await setLogAside(log);
  if (aside !== undefined) out.note(`The log that was here is now ${aside}`);

  const settings: SettingSources = { url, log, keyring: agents.keyring, state, environment: {} };
  await using listener = await joinSwarm({ ...settings, env: agents.listener });
  await using planner = await joinSwarm({ ...settings, env: agents.planner });
  const subscription = listener.subscribe('thread.demo-thread.>', { durable: 'listener' });
  await subscription.ready();
  out.note('listener    subscribes to thread.demo-thread.>');

  const stop = (): void => void subscription.stop(); // `next` returns then
  interrupted.addEventListener('abort', stop, { once: true });
  const timer = setTimeout(stop, heardWithinMs);
  try {
    const published = await planner.publish(subject, { hello: 'world', n: 1 });
    out.note(`planner     signs a message, logs it, publishes it on ${subject}`);
    const message = await subscription.next();
    interrupted.throwIfAborted();
    if (message === undefined) {
      throw new SwarmError('BUS_CONSUMER', `listener heard nothing for ${heardWithinMs / 1000} s`);
    }
    out.note('listener    checks signature, key, right and payload, logs the delivery, and handles it:');
    out.data(`Got: ${inspect(message.payload)}`);
    await message.ack();
    await requireRecords(published, message);
  } finally {
    clearTimeout(timer);
  }
  return agents.keyring;
}

/** Throws `LOG_OPEN` unless the log holds what was published, what was delivered because of it, and nothing else. */
async function requireRecords({ record }: Published, { delivery }: Message): Promise<void> {
  const kinds: string[] = [];
  for await (const { bytes } of readLog(log)) kinds.push(verifyRecord(bytes).record?.leaf ?? 'malformed');
  const isWhole =
    kinds.join() === [record.leaf, delivery.leaf].join() && delivery.header.cause === record.leaf;
  if (!isWhole) {
    throw new SwarmError(
      'LOG_OPEN',
      `${log} holds ${kinds.length} records other than the message and its delivery; does another agent log there?`,
    );
  }
}

/** Verifies the log and says so; reports whether it is as it should be. */
async function proves(keyringFile: string, out: Output): Promise<boolean> {
  const { keyring } = await loadKeyring(keyringFile);
  out.note(`Both have left. The log ${log}, against the keyring ${keyringFile}:`);
  const report = await verifyLog(log, { keyring });
  printReport(report, out);
  return report.bad === 0 && report.verified === 2;
}
