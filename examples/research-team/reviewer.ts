/**
 * The reviewer: waits until every worker of a thread has found something, and makes one answer of it.
 *
 * What it remembers lives in `on: () => …`, once for each run of the agent, and begins anew when it is run again. The answer
 * names the findings that it draws on (`refs`), so that the log shows what led to it, and not only the last of them.
 */
import { defineAgent, type MessageHandler, type Received } from 'can-swarm';
import { Finding, workerNames } from './messages.ts';
import { ask } from './model.ts';

const instructions = 'Make one short answer to the question in the first line out of the findings below it.';

export const reviewer = defineAgent({
  name: 'reviewer',
  on: () => {
    /** What was found, by thread and then by worker: a finding that comes again takes its own place. */
    const threads = new Map<string, Map<string, Received>>();

    const review: MessageHandler = async (message, context) => {
      const found = threads.get(message.threadId) ?? new Map<string, Received>();
      threads.set(message.threadId, found.set(message.sender.name, message));
      const refs = workerNames.flatMap((name) => found.get(name) ?? []);
      if (refs.length < workerNames.length) return;

      const { question } = Finding.parse(message.payload);
      const findings = refs.map(({ payload }) => Finding.parse(payload).finding);
      const { model, text } = await context.step(
        'review',
        ask,
        instructions,
        [question, ...findings].join('\n'),
      );
      const answer = { question, answer: text };
      await context.publish(`thread.${message.threadId}.reviewer`, answer, { refs, meta: { model } });
      threads.delete(message.threadId);
    };

    return Object.fromEntries(workerNames.map((name) => [`thread.*.${name}`, review]));
  },
});
