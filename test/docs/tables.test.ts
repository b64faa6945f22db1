/** The tables of the documentation, held to the code both ways. */
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { differenceCodes, noCounts } from '../../src/agent/difference.ts';
import { zeroHash } from '../../src/base/encoding.ts';
import { errorCodes } from '../../src/base/errors.ts';
import { reportAsJson } from '../../src/cli/report.ts';
import { SigningKey } from '../../src/identity/key.ts';
import { printHeader } from '../../src/record/header.ts';
import { type KindMembers, kindFault, rejectReasons } from '../../src/record/kind.ts';
import { divergenceCodes } from '../../src/replay/divergence.ts';
import { findingCodes } from '../../src/verify/finding.ts';
import { verifyLog } from '../../src/verify/verify.ts';
import { shell } from '../cli/swarm.ts';
import { logOf, temporaryFolder } from '../support/log.ts';
import { blocksOf, codeIn, namesIn, project, readPage, tablesOf } from './markdown.ts';

describe('docs/errors.md', () => {
  const codes = namesIn(tablesOf('docs/errors.md', 'code'));

  test('has every error and every finding, each once, and none that does not exist', () => {
    expect(codes.toSorted()).toEqual([...Object.keys(errorCodes), ...Object.keys(findingCodes)].sort());
  });
});

test('docs/agents.md has every divergence, with what it means', () => {
  const [rows] = tablesOf('docs/agents.md', 'code');
  const listed = (rows ?? []).map(([code = '', meaning = '']) => [codeIn(code).join(), meaning]);
  expect(Object.fromEntries(listed)).toEqual(divergenceCodes);
});

describe('docs/reconcile.md', () => {
  test('has every difference, each once, and every count', () => {
    expect(namesIn(tablesOf('docs/reconcile.md', 'difference'))).toEqual(Object.keys(differenceCodes));
    const { agreed: _, ...counts } = noCounts;
    for (const name of Object.keys(counts)) expect(readPage('docs/reconcile.md')).toContain(`\`${name}\``);
  });
});

describe('docs/format.md', () => {
  const page = 'docs/format.md';

  test('has every member of a header, in the order in which they stand', () => {
    const text = printHeader({
      tsNs: 1n,
      threadId: 't',
      subject: 'thread.t.planner',
      kind: 'X',
      payloadHash: zeroHash,
      version: 2,
      swarm: 's',
      session: '0'.repeat(32),
      seq: 0,
      prev: zeroHash,
      cause: zeroHash,
      refs: [zeroHash],
      trace: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
      delivery: { stream: 'S', seq: 1, consumer: 'c', attempt: 1 },
      reason: 'r',
      step: 's',
      meta: { a: 'b' },
      signer: SigningKey.generate().publicKey,
    });
    expect(namesIn(tablesOf(page, 'member'))).toEqual(Object.keys(JSON.parse(text)));
  });

  test('has every finding, and the reasons for a refusal in the order of the checks', () => {
    expect(namesIn(tablesOf(page, 'code')).toSorted()).toEqual(Object.keys(findingCodes).sort());
    expect(namesIn(tablesOf(page, 'reason'))).toEqual(rejectReasons);
  });

  const [kinds = []] = tablesOf(page, 'kind');
  const columns = ['cause', 'delivery', 'reason', 'step'] as const;

  test.each(kinds.map((row) => [codeIn(row[0] ?? '')[0] ?? '', row] as const))(
    'says of %s what it must and must not carry',
    (kind, row) => {
      const subject =
        { 'LOG.RECOVER': 'log.recover', 'AGENT.STEP': 'agent.step' }[kind] ?? 'thread.t.planner';
      const reason =
        { 'BUS.REJECT': 'stale', 'LOG.RECOVER': 'torn', 'AGENT.STEP': 'error' }[kind] ?? 'because';
      const filled = {
        cause: zeroHash,
        delivery: { stream: 'S', seq: 1, consumer: 'c', attempt: 1 },
        reason,
        step: 'plan',
      };
      const rule = Object.fromEntries(columns.map((name, at) => [name, row[at + 2] ?? '']));
      const membersWith = (wanted: (name: (typeof columns)[number]) => boolean): KindMembers => ({
        threadId: subject.startsWith('thread.') ? 't' : '-',
        subject,
        kind,
        ...Object.fromEntries(columns.map((name) => [name, wanted(name) ? filled[name] : undefined])),
      });
      const isRequired = (name: string): boolean => rule[name]?.startsWith('required') === true;
      expect(kindFault(membersWith(isRequired))).toBeUndefined();
      for (const name of columns) {
        const others = (other: string): boolean => other !== name && isRequired(other);
        const without = kindFault(membersWith(others));
        const present = kindFault(membersWith((other) => other === name || others(other)));
        expect([name, without === undefined, present === undefined]).toEqual([
          name,
          !isRequired(name),
          rule[name] !== '–',
        ]);
      }
    },
  );
});

describe('docs/architecture.md', () => {
  const page = 'docs/architecture.md';

  test('has the layers that dependency-cruiser holds', () => {
    const { forbidden } = createRequire(import.meta.url)(join(project, '.dependency-cruiser.cjs')) as {
      forbidden: readonly { name: string; from: { path?: string }; to: { pathNot?: string } }[];
    };
    const held = forbidden
      .filter(({ name }) => name.endsWith('-imports-only-what-it-stands-on'))
      .map(
        ({ from, to }) =>
          [
            /^\^src\/(\w+)\/$/.exec(from.path ?? '')?.[1] ?? '',
            /^\^src\/\(([\w|]+)\)/.exec(to.pathNot ?? '')?.[1]?.split('|') ?? [],
          ] as const,
      )
      .map(([folder, allowed]) => [folder, allowed.filter((other) => other !== folder)] as const);
    const documented = tablesOf(page, 'folder')
      .flat()
      .map(([folder = '', allowed = '']) => [
        codeIn(folder)[0] ?? '',
        allowed === '–' ? [] : allowed.split(', '),
      ]);
    expect(held.length).toBeGreaterThan(0);
    expect(documented).toEqual(held);
  });

  test('shows the folders that there are, and no file that there is not', async () => {
    const tree = blocksOf(readPage(page)).find(({ text }) => text.startsWith('src/'))?.text ?? '';
    const shown = [...tree.matchAll(/^[├└]── (\S+?)\/? (.*)$/gm)];
    const entries = await readdir(join(project, 'src'));
    expect(shown.map(([, name]) => name).toSorted()).toEqual(entries.toSorted());
    const files = shown.flatMap(([, folder = '', words = '']) =>
      [...words.matchAll(/[\w-]+\.ts/g)].map(([file]) => join('src', folder, file)),
    );
    const paths = [...readPage(page).matchAll(/`((?:\w+\/)+[\w-]+\.ts)`/g)].map(([, path = '']) =>
      join('src', path),
    );
    for (const path of [...files, ...paths])
      expect([path, existsSync(join(project, path))]).toEqual([path, true]);
  });
});

describe('README.md', () => {
  test('has every variable of the environment that the code reads, and no other', async () => {
    const names = new Set<string>();
    for (const file of await readdir(join(project, 'src'), { recursive: true })) {
      if (!file.endsWith('.ts')) continue;
      const text = await readFile(join(project, 'src', file), 'utf8');
      for (const [name] of text.matchAll(/\b(?:SWARM_[A-Z0-9_]+|NATS_[A-Z]+)\b/g)) names.add(name);
    }
    expect(namesIn(tablesOf('README.md', 'variable')).toSorted()).toEqual([...names].sort());
  });
});

describe('docs/cli.md', () => {
  const page = 'docs/cli.md';

  test('has every command, and none that does not exist', async () => {
    const folder = temporaryFolder();
    const help = async (line: string): Promise<string[]> => {
      const { stdout } = await shell(folder, `${line} --help`);
      const list = /^Commands:\n((?: {2}.*\n)+)/m.exec(stdout)?.[1] ?? '';
      const names = [...list.matchAll(/^ {2}([a-z]\S*)/gm)].map(([, name = '']) => name);
      return names.filter((name) => name !== 'help').map((name) => `${line} ${name}`);
    };
    const commands = await help('swarm');
    const names = await Promise.all(
      commands.map(async (command) => {
        const below = await help(command);
        return below.length === 0 ? [command] : below;
      }),
    );
    expect(namesIn(tablesOf(page, 'command')).toSorted()).toEqual(names.flat().sort());
  });

  test('has every member of a report', async () => {
    const report = await verifyLog(await logOf(2));
    const json = reportAsJson('swarm.jsonl', report, { keyring: undefined, source: '', sha256: undefined });
    const [rows = []] = tablesOf(page, 'member');
    expect(namesIn([rows])).toEqual(Object.keys(json));
    const counted = rows.find(([name]) => name === '`counted`')?.[1] ?? '';
    expect(codeIn(counted).toSorted()).toEqual(Object.keys(report.counted).sort());
  });
});
