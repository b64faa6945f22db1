/**
 * What the team says to each other. A thread is one question.
 *
 *     thread.ID.user               a Question, for the planner
 *     thread.ID.planner.WORKER     a Task, for that worker
 *     thread.ID.WORKER             a Finding, for the reviewer
 *     thread.ID.reviewer           an Answer, for the user
 *
 * Who may say what is in the keyring: each agent on its own name, and below it.
 */
import { z } from 'zod';

export const workerNames = ['worker-1', 'worker-2'] as const;

export const Question = z.strictObject({ question: z.string().min(1) });
export const Task = Question.extend({ task: z.string().min(1) });
export const Finding = Task.extend({ finding: z.string().min(1) });
export const Answer = Question.extend({ answer: z.string().min(1) });
