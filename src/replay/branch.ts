/**
 * What if? An agent's history is run again up to a record, answered from the log, and from there on goes on live, in a
 * thread of its own, whose records name the record that it left from.
 *
 * What the agent remembers is what it remembered then. The log stays as it is; what is said in the new thread is said anew.
 */
import type { Sha256Hex } from '../base/encoding.ts';
import { SwarmError } from '../base/errors.ts';
import { isSubject, nameGrammar } from '../base/subject.ts';
import { type BranchHost, type DefinedAgent, defineAgent } from '../handler/definition.ts';
import { parseLine } from '../record/line.ts';
import type { VerifiedFiles } from '../verify/verified-files.ts';
import type { RecordedHandling, RecordedLog } from './recorded.ts';
import { Rerun, type RerunOptions, type RerunReport, verifiedBy, withRecorded } from './rerun.ts';

export interface BranchOptions extends Omit<RerunOptions, 'thread' | 'until' | 'payloads'> {
  /** The last record that the log answers: a delivery to the agent, or what came of one. */
  readonly at: Sha256Hex;
  /** The id of the thread in which it goes on: `[A-Za-z0-9_-]`, 1 to 64; none that the log has. */
  readonly thread: string;
  /** The swarm, joined with the agent's key, in which it goes on. */
  readonly host: BranchHost;
}

export interface Branch {
  /** What was run again, up to the end of the handling that went on live. */
  readonly report: RerunReport;
  /** The agent in the new thread, with all that it remembers: `run` it to hear what is answered there. */
  readonly agent: DefinedAgent;
}

/**
 * Runs `agent` again from the log at `path` up to the record `at`, and lets the handling that this belongs to go on live.
 * Resolves when that has returned. Throws `REPLAY_DIVERGED`, before anything is done live, where the agent does not do up to
 * there what it did; `USAGE`; what its handler throws live; and what `rerun` throws.
 */
export async function branch(agent: DefinedAgent, path: string, options: BranchOptions): Promise<Branch> {
  const { at, thread, host, ...rest } = options;
  if (!nameGrammar.test(thread) || !isSubject(`thread.${thread}.x`)) {
    throw new SwarmError(
      'USAGE',
      `not a thread id: ${JSON.stringify(thread)} (1 to 64 letters, digits, _ and -)`,
    );
  }
  if (host.name !== agent.name) {
    throw new SwarmError('USAGE', `the agent ${agent.name} goes on where the swarm was joined with its key`);
  }
  using verified = await verifiedBy(rest, path);
  await requireNew(thread, verified);
  return await withRecorded(agent, verified, { ...rest, until: at }, async (log, itself) => {
    const before = handlingsUntil(log, at, path);
    const run = new Rerun(agent, itself, rest);
    const handlers = agent.begin();
    await run.session(before.slice(0, -1), handlers);
    requireSame(agent, run.report(1));
    await run.session(before.slice(-1), handlers, (message, calls) =>
      host.branch(message, { leaf: at }, thread, calls),
    );
    const report = run.report(1);
    requireSame(agent, report);
    const { name, concurrency } = agent;
    const durable = `${agent.durable}-${thread}`;
    return { report, agent: defineAgent({ name, durable, concurrency, on: handlers.inThread(thread) }) };
  });
}

/** Throws `USAGE` where the log has the thread already: what was said in it stays as it is. */
async function requireNew(thread: string, log: VerifiedFiles): Promise<void> {
  const spelled = Buffer.from(`"thread_id":"${thread}"`);
  for await (const { file, line, bytes } of log.lines()) {
    if (!bytes.includes(spelled) || parseLine(bytes).record?.header.threadId !== thread) continue;
    throw new SwarmError(
      'USAGE',
      `the thread ${thread} is in the log already, at ${file}:${line}; a branch goes on in a new one`,
    );
  }
}

/** Returns the handlings of the session of the record `at`, to the one that it belongs to. */
function handlingsUntil(log: RecordedLog, at: Sha256Hex, path: string): readonly RecordedHandling[] {
  for (const { handlings } of log.sessions) {
    const index = handlings.findIndex(({ delivery, called, publishes, steps, failures, ended }) =>
      [delivery, called, ...publishes, ...steps, ...failures, ended].some((place) => place?.leaf === at),
    );
    if (index === -1) continue;
    if (handlings[index]?.ended === undefined) return handlings.slice(0, index + 1);
    throw new SwarmError(
      'USAGE',
      `the record ${at} of ${path} says that a handler has ended, and nothing of it is left to go on with; branch off before that`,
    );
  }
  throw new SwarmError(
    'RECORD_MISSING',
    `the record ${at} of ${path} is no delivery to the agent, and nothing that came of one`,
  );
}

function requireSame(agent: DefinedAgent, { divergences }: RerunReport): void {
  const [first] = divergences;
  if (first === undefined) return;
  throw new SwarmError(
    'REPLAY_DIVERGED',
    `${agent.name} does not do again what it did: ${first.at.file}:${first.at.line}: ${first.detail}; branch off before that`,
  );
}
