/**
 * `swarm sub`: prints messages, each verified and on the log before it is printed, and acked after.
 */
import type { Command } from '@commander-js/extra-typings';
import type { Message } from '../../agent/message.ts';
import type { Swarm } from '../../agent/swarm.ts';
import { sha256Hex } from '../../base/encoding.ts';
import { SwarmError } from '../../base/errors.ts';
import { parsePattern, type SubjectPattern } from '../../base/subject.ts';
import type { Invocation } from '../invocation.ts';
import { joined } from '../joining.ts';
import { given, parsePositive, takingSettings } from '../options.ts';
import { type Output, type Piece, styled } from '../output.ts';
import { jsonWithPayload, shownPayload } from '../payload.ts';

export function define(command: Command, invocation: Invocation): void {
  takingSettings(command)
    .description(
      `Print the messages on FILTER, from the first that the stream has, one a line: sender, subject, payload. Each was
verified and is on the log before it is printed, and is acked after; refused ones are told of on stderr. The broker
remembers what was acked under the durable name, by default made of the agent's name and the filter, so that the same
command goes on where it stopped. Where the keyring lists durables for the agent, either names the other. Ctrl-C ends it.`,
    )
    .argument('[filter]', "a subject; * stands for one token, a last > for the rest: 'thread.t1.>'")
    .option('--durable <name>', 'the name under which the broker remembers what was acked')
    .option('--count <n>', 'end after so many messages', parsePositive)
    .option('--new', 'a new durable begins with what comes from now on')
    .option('--json', 'print each message as one JSON object')
    .addHelpText(
      'after',
      `
Examples:
  $ swarm sub 'thread.t1.>'
  $ swarm sub 'thread.*.planner' --new --count 1
  $ swarm sub 'thread.>' --durable archive --json > messages.jsonl
  $ swarm sub --durable worker   its filters are those of the keyring`,
    )
    .action(async (filterText, { durable, count, new: onlyNew, json, ...options }) => {
      const asked = { filter: filterText === undefined ? undefined : parsePattern(filterText), durable };
      const printed = await joined(options, invocation, (swarm, interrupted) =>
        print(swarm, interrupted, invocation.out, {
          ...placeOf(swarm, asked),
          count,
          deliver: onlyNew === true ? 'new' : 'all',
          asJson: json === true,
        }),
      );
      if (count !== undefined && printed < count) invocation.end('interrupted');
    });
}

/** What is read, and the name under which the broker remembers how far. */
interface Place {
  readonly filter: readonly SubjectPattern[];
  readonly durable: string;
}

interface Printing extends Place {
  readonly count: number | undefined;
  readonly deliver: 'all' | 'new';
  readonly asJson: boolean;
}

/** Returns how many messages were printed when there were enough, or Ctrl-C ended it. */
async function print(
  swarm: Swarm,
  interrupted: AbortSignal,
  out: Output,
  { filter, durable, count, deliver, asJson }: Printing,
): Promise<number> {
  // Not more than are wanted: what is on the log as heard should have been printed.
  await using subscription = swarm.subscribe(filter, { durable, deliver, ...given({ atMost: count }) });
  await subscription.ready();
  interrupted.addEventListener('abort', () => void subscription.stop(), { once: true }); // `next` returns then
  if (interrupted.aborted) return 0;
  out.note(`Listening on ${filter.join(', ')} as ${durable}; Ctrl-C ends.`);
  let printed = 0;
  while (printed !== count) {
    const message = await subscription.next();
    if (message === undefined) break;
    if (asJson) out.jsonText(jsonOf(message));
    else out.data(...lineOf(message));
    if (!(await out.written())) {
      await message.nak(); // nobody read it
      break;
    }
    await message.ack();
    printed += 1;
  }
  return printed;
}

function lineOf({ sender, subject, data, attempt }: Message): Piece[] {
  const again = attempt > 1 ? [' ', styled('yellow', `(attempt ${attempt})`)] : [];
  return [styled('bold', sender.name), ' ', styled('cyan', subject), ' ', shownPayload(data), ...again];
}

function jsonOf({ record, sender, subject, threadId, id, seq, attempt, data }: Message): string {
  const facts = {
    ts_ns: String(record.header.tsNs),
    thread_id: threadId,
    subject,
    sender: sender.name,
    leaf: record.leaf,
    id,
    seq,
    attempt,
    ...given({ meta: record.header.meta }),
  };
  return jsonWithPayload(facts, data);
}

/** Returns the place that is asked for; what is not said is as the keyring lists it for us. Throws `USAGE`. */
function placeOf(
  { name, publicKey, keyring }: Swarm,
  { filter, durable }: { readonly filter: SubjectPattern | undefined; readonly durable: string | undefined },
): Place {
  const listed = Object.entries(keyring.find(publicKey)?.agent.durables ?? {});
  if (filter === undefined) {
    const known = listed.find(([itsName]) => itsName === durable);
    if (known !== undefined) return { durable: known[0], filter: known[1] };
    const what =
      durable === undefined ? '' : ` the durable ${durable} is not one that the keyring lists for us;`;
    throw new SwarmError('USAGE', `missing what to listen to:${what} name a filter, as 'thread.t1.>'`);
  }
  if (durable !== undefined) return { filter: [filter], durable };
  const [fitting] = listed.find(([, filters]) => filters.length === 1 && filters[0] === filter) ?? [];
  // The same for the same agent and filter, and for no others.
  const agent = name?.slice(0, 50) ?? sha256Hex(publicKey).slice(0, 12);
  return { filter: [filter], durable: fitting ?? `${agent}-cli-${sha256Hex(filter).slice(0, 8)}` };
}
