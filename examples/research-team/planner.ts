/**
 * The planner: makes a question into a task for each worker.
 *
 * A plan of another form throws: the question comes again a little later, and the model is asked anew.
 */
import { defineAgent } from 'can-swarm';
import { Question, workerNames } from './messages.ts';
import { ask } from './model.ts';

const instructions =
  'Split the question into two smaller ones that can be looked into side by side. Reply with these in two lines, and nothing else.';

export const planner = defineAgent({
  name: 'planner',
  on: {
    'thread.*.user': async (message, context) => {
      const { question } = Question.parse(message.payload);
      const { model, text } = await context.step('plan', ask, instructions, question);
      const tasks = text.split('\n').filter((line) => line.trim() !== '');
      if (tasks.length !== workerNames.length) {
        throw new Error(`the plan has ${tasks.length} tasks for ${workerNames.length} workers`);
      }
      for (const [at, worker] of workerNames.entries()) {
        const subject = `thread.${message.threadId}.planner.${worker}`;
        await context.publish(subject, { question, task: tasks[at] }, { meta: { model } });
      }
    },
  },
});
