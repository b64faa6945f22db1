/**
 * A log held against a stream, for people and for programs.
 */
import type { ReconcileCounts } from '../agent/difference.ts';
import type { Difference, Reconciliation } from '../agent/reconcile.ts';
import type { Resent } from '../agent/resending.ts';
import { type Output, type Piece, styled } from './output.ts';

/** What was found, and sent again where that was asked for. */
export type Reconciled = Reconciliation & { readonly resent?: Resent };

const countWords: Readonly<Record<Exclude<keyof ReconcileCounts, 'agreed'>, string>> = {
  unsent: 'unsent: the broker refused it or never took it, as a BUS.UNSENT says',
  gone: 'gone: from before the first message that the stream still has, purged or expired',
  underWay: 'under way: its writer lives and is sending it',
  stale: 'stale: stored too late to count; no receiver takes it',
  repeated: 'repeated: stored more than once, and known to receivers by its id',
  elsewhere: 'elsewhere: of agents who do not write in this log, or from before it begins',
};

/** Returns how many differences are left: what was sent again is none any more. */
export function differencesLeft({ differenceCounts, resent }: Reconciled): number {
  const all = [...differenceCounts.values()].reduce((sum, count) => sum + count, 0);
  return all - (resent?.resent ?? 0);
}

/** Says each difference on a line, then what was counted, then the verdict. */
export function printReconciliation(found: Reconciled, out: Output): void {
  const { log, stream, differences, differenceCounts, counted, records, messages, resent } = found;
  for (const difference of differences) out.data(...lineOf(difference, found));
  const all = [...differenceCounts.values()].reduce((sum, count) => sum + count, 0);
  if (all > differences.length) {
    const codes = Array.from(differenceCounts, ([code, count]) => `${count} ${code}`).join(', ');
    out.data(`${all - differences.length} more differences are not listed; all in all: ${codes}`);
  }
  for (const [name, words] of Object.entries(countWords)) {
    const count = counted[name as keyof ReconcileCounts];
    if (count > 0) out.data(`${count} ${words}`);
  }
  if (resent !== undefined) tellOfResent(resent, out);
  const left = differencesLeft(found);
  const compared = `${records} records of ${log}, ${messages} messages of ${stream}, ${counted.agreed} in both`;
  const verdict = left === 0 ? 'they agree' : `${left} difference${left === 1 ? '' : 's'}`;
  out.data(styled(left === 0 ? 'green' : 'red', `Reconciled ${compared}: ${verdict}`));
  if (resent === undefined && differenceCounts.has('missing')) {
    out.note('`swarm reconcile --resend` says again what is missing of our own.');
  }
}

function lineOf(
  { code, at, seq, detail, subject, agent, key, leaf }: Difference,
  { stream }: Reconciliation,
): Piece[] {
  const where = at === undefined ? `${stream}:${seq}` : `${at.file}:${at.line}`;
  const about = [
    ...(subject === undefined ? [] : [subject]),
    ...(key === undefined ? [] : [`of ${agent ?? `key ${key}`}`]),
    ...(leaf === undefined ? [] : [`leaf ${leaf}`]),
  ];
  return [
    `${where}: `,
    styled('red', code),
    `: ${detail}${about.length === 0 ? '' : ` (${about.join(', ')})`}`,
  ];
}

function tellOfResent({ resent, others, failures, mended }: Resent, out: Output): void {
  for (const name of mended) {
    out.note(`The consumer ${name} was past the end of the stream, and is created anew there.`);
  }
  for (const failure of failures) out.warn(`not sent again: ${failure}`);
  if (others > 0) out.note(`${others} of the missing are others': whoever signed them sends them again.`);
  out.data(`Sent again: ${resent}`);
}

/** Returns it as one JSON object. */
export function reconciliationAsJson(found: Reconciled): object {
  const { log, stream, records, messages, differences, differenceCounts, counted, resent } = found;
  return {
    log,
    stream,
    agree: differencesLeft(found) === 0,
    records,
    messages,
    differences: differences.map(({ code, detail, at, seq, leaf, subject, key, agent }) => ({
      code,
      detail,
      file: at?.file ?? null,
      line: at?.line ?? null,
      seq: seq ?? null,
      leaf: leaf ?? null,
      subject: subject ?? null,
      key: key ?? null,
      agent: agent ?? null,
    })),
    differenceCounts: Object.fromEntries(differenceCounts),
    counted,
    resent: resent ?? null,
  };
}
