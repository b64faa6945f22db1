/**
 * `swarm doctor`: is all there that an agent needs, here and at the broker? Nothing is mended, and nothing is left behind
 * but one message of the round trip.
 */
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Command } from '@commander-js/extra-typings';
import { busOptionsOf, loadKey, loadKnownKeys } from '../../agent/self.ts';
import { readSettings, type SettingSources, type Settings } from '../../agent/settings.ts';
import { joinSwarm } from '../../agent/swarm.ts';
import { messageOf, SwarmError } from '../../base/errors.ts';
import { type Bus, connectBus } from '../../bus/connection.ts';
import { examineClock, examineDurable, examineStreams, removeDurable } from '../../bus/examine.ts';
import type { SigningKey } from '../../identity/key.ts';
import type { Agent, Keyring } from '../../identity/keyring.ts';
import { readServerFacts } from '../../server/monitoring.ts';
import { verifyLog } from '../../verify/verify.ts';
import type { Invocation } from '../invocation.ts';
import { settingsOf, takingSettings } from '../options.ts';
import { type Output, styled } from '../output.ts';

type Level = 'ok' | 'warning' | 'failed' | 'unknown';

interface Check {
  readonly name: string;
  readonly level: Level;
  /** What was found, and the way out where it is not as it should be. */
  readonly says: string;
}

export function define(command: Command, { out, end }: Invocation): void {
  takingSettings(command)
    .description(
      `Look at all that an agent needs: its keys, what the keyring and the broker let it do, the clock, the disk, the server and its
settings, the streams, its durables; then say something, hear it, log both and verify the log. A line for each, with the
way out. Nothing is changed, but for one small message on a thread of its own that stays in the stream.`,
    )
    .option(
      '--monitor <url>',
      "the server's monitoring (default: port 8222 of the first of --url; of a cluster, name one server alone there)",
    )
    .option('--no-round-trip', 'say nothing')
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      `
Examples:
  $ swarm doctor
  $ swarm doctor --env boss.env --json | jq '.checks[] | select(.level != "ok")'

Exit codes: 0 nothing failed (warnings may be there), 1 something failed, 3 no broker could be asked.`,
    )
    .action(async ({ monitor, roundTrip, json, ...options }) => {
      const settings = await readSettings(settingsOf(options));
      const examination = new Examination(out, json === true);
      const me = await examination.look('keys', () => examineKeys(settings));
      await examination.look('disk', async () => ({ check: await examineDisk(settings) }));
      let hasStream = false;
      try {
        await using bus = await connectBus(busOptionsOf(settings, me?.key, me?.agent?.name));
        hasStream = await examineBroker(examination, bus, { settings, me, monitor });
      } catch (thrown) {
        examination.add({ name: 'broker', level: 'failed', says: messageOf(thrown) });
        examination.close();
        throw thrown;
      }
      if (roundTrip && hasStream)
        await examination.look('round trip', () => examineRoundTrip(settingsOf(options), settings, me));
      else if (roundTrip)
        examination.add({
          name: 'round trip',
          ...unknown('not tried: it would make the stream, as it finds fit'),
        });
      examination.close();
      if (examination.hasFailed) end('findings');
    });
}

interface Me {
  readonly key: SigningKey;
  readonly keyring: Keyring | undefined;
  readonly agent: Agent | undefined;
}

type Looked<Found> = { readonly check: Omit<Check, 'name'>; readonly found?: Found };

const ok = (says: string): Omit<Check, 'name'> => ({ level: 'ok', says });
const warning = (says: string): Omit<Check, 'name'> => ({ level: 'warning', says });
const failed = (says: string): Omit<Check, 'name'> => ({ level: 'failed', says });
const unknown = (says: string): Omit<Check, 'name'> => ({ level: 'unknown', says });

/** The checks so far, each said as it is known. */
class Examination {
  readonly #checks: Check[] = [];
  readonly #out: Output;
  readonly #asJson: boolean;

  constructor(out: Output, asJson: boolean) {
    this.#out = out;
    this.#asJson = asJson;
  }

  get hasFailed(): boolean {
    return this.#checks.some(({ level }) => level === 'failed');
  }

  add(check: Check): void {
    this.#checks.push(check);
    if (this.#asJson) return;
    const style = { ok: 'green', warning: 'yellow', failed: 'red', unknown: 'dim' } as const;
    const { name, level, says } = check;
    this.#out.data(styled(style[level], level.padEnd(7)), `  ${name.padEnd(12)}  ${says}`);
  }

  /** Adds what `look` finds, or that it failed, and returns the rest of what it found. */
  async look<Found>(name: string, look: () => Promise<Looked<Found>>): Promise<Found | undefined> {
    try {
      const { check, found } = await look();
      this.add({ name, ...check });
      return found;
    } catch (thrown) {
      this.add({ name, ...failed(messageOf(thrown)) });
      return undefined;
    }
  }

  close(): void {
    if (this.#asJson) this.#out.json({ checks: this.#checks });
  }
}

async function examineKeys(settings: Settings): Promise<Looked<Me>> {
  const { key, warnings } = await loadKey(settings);
  const keyring = (await loadKnownKeys(settings))?.keyring;
  const known = keyring?.find(key.publicKey);
  const found = { key, keyring, agent: known?.agent };
  const check = (): Omit<Check, 'name'> => {
    if (keyring === undefined) return warning(`there is no ${settings.keyring}: only our own key counts`);
    if (known === undefined) {
      return failed(
        `${settings.keyring} does not have our key ${key.publicKey}; \`swarm keys add\` our line`,
      );
    }
    const { name, publish } = known.agent;
    if (known.key.revoked !== undefined) {
      return failed(`our key is revoked in ${settings.keyring}; \`swarm keys new --force\` makes another`);
    }
    if (warnings.length > 0) return warning(warnings.join('; '));
    if (known.key.checkpoint === undefined || known.key.nkey === undefined) {
      return warning(
        `${settings.keyring} lacks further keys of ${name}; \`swarm keys add "$(swarm keys show)"\``,
      );
    }
    return ok(`we are ${name}, and may publish on ${publish.join(', ') || 'nothing'}`);
  };
  return { check: check(), found };
}

const mib = 1024 * 1024;

async function examineDisk({ log }: Settings): Promise<Omit<Check, 'name'>> {
  let folder = dirname(log);
  let facts = await statfs(folder).catch(() => undefined);
  while (facts === undefined && folder !== dirname(folder)) {
    folder = dirname(folder);
    facts = await statfs(folder).catch(() => undefined);
  }
  if (facts === undefined) return unknown(`where ${log} is to be, there is no folder`);
  const freeMib = Math.floor((facts.bavail * facts.bsize) / mib);
  const says = `${freeMib} MiB free for ${log}`;
  if (freeMib < 100) return failed(`${says}; make room: an agent that cannot log says nothing`);
  return freeMib < 1024 ? warning(`${says}; make room before it is gone`) : ok(says);
}

interface BrokerExamined {
  readonly settings: Settings;
  readonly me: Me | undefined;
  readonly monitor: string | undefined;
}

const manyPending = 10_000;

/** Reports whether there is the stream. */
async function examineBroker(
  examination: Examination,
  bus: Bus,
  { settings, me, monitor }: BrokerExamined,
): Promise<boolean> {
  const { stream } = settings;
  examination.add({ name: 'broker', ...ok(`nats-server ${bus.serverVersion} at ${bus.address}`) });
  await examination.look('settings', async () => ({ check: await examineServer(bus, monitor) }));
  const streams = await examination.look('streams', async () => {
    const found = await examineStreams(bus, stream);
    const differing = found.filter(({ differences }) => (differences?.length ?? 0) > 0);
    const missing = found.filter(({ differences }) => differences === undefined).map(({ name }) => name);
    const names = found.map(({ name, differences, replicas, lastSeq }) =>
      differences === undefined ? `no ${name} yet` : `${name} up to ${lastSeq} (copies: ${replicas})`,
    );
    if (differing.length > 0) {
      const list = differing.map(({ name, differences = [] }) => `${name}: ${differences.join(', ')}`);
      return { found, check: failed(`not as they must be: ${list.join('; ')}; change them, or name others`) };
    }
    if (!missing.includes(stream)) return { found, check: ok(names.join(', ')) };
    return { found, check: warning(`there is no ${stream} yet; the first agent makes it, or the operator`) };
  });
  const threads = streams?.find(({ name }) => name === stream);
  if (threads?.differences === undefined) {
    examination.add({
      name: 'clock',
      ...unknown(`without a stream ${stream} the broker does not say its time`),
    });
    return false;
  }
  await examination.look('clock', async () => {
    const { offset, verdict } = await examineClock(bus, stream);
    const says = `${(Number(offset.offsetNs) / 1e6).toFixed(1)} ms between the broker's clock and ours`;
    if (verdict === 'hopeless')
      return { check: failed(`${says}; set it (NTP): every message would be stale`) };
    return { check: verdict === 'fine' ? ok(says) : warning(`${says}; set it (NTP)`) };
  });
  for (const durable of Object.keys(me?.agent?.durables ?? {})) {
    await examination.look(`durable`, async () => {
      const found = await examineDurable(bus, stream, durable);
      if (found === undefined)
        return { check: warning(`${durable} is not there yet; the operator's \`swarm up\` makes it`) };
      const { pending, outstanding, deliveredSeq } = found;
      const says = `${durable}: ${pending} not handed out, ${outstanding} not acked`;
      if (deliveredSeq > threads.lastSeq) {
        const way = 'the broker lost data; delete the durable and have it made anew';
        return { check: failed(`${says}; it is past the end of the stream (${deliveredSeq}): ${way}`) };
      }
      return { check: pending > manyPending ? warning(`${says}; nobody reads it, or too slowly`) : ok(says) };
    });
  }
  return true;
}

async function examineServer(bus: Bus, monitor: string | undefined): Promise<Omit<Check, 'name'>> {
  const host = new URL(bus.address.split(',')[0] ?? '').hostname;
  const url = monitor ?? `http://${host}:8222`;
  const facts = await readServerFacts(url);
  if (facts === undefined) return unknown(`the monitoring at ${url} is not open; --monitor names another`);
  if (facts.serverId !== bus.serverId)
    return unknown(
      `the monitoring at ${url} is not that of the server that we are connected to; name one server alone with --url, and its with --monitor`,
    );
  if (facts.unsyncedMs === undefined) return unknown('the server does not say when it syncs its disk');
  if (facts.unsyncedMs === 0) return ok('every message is synced before it is acked');
  return warning(
    `sync_interval is ${facts.unsyncedMs / 1000} s: what was acked since can be lost with the machine's power, though not from the logs (docs/operations.md)`,
  );
}

/**
 * Says something on a thread of its own, hears it, logs both in a folder that is gone afterwards, and verifies that log.
 * Where only the operator may create the durable that this takes, it is said and not heard.
 */
async function examineRoundTrip(
  sources: SettingSources,
  settings: Settings,
  me: Me | undefined,
): Promise<Looked<never>> {
  if (me?.agent === undefined || me.keyring === undefined) {
    return { check: unknown('not tried: who is not in a keyring says nothing') };
  }
  const { agent, key, keyring } = me;
  const durable = `doctor-${randomBytes(8).toString('hex')}`;
  const subject = `thread.${durable}.${agent.name}`;
  if (!keyring.mayPublish(agent, subject)) {
    return { check: unknown(`not tried: ${agent.name} may not publish on ${subject}`) };
  }
  const folder = await mkdtemp(join(tmpdir(), 'swarm-doctor-'));
  const log = join(folder, 'swarm.jsonl');
  const started = performance.now();
  try {
    const heard = await sayAndHear({ ...sources, log, state: join(folder, 'sealed') }, subject, durable);
    if (heard === 'nothing') return { check: failed('what was published was not delivered in 10 s') };
    const { verified, bad } = await verifyLog(log, { keyring });
    if (verified !== (heard === 'message' ? 2 : 1) || bad > 0) {
      return { check: failed(`its log has ${verified} good records and ${bad} bad`) };
    }
    const took = `in ${Math.round(performance.now() - started)} ms`;
    if (heard === 'message') return { check: ok(`published, delivered, logged and verified ${took}`) };
    const why = 'at this broker only the operator may create the durable that it takes';
    return { check: ok(`published, logged and verified ${took}; not delivered: ${why}`) };
  } finally {
    await rm(folder, { recursive: true, force: true });
    await using bus = await connectBus(busOptionsOf(settings, key, agent.name));
    await removeDurable(bus, settings.stream, durable);
  }
}

/** Returns whether the message was delivered, was not, or could not be subscribed to. */
async function sayAndHear(
  sources: SettingSources,
  subject: string,
  durable: string,
): Promise<'message' | 'nothing' | 'not permitted'> {
  await using swarm = await joinSwarm({ ...sources, seal: false });
  const subscription = swarm.subscribe(subject, { durable, atMost: 1 });
  const isHearing = await subscription.ready().then(
    () => true,
    (thrown: unknown) => {
      if (thrown instanceof SwarmError && thrown.code === 'BUS_PERMISSION') return false;
      throw thrown;
    },
  );
  await swarm.publish(subject, { doctor: 'round trip' });
  if (!isHearing) return 'not permitted';
  const message = await Promise.race([subscription.next(), later(10_000)]);
  await message?.ack();
  return message === undefined ? 'nothing' : 'message';
}

function later(ms: number): Promise<undefined> {
  return new Promise((resolve) => setTimeout(resolve, ms, undefined).unref());
}
