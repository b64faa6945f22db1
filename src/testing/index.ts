/**
 * `can-swarm/testing`: a log becomes a regression test, with any test runner.
 *
 * `recordGolden` records one from a live run; `expectSameHistory` runs an agent again from it and fails where it does
 * otherwise; a `PayloadRule` says where it may. Exported by hand, as in src/index.ts.
 */

export type { PayloadRule } from '../replay/compare.ts';
export type { Change } from '../replay/divergence.ts';
export type { HistoryOptions } from './expect.ts';
export { expectSameHistory } from './expect.ts';
export type { Golden, GoldenOptions, Scenario } from './golden.ts';
export { recordGolden } from './golden.ts';
export { allOf, ignoring, matching } from './payloads.ts';
