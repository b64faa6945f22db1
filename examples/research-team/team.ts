/** The team: a planner, two workers, a reviewer. */
import type { DefinedAgent } from 'can-swarm';
import { planner } from './planner.ts';
import { reviewer } from './reviewer.ts';
import { workers } from './worker.ts';

export const team: readonly DefinedAgent[] = [planner, ...workers, reviewer];
