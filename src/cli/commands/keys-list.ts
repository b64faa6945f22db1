/**
 * `swarm keys list`: whom the keyring knows, and what each may do.
 */
import type { Command } from '@commander-js/extra-typings';
import { readSettings } from '../../agent/settings.ts';
import { type Keyring, loadKeyring, type Revocation } from '../../identity/keyring.ts';
import type { Invocation } from '../invocation.ts';
import { given } from '../options.ts';
import type { Output } from '../output.ts';
import { printDurables } from '../rights.ts';

export function define(command: Command, { out }: Invocation): void {
  command
    .summary('print whom the keyring knows')
    .description(
      `Print each key of the keyring: its agent, the key that signs records, what the agent may publish on, from where on
the key no longer counts, and what it may do at a broker that knows the agents: its durables, and "operator". On a terminal as a table, else with a tab between the columns.`,
    )
    .option('--keyring <file>', 'SWARM_KEYRING, else swarm.keys.json')
    .option('--json', 'print one JSON object, with every key of each agent')
    .addHelpText(
      'after',
      `
Examples:
  $ swarm keys list
  $ swarm keys list | cut -f 1,3`,
    )
    .action(async ({ keyring: path, json }) => {
      const settings = await readSettings(given({ keyring: path }));
      const { keyring, sha256 } = await loadKeyring(settings.keyring);
      if (json === true) {
        const { swarm, operator, agents } = keyring;
        out.json({
          keyring: settings.keyring,
          sha256,
          swarm: swarm ?? null,
          operator: operator ?? null,
          agents,
        });
        return;
      }
      const rows = rowsOf(keyring);
      if (rows.length === 0) out.note(`${settings.keyring} knows nobody yet.`);
      else if (out.isTerminal) await printTable(rows, out);
      else for (const row of rows) out.row(row);
    });
}

function rowsOf({ agents, operator }: Keyring): string[][] {
  return agents.flatMap(({ name, publish, durables, keys }) => {
    const rights = [...(name === operator ? ['operator'] : []), ...printDurables(durables)];
    return keys.map(({ record, revoked }) => [
      name,
      record,
      publish.join(' '),
      printRevocation(revoked),
      rights.join(' ') || '-',
    ]);
  });
}

function printRevocation(revoked: Revocation | undefined): string {
  if (revoked === undefined) return '-';
  return 'leaf' in revoked
    ? `from record ${revoked.leaf} on`
    : `after ${revoked.size} records of ${revoked.log}`;
}

async function printTable(rows: readonly string[][], out: Output): Promise<void> {
  const { default: Table } = await import('cli-table3');
  const table = new Table({
    head: ['agent', 'record key', 'may publish on', 'revoked', 'at the broker'],
    style: { head: [], border: [] }, // colours would be text by the time they reach `out`
  });
  table.push(...rows.map((row) => row.map((cell) => cell.replaceAll(' ', '\n'))));
  for (const line of table.toString().split('\n')) out.data(line);
}
