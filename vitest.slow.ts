/** Tests that wait or fetch more than others do: they run with the long ones, so that `npm test` stays under five minutes. */
export const slowTests: string[] = [
  'test/crash.test.ts',
  'test/tamper.test.ts',
  'test/agent/handling.test.ts',
  'test/agent/outbox.test.ts',
  'test/bus/faults.test.ts',
  'test/cli/anchors.test.ts',
  'test/cli/cluster.test.ts',
  'test/cli/dead.test.ts',
  'test/cli/prove.test.ts',
  'test/cli/reconcile.test.ts',
  'test/cli/replay.test.ts',
  'test/cli/rerun.test.ts',
  'test/docs/sessions.test.ts',
  'test/replay/republish.test.ts',
  'test/server/debian.test.ts',
  'test/verify/range.test.ts',
];
