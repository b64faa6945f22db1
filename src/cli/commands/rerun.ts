/**
 * `swarm rerun`: does an agent do again what it did? And what if it had gone on otherwise?
 *
 * The agent's code is loaded and run in this process; what it asks is answered from the log. Divergences go to stdout, one a
 * line; calls past the context to stderr.
 */
import type { Command } from '@commander-js/extra-typings';
import { readSettings, type Settings } from '../../agent/settings.ts';
import { SwarmError } from '../../base/errors.ts';
import type { DefinedAgent } from '../../handler/definition.ts';
import { branch } from '../../replay/branch.ts';
import { type RerunReport, rerunFrom, verifiedBy } from '../../replay/rerun.ts';
import { agentsOf } from '../agent-module.ts';
import type { Invocation } from '../invocation.ts';
import { joined } from '../joining.ts';
import { knownKeys } from '../keys-used.ts';
import { given } from '../options.ts';
import { type Output, styled } from '../output.ts';
import { findRecord, parseRecordName } from '../record-name.ts';

type Options = {
  agent?: string | undefined;
  thread?: string | undefined;
  until?: string | undefined;
  branch?: string | undefined;
  keyring?: string | undefined;
  env?: string | undefined;
  url?: string | undefined;
  creds?: string | undefined;
  json?: true | undefined;
};

export function define(command: Command, invocation: Invocation): void {
  command
    .description(
      `Run the agents that MODULE exports again from a log: their recorded deliveries in their recorded order, their steps
answered from the log, what they say held against what they said. No server is asked, no model, no clock. Each divergence is
named on stdout as file:line: code: sentence. Exits with 0 if there is none, 1 if there are some, or if the log does not
verify and so is not run, 3 if it could not look.`,
    )
    .argument('<module>', 'a JavaScript module that exports what `defineAgent` returned')
    .argument('[log]', 'the log (SWARM_LOG, else logs/swarm.jsonl)')
    .option('--agent <name>', 'only the agent of that name')
    .option('--thread <id>', 'only the deliveries of one thread')
    .option('--until <record>', 'only up to a record: its leaf, or FILE:LINE')
    .option('--keyring <file>', 'whose keys are whose (SWARM_KEYRING, else swarm.keys.json)')
    .option('--json', 'print the report of each agent as one JSON object')
    .optionsGroup('What if:')
    .option(
      '--branch <thread>',
      'after --until, go on live in that new thread, as the agent whose key is here',
    )
    .option('--env <file>', "the file with the agent's key (SWARM_ENV, else .env)")
    .option('--url <url>', 'the NATS server (NATS_URL, else nats://127.0.0.1:4222)')
    .option('--creds <file>', 'a NATS credentials file (NATS_CREDS)')
    .addHelpText(
      'after',
      `
Examples:
  $ swarm rerun agents/worker.js
  $ swarm rerun agents/team.js logs/swarm.jsonl --agent reviewer --thread t1
  $ swarm rerun agents/worker.js --until logs/swarm.jsonl:17 --json
  $ swarm rerun agents/worker.js --until logs/swarm.jsonl:17 --branch what-if-1   real calls from there on
  $ NODE_OPTIONS='--import tsx' swarm rerun agents/worker.ts`,
    )
    .action(async (module, log, options: Options) => {
      requireFitting(options);
      const { keyring, env, url, creds } = options;
      const settings = await readSettings(given({ log, keyring, env, url, credentials: creds }));
      const agents = await agentsOf(module, options.agent);
      if (options.branch !== undefined) {
        await goOn(agents, options.branch, settings, options, invocation);
        return;
      }
      const keys = await knownKeys(settings, invocation.out);
      if (keys.keyring === undefined) return;
      const { path, until } = await recordOf(options.until, log, settings);
      const { thread } = options;
      const rerunOptions = { keyring: keys.keyring, ...given({ thread, until }) };
      using verified = await verifiedBy(rerunOptions, path);
      let missing: unknown;
      let ran = 0;
      for (const agent of agents) {
        try {
          const report = await rerunFrom(verified, agent, rerunOptions);
          ran += 1;
          tell(report, options.json === true, invocation.out);
          if (report.divergences.length > 0) invocation.end('findings');
        } catch (thrown) {
          // Not every agent of a team need have heard something.
          if (!(thrown instanceof SwarmError) || thrown.code !== 'RECORD_MISSING') throw thrown;
          missing = thrown;
          if (agents.length > 1) invocation.out.warn(thrown.message);
        }
      }
      if (ran === 0) throw missing;
    });
}

/** Throws `USAGE` for options that contradict each other, or would do nothing. */
function requireFitting({ branch: to, until, thread, url, creds, env, json }: Options): void {
  const refuse = (what: string): never => {
    throw new SwarmError('USAGE', what);
  };
  if (to === undefined) {
    const idle = Object.entries({ url, creds, env }).find(([, value]) => value !== undefined);
    if (idle !== undefined) refuse(`--${idle[0]} is for --branch; without it nothing goes live`);
    return;
  }
  if (until === undefined) refuse('--branch needs --until: the record after which it goes on live');
  if (thread !== undefined) refuse('--branch takes no --thread: what the agent remembers is of all threads');
  if (json === true) refuse('--branch takes no --json: what is done live is on the log');
}

async function recordOf(name: string | undefined, log: string | undefined, settings: Settings) {
  if (name === undefined) return { path: settings.log, until: undefined };
  const { path, found } = await findRecord(parseRecordName(name), log, settings);
  return { path, until: found.leaf };
}

async function goOn(
  agents: readonly DefinedAgent[],
  thread: string,
  settings: Settings,
  options: Options,
  invocation: Invocation,
): Promise<void> {
  const [agent, another] = agents;
  if (agent === undefined) return;
  if (another !== undefined) {
    throw new SwarmError('USAGE', 'one agent goes on: say which, with --agent');
  }
  const { url, creds, env, keyring } = options;
  const { path, until: at } = await recordOf(options.until, settings.log, settings);
  if (at === undefined) return;
  const { out } = invocation;
  await joined({ url, creds, env, keyring, log: settings.log }, invocation, async (swarm) => {
    const { report } = await branch(agent, path, { keyring: swarm.keyring, at, thread, host: swarm });
    out.data(
      `Went on live as ${agent.name} in thread ${thread}, after ${report.deliveries} deliveries of its history.`,
    );
  });
  out.note(`What came of it:  swarm replay ${settings.log} --thread ${thread}`);
}

function tell(report: RerunReport, asJson: boolean, out: Output): void {
  const { agent, deliveries, brokenOff, publishes, steps, divergences, impure, digest } = report;
  for (const { call, at, times, instead } of impure) {
    out.warn(`${agent} calls ${call} at ${at}, ${times} times: another answer each time; use ${instead}`);
  }
  if (asJson) {
    out.json(report);
    return;
  }
  for (const { at, code, detail, index, threadId } of divergences) {
    out.data(
      `${at.file}:${at.line}: `,
      styled('red', code),
      `: ${detail} (delivery ${index}, thread ${threadId})`,
    );
  }
  const found = `${divergences.length} divergence${divergences.length === 1 ? '' : 's'}`;
  const handled = `${deliveries} deliveries${brokenOff === 0 ? '' : ` (${brokenOff} broken off)`}`;
  out.data(
    styled(divergences.length === 0 ? 'green' : 'red', `Re-ran ${agent}`),
    `: ${handled}, ${publishes} messages, ${steps} steps, ${found}, digest ${digest}`,
  );
}
