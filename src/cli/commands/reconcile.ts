/**
 * `swarm reconcile`: do the log and the broker's stream tell of the same messages? And where the stream lacks some, say
 * them again.
 *
 * Only a log that verifies is compared. Differences go to stdout, one a line; the last line there is the verdict.
 */
import { statSync } from 'node:fs';
import type { Command } from '@commander-js/extra-typings';
import type * as reconciling from '../../agent/reconcile.ts';
import { readSettings, type Settings } from '../../agent/settings.ts';
import type * as connection from '../../bus/connection.ts';
import type { Bus } from '../../bus/connection.ts';
import type * as stored from '../../bus/stored.ts';
import type { Keyring } from '../../identity/keyring.ts';
import { logFiles } from '../../log/files.ts';
import { soundLog } from '../../replay/sound.ts';
import { ownBusOptions } from '../broker.ts';
import type { Invocation } from '../invocation.ts';
import { asItIs, joined, tellOfEvents, untilInterrupted } from '../joining.ts';
import { knownKeys } from '../keys-used.ts';
import { type JoinOptions, settingsOf, takingSettings } from '../options.ts';
import type { Output } from '../output.ts';
import { type Progress, progressOf } from '../progress.ts';
import {
  differencesLeft,
  printReconciliation,
  type Reconciled,
  reconciliationAsJson,
} from '../reconciliation.ts';

export function define(command: Command, invocation: Invocation): void {
  takingSettings(command)
    .description(
      `Hold a log against the broker's stream, record by record. Each message that only one of them has, or that they have
otherwise, is named on stdout; what is explained, as a message that expired, is counted. The log is verified first. Exits with
0 if they agree, 1 if something needs a person, 3 if it could not look.`,
    )
    .option('--resend', 'send again what the stream lacks of our own, signed anew where it is stale')
    .option('--json', 'print the report as one JSON object')
    .addHelpText(
      'after',
      `
Examples:
  $ swarm reconcile
  $ swarm reconcile --log logs/swarm.jsonl --url nats://broker:4222 --keyring swarm.keys.json
  $ swarm reconcile --resend --env planner.env            say again what the broker lost
  $ swarm reconcile --json | jq '.differenceCounts'`,
    )
    .action(async ({ resend, json, ...options }) => {
      const { out } = invocation;
      const settings = await readSettings(settingsOf(options));
      const { keyring } = await knownKeys(settings, out);
      if (keyring === undefined) return;
      const logBytes = sizeOf(settings.log);
      await verified(settings, keyring, logBytes, out);
      const found =
        resend === true
          ? await resentAndCompared(options, settings, logBytes, invocation)
          : await compared(settings, keyring, logBytes, out);
      if (json === true) out.json(reconciliationAsJson(found));
      else printReconciliation(found, out);
      if (differencesLeft(found) > 0) invocation.end('findings');
    });
}

function sizeOf(path: string): number {
  return logFiles(path).reduce(
    (sum, file) => sum + (statSync(file, { throwIfNoEntry: false })?.size ?? 0),
    0,
  );
}

async function verified({ log }: Settings, keyring: Keyring, bytes: number, out: Output): Promise<void> {
  using bar = await progressOf(bytes, out);
  using _ = await soundLog(log, { keyring, onProgress: (progress) => bar.update(progress.bytes) });
}

/** Compares without joining: nothing is created, and no key is needed. */
async function compared(
  settings: Settings,
  keyring: Keyring,
  logBytes: number,
  out: Output,
): Promise<Reconciled> {
  const { log, stream } = settings;
  const { reconcile } = await loadBus();
  const swarm = settings.swarm ?? keyring.swarm;
  return await connected(settings, out, async (bus) => {
    using bar = barOf(out);
    const { onProgress } = bar;
    return await reconcile(bus, { log, stream, keyring, swarm, logBytes, onProgress });
  });
}

/** Joins as the agent whose key is here, on the stream as it is; where there is none any more, that creates it. */
async function resentAndCompared(
  options: JoinOptions,
  settings: Settings,
  logBytes: number,
  invocation: Invocation,
): Promise<Reconciled> {
  const { out } = invocation;
  const { findStreamState } = await loadBus();
  const state = await connected(settings, out, (bus) => findStreamState(bus, settings.stream));
  return await joined(
    options,
    invocation,
    async (swarm, signal) => {
      using bar = barOf(out);
      const { onProgress } = bar;
      const run = { resend: true, logBytes, onProgress, signal };
      return await untilInterrupted(swarm, signal, () => swarm.reconcile(run));
    },
    { ...asItIs(state), resend: false },
  );
}

async function connected<Result>(
  settings: Settings,
  out: Output,
  use: (bus: Bus) => Promise<Result>,
): Promise<Result> {
  const { connectBus } = await loadBus();
  const stopTelling = tellOfEvents(out);
  try {
    await using bus = await connectBus(await ownBusOptions(settings));
    return await use(bus);
  } finally {
    stopTelling();
  }
}

/** Returns a bar whose length is known once something is done. */
function barOf(
  out: Output,
): Disposable & { onProgress(progress: { bytes: number; totalBytes: number }): void } {
  let bar: Promise<Progress> | undefined;
  return {
    onProgress({ bytes, totalBytes }) {
      bar ??= progressOf(totalBytes, out);
      void bar.then((shown) => shown.update(bytes)); // a bar that cannot be shown ends the process with its reason
    },
    [Symbol.dispose]: () => void bar?.then((shown) => shown[Symbol.dispose]()),
  };
}

// Apart from `await using`: where TypeScript lowers that, it leaves the extension of an import in the same function as it is.
async function loadBus(): Promise<
  Pick<typeof connection, 'connectBus'> &
    Pick<typeof stored, 'findStreamState'> &
    Pick<typeof reconciling, 'reconcile'>
> {
  const { connectBus } = await import('../../bus/connection.ts');
  const { findStreamState } = await import('../../bus/stored.ts');
  const { reconcile } = await import('../../agent/reconcile.ts');
  return { connectBus, findStreamState, reconcile };
}
