/**
 * Attacks on a log by someone who can write to its file. Each must be found, and its line named.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { keyringOfOne } from '../src/agent/self.ts';
import { sha256Hex } from '../src/base/encoding.ts';
import { SigningKey } from '../src/identity/key.ts';
import { openLog } from '../src/log/writer.ts';
import type { FindingCode } from '../src/verify/finding.ts';
import { verifyLog } from '../src/verify/verify.ts';
import { AttackedLog, replacements } from './support/attacked-log.ts';
import { said, temporaryFolder } from './support/log.ts';

const planner = SigningKey.generate();
const stranger = SigningKey.generate();

describe('a log with every kind of line', () => {
  test('is in order', async () => {
    using log = await AttackedLog.write();
    const report = await verifyLog(log.path);
    expect(report).toMatchObject({ bad: 0, verified: 10, counted: { recovered: 1, withheld: 1 } });
  });

  test('no byte of it can be replaced unseen, and the line is named', async () => {
    using log = await AttackedLog.write();
    const kinds = Object.values(replacements); // all of them for each byte: test/long/tamper.test.ts
    expect(await log.missed((byte, at) => kinds[at % kinds.length]?.(byte) ?? byte)).toEqual([]);
  }, 120_000);

  test('its last line feed cannot be dropped unseen, and the last line is named', async () => {
    using log = await AttackedLog.write();
    const lines = log.original.toString('latin1').split('\n').length - 1;
    expect(await log.linesFound(log.original.subarray(0, -1))).toEqual([lines]);
  });
});

/** The lines of a log of ten records, and of another by the same key. */
async function tenLines(): Promise<string[]> {
  const file = join(temporaryFolder(), 'swarm.jsonl');
  await using log = await openLog(file, { key: planner });
  for (let n = 0; n < 10; n += 1) await log.append(said(`number ${n}`));
  return readFileSync(file, 'utf8').split('\n').slice(0, -1);
}

describe('whole lines', () => {
  type Edit = (lines: string[], other: string[]) => string[];
  const attacks: Record<string, { edit: Edit; finds: [line: number, code: FindingCode][] }> = {
    'one dropped': { edit: (lines) => lines.toSpliced(3, 1), finds: [[4, 'chain-broken']] },
    'one doubled': { edit: (lines) => lines.toSpliced(3, 0, lines[3] ?? ''), finds: [[5, 'chain-broken']] },
    'the first dropped': { edit: (lines) => lines.slice(1), finds: [[1, 'chain-broken']] },
    'two neighbours swapped': {
      edit: (lines) => lines.toSpliced(3, 2, lines[4] ?? '', lines[3] ?? ''),
      finds: [
        [4, 'chain-broken'],
        [5, 'chain-broken'],
        [6, 'chain-broken'],
      ],
    },
    'one from the middle of another log inserted': {
      edit: (lines, other) => lines.toSpliced(3, 0, other[5] ?? ''),
      finds: [[4, 'chain-broken']],
    },
    'one replaced by that of another log at the same place': {
      edit: (lines, other) => lines.with(3, other[3] ?? ''),
      finds: [
        [4, 'chain-broken'],
        [5, 'chain-broken'],
      ],
    },
    'a byte order mark before the first': {
      edit: (lines) => lines.with(0, `\ufeff${lines[0]}`),
      finds: [
        [1, 'malformed'],
        [2, 'chain-broken'],
      ],
    },
  };

  test.each(Object.entries(attacks))('%s', async (_, { edit, finds }) => {
    const lines = await tenLines();
    const file = join(temporaryFolder(), 'swarm.jsonl');
    writeFileSync(file, `${edit(lines, await tenLines()).join('\n')}\n`);
    const { findings } = await verifyLog(file);
    expect(findings.map(({ at, code }) => [at.line, code])).toEqual(finds);
  });

  test('a recovery signed by a stranger excuses nothing', async () => {
    const lines = await tenLines();
    const torn = (lines[4] ?? '').slice(0, 50);
    const payload = Buffer.from(JSON.stringify({ bytes: 50, sha256: sha256Hex(torn) }));
    const file = join(temporaryFolder(), 'swarm.jsonl');
    writeFileSync(file, `${lines.slice(0, 4).join('\n')}\n${torn}`);
    await using log = await openLog(file, { key: stranger });
    await log.append({ subject: 'log.recover', kind: 'LOG.RECOVER', reason: 'torn', payload });
    const { findings } = await verifyLog(file, { keyring: keyringOfOne(planner) });
    expect(findings.map(({ at, code }) => [at.line, code])).toContainEqual([5, 'malformed']);
  });
});

describe('any edits at all', () => {
  type Edit = (bytes: Buffer) => Buffer;
  const at = (fraction: number, length: number): number => Math.min(Math.floor(fraction * length), length);
  const cut = (bytes: Buffer, from: number, to: number, between: Uint8Array = Buffer.alloc(0)): Buffer =>
    Buffer.concat([bytes.subarray(0, from), between, bytes.subarray(Math.max(from, to))]);
  const onLines =
    (edit: (lines: string[]) => string[]): Edit =>
    (bytes) =>
      Buffer.from(edit(bytes.toString('latin1').split('\n')).join('\n'), 'latin1');
  const place = fc.double({ min: 0, max: 1, noNaN: true });
  const edits: fc.Arbitrary<Edit>[] = [
    place.map((from) => onLines((lines) => lines.toSpliced(at(from, lines.length), 1))),
    fc.tuple(place, place).map(([from, to]) =>
      onLines((lines) => {
        const line = lines[at(from, lines.length - 1)] ?? '';
        return lines.toSpliced(at(to, lines.length), 0, line);
      }),
    ),
    fc.tuple(place, place).map(([from, to]) =>
      onLines((lines) => {
        const [line = ''] = lines.splice(at(from, lines.length - 1), 1);
        return lines.toSpliced(at(to, lines.length), 0, line);
      }),
    ),
    fc.tuple(place, fc.nat(300)).map(
      ([from, count]): Edit =>
        (bytes) =>
          cut(bytes, at(from, bytes.length), at(from, bytes.length) + count),
    ),
    fc.tuple(place, fc.uint8Array({ maxLength: 3 })).map(
      ([from, inserted]): Edit =>
        (bytes) =>
          cut(bytes, at(from, bytes.length), 0, inserted),
    ),
    place.map(
      (from): Edit =>
        (bytes) =>
          bytes.subarray(0, at(from, bytes.length)),
    ),
  ];

  test('leave a log in which something is found, or beginnings of its sessions and nothing else', async () => {
    const file = join(temporaryFolder(), 'swarm.jsonl');
    await using one = await openLog(file, { key: planner });
    await Promise.all([1, 2, 3].map((n) => one.append(said(`one ${n}`))));
    await using other = await openLog(file, { key: stranger });
    for (let n = 0; n < 3; n += 1) {
      await other.append(said(`other ${n}`));
      await one.append(said(`one again ${n}`));
    }
    const original = readFileSync(file);
    const sessionOf = (line: string): string => /"session":"(\w+)"/.exec(line)?.[1] ?? '';
    const linesBySession = (bytes: Buffer): Map<string, string[]> =>
      groupBy(bytes.toString('latin1').split('\n').filter(Boolean), sessionOf);
    const whole = linesBySession(original);
    const outcomes = { found: 0, beginnings: 0 };
    await fc.assert(
      fc.asyncProperty(fc.array(fc.oneof(...edits), { minLength: 1, maxLength: 4 }), async (chosen) => {
        const bytes = chosen.reduce<Buffer>((edited, edit) => edit(edited), original);
        writeFileSync(file, bytes);
        if ((await verifyLog(file)).findings.length > 0) {
          outcomes.found += 1;
          return;
        }
        outcomes.beginnings += 1;
        for (const [session, lines] of linesBySession(bytes)) {
          expect(lines).toEqual(whole.get(session)?.slice(0, lines.length));
        }
      }),
      { numRuns: 600 },
    );
    expect(outcomes.found).toBeGreaterThan(300);
    expect(outcomes.beginnings).toBeGreaterThan(0);
  }, 60_000);
});

function groupBy(lines: readonly string[], keyOf: (line: string) => string): Map<string, string[]> {
  const groups = new Map<string, string[]>();
  for (const line of lines) groups.set(keyOf(line), [...(groups.get(keyOf(line)) ?? []), line]);
  return groups;
}
