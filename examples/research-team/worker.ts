/** A worker: looks into its task, and says what it found. All workers are alike but for their names. */
import { type DefinedAgent, defineAgent } from 'can-swarm';
import { Task, workerNames } from './messages.ts';
import { ask } from './model.ts';

const instructions = 'Answer the question in three sentences at most. Say where you are not sure.';

function worker(name: string): DefinedAgent {
  return defineAgent({
    name,
    on: {
      [`thread.*.planner.${name}`]: async (message, context) => {
        const { question, task } = Task.parse(message.payload);
        const { model, text } = await context.step('research', ask, instructions, task);
        const finding = { question, task, finding: text };
        await context.publish(`thread.${message.threadId}.${name}`, finding, { meta: { model } });
      },
    },
  });
}

export const workers = workerNames.map(worker);
