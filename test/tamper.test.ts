/**
 * Attacks on a log by someone who can write to its file. Each must be found, and its line named.
 */
import { cpSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { keyringOfOne } from '../src/agent/self.ts';
import { sha256Hex } from '../src/base/encoding.ts';
import { SigningKey } from '../src/identity/key.ts';
import { Keyring } from '../src/identity/keyring.ts';
import type { Revocation } from '../src/identity/keyring-file.ts';
import { closedSegments, treeFolderOf } from '../src/log/files.ts';
import { sealLog } from '../src/log/sealer.ts';
import { openLog } from '../src/log/writer.ts';
import { parseCheckpoint, signCheckpoint } from '../src/merkle/checkpoint.ts';
import { parseNote } from '../src/merkle/note.ts';
import { leafOfLine } from '../src/record/entry.ts';
import type { FindingCode } from '../src/verify/finding.ts';
import type { Verdict } from '../src/verify/verdict.ts';
import { type LogReport, type VerifyOptions, verifyLog } from '../src/verify/verify.ts';
import { checkpointKey, sealOptions } from './log/sealed.ts';
import { AttackedLog, replacements } from './support/attacked-log.ts';
import { linesOf, said, temporaryFolder } from './support/log.ts';

const planner = SigningKey.generate();
const listener = SigningKey.generate();
const clerk = SigningKey.generate();
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
  });

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

/** The keyring of those who write and of the clerk, who only seals; perhaps without the clerk from a place on. */
function everybody(revoked?: Revocation): Keyring {
  const agents = Object.entries({ planner, listener, clerk }).map(([name, key]) => ({
    name,
    publish: ['>'],
    keys: [
      {
        record: key.publicKey,
        checkpoint: checkpointKey(key).publicKey,
        ...(name === 'clerk' && revoked && { revoked }),
      },
    ],
  }));
  return Keyring.from({ version: 1, agents }, 'the keyring of the test');
}

/** Two agents' log of 16 lines and its tree; the checkpoints over 9 and 16 of them are kept elsewhere, too. */
class SealedLog {
  readonly path: string;
  older = '';
  newest = '';

  static #template: Promise<SealedLog> | undefined;

  /** Returns a log like the other tests', to do with as one likes. */
  static async copy(): Promise<SealedLog> {
    SealedLog.#template ??= SealedLog.#write(mkdtempSync(join(tmpdir(), 'can-swarm-test-')));
    const template = await SealedLog.#template;
    const log = new SealedLog();
    cpSync(dirname(template.path), dirname(log.path), { recursive: true });
    log.older = template.older;
    log.newest = template.newest;
    return log;
  }

  static async remove(): Promise<void> {
    const template = await SealedLog.#template;
    if (template !== undefined) rmSync(dirname(template.path), { recursive: true });
  }

  constructor(folder = temporaryFolder()) {
    this.path = join(folder, 'swarm.jsonl');
  }

  /** Lines 1 to 4, 8, 9 and 13 to 16 are one session of the planner; 5 to 7 and 10 to 12 one of the listener. */
  static async #write(folder: string): Promise<SealedLog> {
    const log = new SealedLog(folder);
    const one = await openLog(log.path, { key: planner });
    for (let n = 1; n <= 4; n += 1) await one.append(said(`line ${n}`));
    const other = await openLog(log.path, { key: listener });
    for (let n = 5; n <= 7; n += 1) await other.append(said(`line ${n}`));
    for (let n = 8; n <= 9; n += 1) await one.append(said(`line ${n}`));
    await log.seal();
    log.older = log.checkpoint;
    for (let n = 10; n <= 12; n += 1) await other.append(said(`line ${n}`));
    for (let n = 13; n <= 16; n += 1) await one.append(said(`line ${n}`));
    await Promise.all([one.close(), other.close()]);
    await log.seal();
    log.newest = log.checkpoint;
    return log;
  }

  get tree(): string {
    return treeFolderOf(this.path);
  }
  get lines(): string[] {
    return linesOf(this.path);
  }
  set lines(lines: readonly string[]) {
    writeFileSync(this.path, lines.map((line) => `${line}\n`).join(''));
  }
  get checkpoint(): string {
    return readFileSync(join(this.tree, 'checkpoint'), 'utf8');
  }
  set checkpoint(text: string) {
    writeFileSync(join(this.tree, 'checkpoint'), text);
  }
  get tile(): string {
    return join(this.tree, 'tile/0/000.p/16');
  }

  async seal(key = clerk): Promise<void> {
    await sealLog(this.path, { ...sealOptions(this.path, key), keyring: everybody() });
  }

  /** Takes the tree away, and seals what there is as somebody does who never did. */
  async sealAnew(key = clerk): Promise<void> {
    rmSync(this.tree, { recursive: true });
    rmSync(join(dirname(this.path), 'remembered'), { recursive: true, force: true });
    await this.seal(key);
  }

  /** Appends what the holder of `key` says in a session of its own. */
  async append(count: number, key: SigningKey, text = 'what was never said'): Promise<void> {
    await using log = await openLog(this.path, { key });
    for (let n = 0; n < count; n += 1) await log.append(said(`${text} ${n}`));
  }

  /** Writes the same first `kept` lines, and then others, up to 16; returns the checkpoint over them. */
  async otherHistory(kept: number): Promise<string> {
    const other = new SealedLog();
    other.lines = this.lines.slice(0, kept);
    await other.append(16 - kept, planner);
    await other.seal();
    return other.checkpoint;
  }
}

describe('a sealed log, against the keyring of its agents', () => {
  afterAll(() => SealedLog.remove());

  interface Attack {
    act?(log: SealedLog): unknown;
    /** Checkpoints kept elsewhere. */
    anchors?(log: SealedLog): VerifyOptions['anchors'] | Promise<VerifyOptions['anchors']>;
    keyring?(log: SealedLog): Keyring;
    /** What stands at line 0 is of the checkpoint or a tile, not of a line. */
    finds?: readonly [line: number, code: FindingCode][];
    verdict: Verdict;
    completeTo: number;
    more?: Partial<Record<keyof LogReport, unknown>>;
  }

  const kept =
    (which: 'older' | 'newest', required = false) =>
    (log: SealedLog): VerifyOptions['anchors'] => [{ text: log[which], source: 'elsewhere', required }];
  const edit =
    (change: (lines: string[]) => string[]) =>
    (log: SealedLog): void => {
      log.lines = change(log.lines);
    };
  const line = (lines: readonly string[], number: number): string => lines[number - 1] ?? '';
  const forked: [number, FindingCode] = [0, 'forked'];
  const truncated: [number, FindingCode] = [0, 'truncated'];
  const otherTile: [number, FindingCode] = [0, 'tile-mismatch'];
  /** Lines of the planner that stand in another log. */
  async function elsewhere(): Promise<string[]> {
    const other = new SealedLog();
    await other.append(4, planner, 'said elsewhere');
    return other.lines;
  }
  async function anotherLogsCheckpoint(): Promise<string> {
    const other = new SealedLog();
    await other.append(3, planner);
    await other.seal();
    return other.checkpoint;
  }
  const signedAs = (log: SealedLog, key: SigningKey): string => {
    const note = parseNote(log.checkpoint);
    const parsed = note.ok ? parseCheckpoint(note.note.text) : note;
    if (!parsed.ok) throw new Error(parsed.detail);
    return signCheckpoint(parsed.checkpoint, checkpointKey(key));
  };

  const attacks: Record<string, Attack> = {
    nothing: { verdict: 'CONSISTENT', completeTo: 16 },
    'nothing, and its checkpoint is kept elsewhere': {
      anchors: kept('newest', true),
      verdict: 'ANCHORED',
      completeTo: 16,
    },
    'nothing, and its older checkpoint is kept elsewhere': {
      anchors: kept('older', true),
      verdict: 'ANCHORED',
      completeTo: 9,
    },

    'a line dropped': {
      act: edit((lines) => lines.toSpliced(2, 1)),
      finds: [[3, 'chain-broken'], truncated],
      verdict: 'INVALID',
      completeTo: 0,
    },
    'a line doubled': {
      act: edit((lines) => lines.toSpliced(3, 0, line(lines, 3))),
      finds: [[4, 'chain-broken'], otherTile, forked],
      verdict: 'INVALID',
      completeTo: 0,
    },
    'a line moved': {
      act: edit((lines) => lines.toSpliced(1, 1).toSpliced(8, 0, line(lines, 2))),
      finds: [[2, 'chain-broken'], [9, 'chain-broken'], [13, 'chain-broken'], otherTile, forked],
      verdict: 'INVALID',
      completeTo: 0,
    },
    'a line swapped with its neighbour': {
      act: edit((lines) => lines.toSpliced(1, 2, line(lines, 3), line(lines, 2))),
      finds: [[2, 'chain-broken'], [3, 'chain-broken'], [4, 'chain-broken'], otherTile, forked],
      verdict: 'INVALID',
      completeTo: 0,
    },
    'a line swapped with its neighbour of another session, which no chain shows': {
      act: edit((lines) => lines.toSpliced(11, 2, line(lines, 13), line(lines, 12))),
      finds: [otherTile, forked],
      verdict: 'INVALID',
      completeTo: 0,
    },
    'a line of another log inserted': {
      act: async (log) => {
        log.lines = log.lines.toSpliced(5, 0, line(await elsewhere(), 3));
      },
      finds: [[6, 'chain-broken'], otherTile, forked],
      verdict: 'INVALID',
      completeTo: 0,
    },
    'the beginning of another session inserted, genuinely signed, which no chain shows': {
      act: async (log) => {
        log.lines = log.lines.toSpliced(5, 0, line(await elsewhere(), 1));
      },
      finds: [otherTile, forked],
      verdict: 'INVALID',
      completeTo: 0,
    },
    'a stranger’s line inserted': {
      act: async (log) => {
        const other = new SealedLog();
        await other.append(1, stranger);
        log.lines = log.lines.toSpliced(5, 0, line(other.lines, 1));
      },
      finds: [[6, 'unknown-key'], otherTile, forked],
      verdict: 'INVALID',
      completeTo: 0,
    },

    'the tail of a session dropped before it is sealed, which a session that begins after it names': {
      act: async (log) => {
        log.lines = log.lines.slice(0, 9);
        log.checkpoint = log.older;
        await log.append(3, listener, 'said, and to be dropped');
        await log.append(2, planner, 'said after that');
        log.lines = log.lines.filter((_, index) => index !== 11);
        rmSync(join(dirname(log.path), 'remembered'), { recursive: true });
        await log.seal();
      },
      finds: [[12, 'prev-unknown']],
      verdict: 'INVALID',
      completeTo: 11,
    },
    'the tail of a session that nothing names dropped before it is sealed: nothing shows it': {
      act: async (log) => {
        rmSync(join(dirname(log.path), 'remembered'), { recursive: true });
        log.checkpoint = log.older;
        log.lines = log.lines.toSpliced(10, 2);
        await log.seal();
      },
      verdict: 'CONSISTENT',
      completeTo: 14,
    },
    'the tail of a session that nothing names dropped before it is sealed, with a checkpoint from before': {
      act: async (log) => {
        rmSync(join(dirname(log.path), 'remembered'), { recursive: true });
        log.checkpoint = log.older;
        log.lines = log.lines.toSpliced(10, 2);
        await log.seal();
      },
      anchors: kept('older'),
      verdict: 'ANCHORED',
      completeTo: 9,
    },
    'the tail of a session dropped after it was sealed': {
      act: edit((lines) => lines.toSpliced(10, 2)),
      finds: [truncated],
      verdict: 'TRUNCATED',
      completeTo: 0,
    },
    'the tail of a session dropped after it was sealed, and as many lines added': {
      act: async (log) => {
        log.lines = log.lines.toSpliced(10, 2);
        await log.append(2, planner);
      },
      finds: [otherTile, forked],
      verdict: 'INVALID',
      completeTo: 0,
    },

    'the tail of the file dropped, the checkpoint left': {
      act: edit((lines) => lines.slice(0, 12)),
      finds: [truncated],
      verdict: 'TRUNCATED',
      completeTo: 0,
    },
    'the tail of the file dropped, with the checkpoint: nothing shows it': {
      act: (log) => {
        log.lines = log.lines.slice(0, 12);
        rmSync(log.tree, { recursive: true });
      },
      verdict: 'CONSISTENT',
      completeTo: 0,
    },
    'the tail of the file dropped, with the checkpoint, which is kept elsewhere': {
      act: (log) => {
        log.lines = log.lines.slice(0, 12);
        rmSync(log.tree, { recursive: true });
      },
      anchors: kept('newest'),
      finds: [truncated],
      verdict: 'TRUNCATED',
      completeTo: 0,
    },
    'the tail of the file dropped, and an older checkpoint put back: nothing shows it': {
      act: (log) => {
        log.lines = log.lines.slice(0, 12);
        log.checkpoint = log.older;
        writeFileSync(join(log.tree, 'tile/0/000.p/9'), readFileSync(log.tile).subarray(0, 9 * 32));
      },
      verdict: 'CONSISTENT',
      completeTo: 9,
    },
    'the tail of the file dropped, an older checkpoint put back, and the newest kept elsewhere': {
      act: (log) => {
        log.lines = log.lines.slice(0, 12);
        log.checkpoint = log.older;
      },
      anchors: kept('newest'),
      finds: [truncated],
      verdict: 'TRUNCATED',
      completeTo: 9,
    },
    'all lines dropped, the checkpoint left': {
      act: (log) => writeFileSync(log.path, ''),
      finds: [truncated],
      verdict: 'TRUNCATED',
      completeTo: 0,
    },
    'all lines but blank ones dropped, the checkpoint left': {
      act: (log) => writeFileSync(log.path, '\n\n'),
      finds: [truncated],
      verdict: 'TRUNCATED',
      completeTo: 0,
    },

    'another end written by a holder of one agent’s key, and sealed anew: nothing shows it': {
      act: async (log) => {
        log.lines = log.lines.slice(0, 7);
        await log.append(9, planner);
        await log.sealAnew(planner);
      },
      verdict: 'CONSISTENT',
      completeTo: 16,
    },
    'another end written by a holder of one agent’s key, sealed anew, and a checkpoint kept elsewhere': {
      act: async (log) => {
        log.lines = log.lines.slice(0, 7);
        await log.append(9, planner);
        await log.sealAnew(planner);
      },
      anchors: kept('older'),
      finds: [forked],
      verdict: 'FORKED',
      completeTo: 0,
      more: { forks: [expect.objectContaining({ source: 'elsewhere' })] },
    },
    'another end written, longer than before, and the newest checkpoint kept elsewhere': {
      act: async (log) => {
        log.lines = log.lines.slice(0, 12);
        await log.append(9, planner);
        await log.sealAnew(planner);
      },
      anchors: kept('newest'),
      finds: [forked],
      verdict: 'FORKED',
      completeTo: 0,
    },
    'another end written, and checkpoints from before and after it kept elsewhere: it holds up to the older one':
      {
        act: async (log) => {
          log.lines = log.lines.slice(0, 12);
          await log.append(9, planner);
          await log.sealAnew(planner);
        },
        anchors: (log) => [
          { text: log.newest, source: 'newest' },
          { text: log.older, source: 'older' },
        ],
        finds: [forked],
        verdict: 'FORKED',
        completeTo: 9,
        more: {
          forks: [expect.objectContaining({ source: 'newest' })],
          anchors: expect.objectContaining({ matched: 1 }),
        },
      },
    'all of it written anew: the checkpoint kept elsewhere is of a log that is not here': {
      act: async (log) => {
        log.lines = [];
        await log.append(16, planner);
        await log.sealAnew(planner);
      },
      anchors: kept('newest'),
      verdict: 'CONSISTENT',
      completeTo: 16,
      more: {
        anchors: {
          matched: 0,
          ignored: 0,
          otherLogs: 1,
          absent: [expect.objectContaining({ source: 'elsewhere' })],
        },
      },
    },
    'all of it written anew, and the checkpoint kept elsewhere is demanded': {
      act: async (log) => {
        log.lines = [];
        await log.append(16, planner);
        await log.sealAnew(planner);
      },
      anchors: kept('newest', true),
      finds: [[0, 'log-missing']],
      verdict: 'INVALID',
      completeTo: 16,
    },
    'two histories of one size, both kept elsewhere': {
      anchors: async (log) => [
        { text: log.newest, source: 'one' },
        { text: await log.otherHistory(7), source: 'another' },
      ],
      finds: [forked],
      verdict: 'FORKED',
      completeTo: 0,
      more: { forks: [expect.objectContaining({ source: 'another' })] },
    },
    'two histories of one size, both kept elsewhere, and both longer than what is here': {
      act: (log) => {
        log.lines = log.lines.slice(0, 6);
        rmSync(log.tree, { recursive: true });
      },
      anchors: async (log) => [
        { text: log.newest, source: 'one' },
        { text: await log.otherHistory(6), source: 'another' },
      ],
      finds: [truncated, truncated, forked],
      verdict: 'FORKED',
      completeTo: 0,
      more: { forks: [expect.objectContaining({ source: 'another' })] },
    },

    'a byte of the checkpoint’s root changed': {
      act: (log) => {
        const [origin, size, root, ...rest] = log.checkpoint.split('\n');
        const bytes = Buffer.from(root ?? '', 'base64');
        bytes[0] = (bytes[0] ?? 0) ^ 1;
        log.checkpoint = [origin, size, bytes.toString('base64'), ...rest].join('\n');
      },
      finds: [[0, 'checkpoint-invalid']],
      verdict: 'INVALID',
      completeTo: 0,
    },
    'the checkpoint’s size changed': {
      act: (log) => {
        log.checkpoint = log.checkpoint.replace('\n16\n', '\n12\n');
      },
      finds: [[0, 'checkpoint-invalid']],
      verdict: 'INVALID',
      completeTo: 0,
    },
    'the checkpoint replaced by no checkpoint': {
      act: (log) => {
        log.checkpoint = 'no checkpoint\n';
      },
      finds: [[0, 'checkpoint-invalid']],
      verdict: 'INVALID',
      completeTo: 0,
    },
    'the checkpoint replaced by that of another log': {
      act: async (log) => {
        log.checkpoint = await anotherLogsCheckpoint();
      },
      finds: [[0, 'checkpoint-invalid']],
      verdict: 'INVALID',
      completeTo: 0,
    },
    'the checkpoint of another history of this log in its place': {
      act: async (log) => {
        log.checkpoint = await log.otherHistory(7);
      },
      finds: [forked],
      verdict: 'FORKED',
      completeTo: 0,
    },
    'the checkpoint rolled back: nothing shows it': {
      act: (log) => {
        log.checkpoint = log.older;
      },
      verdict: 'CONSISTENT',
      completeTo: 9,
    },
    'the checkpoint rolled back, and the newest kept elsewhere': {
      act: (log) => {
        log.checkpoint = log.older;
      },
      anchors: kept('newest'),
      verdict: 'ANCHORED',
      completeTo: 16,
    },
    'the checkpoint removed: nothing is known to be complete': {
      act: (log) => rmSync(join(log.tree, 'checkpoint')),
      verdict: 'CONSISTENT',
      completeTo: 0,
    },
    'the checkpoint signed by a stranger instead': {
      act: (log) => {
        log.checkpoint = signedAs(log, stranger);
      },
      finds: [[0, 'checkpoint-unknown-key']],
      verdict: 'INVALID',
      completeTo: 0,
    },
    'the checkpoint signed by another agent instead: nothing is wrong with that': {
      act: (log) => {
        log.checkpoint = signedAs(log, planner);
      },
      verdict: 'CONSISTENT',
      completeTo: 16,
    },
    'the checkpoint signed by a key that was revoked before its end': {
      keyring: (log) => everybody({ log: log.newest.split('\n')[0] ?? '', size: 9 }),
      finds: [[0, 'checkpoint-revoked-key']],
      verdict: 'INVALID',
      completeTo: 0,
    },
    'the checkpoint signed by a key that was revoked from a line before its end on': {
      keyring: (log) => everybody({ leaf: leafOfLine(Buffer.from(line(log.lines, 16))) }),
      finds: [[0, 'checkpoint-revoked-key']],
      verdict: 'INVALID',
      completeTo: 0,
    },
    'the checkpoint signed by a key that was revoked where it ends: it counts': {
      keyring: (log) => everybody({ log: log.newest.split('\n')[0] ?? '', size: 16 }),
      verdict: 'CONSISTENT',
      completeTo: 16,
    },
    'the checkpoint signed by a key that was revoked where it ends, and a line after it: it counts': {
      act: (log) => log.append(1, listener, 'said later'),
      keyring: (log) => everybody({ log: log.newest.split('\n')[0] ?? '', size: 16 }),
      verdict: 'CONSISTENT',
      completeTo: 16,
    },
    'a checkpoint kept elsewhere signed by a key that was revoked before its end: ignored': {
      act: (log) => {
        log.checkpoint = signedAs(log, planner);
      },
      anchors: kept('newest'),
      keyring: (log) => everybody({ log: log.newest.split('\n')[0] ?? '', size: 9 }),
      verdict: 'CONSISTENT',
      completeTo: 16,
      more: { anchors: { matched: 0, ignored: 1, otherLogs: 0, absent: [] } },
    },
    'a checkpoint kept elsewhere and demanded, signed by a key that was revoked before its end': {
      act: (log) => {
        log.checkpoint = signedAs(log, planner);
      },
      anchors: kept('newest', true),
      keyring: (log) => everybody({ log: log.newest.split('\n')[0] ?? '', size: 9 }),
      finds: [[0, 'checkpoint-revoked-key']],
      verdict: 'INVALID',
      completeTo: 16,
    },

    'a byte of a tile flipped': {
      act: (log) => {
        const bytes = readFileSync(log.tile);
        bytes[100] = (bytes[100] ?? 0) ^ 1;
        writeFileSync(log.tile, bytes);
      },
      finds: [otherTile],
      verdict: 'INVALID',
      completeTo: 16,
    },
    'a tile cut': {
      act: (log) => writeFileSync(log.tile, readFileSync(log.tile).subarray(0, -32)),
      finds: [otherTile],
      verdict: 'INVALID',
      completeTo: 16,
    },
    'a tile removed': {
      act: (log) => rmSync(log.tile),
      finds: [[0, 'tile-missing']],
      verdict: 'INVALID',
      completeTo: 16,
    },

    'a line appended after the seal: not a finding': {
      act: (log) => log.append(1, listener, 'said later'),
      verdict: 'CONSISTENT',
      completeTo: 16,
      more: { records: 17, verified: 17 },
    },
    'a payload withheld: not a finding, but counted': {
      act: edit((lines) => lines.with(4, line(lines, 5).replace(/,"payload":.*/, '}'))),
      verdict: 'CONSISTENT',
      completeTo: 16,
      more: {
        counted: expect.objectContaining({ withheld: 1 }),
        withheld: [expect.objectContaining({ line: 5 })],
      },
    },
    'a checkpoint of another log kept elsewhere: ignored': {
      anchors: async () => {
        return [{ text: await anotherLogsCheckpoint(), source: 'elsewhere' }];
      },
      verdict: 'CONSISTENT',
      completeTo: 16,
      more: {
        anchors: {
          matched: 0,
          ignored: 0,
          otherLogs: 1,
          absent: [expect.objectContaining({ source: 'elsewhere' })],
        },
      },
    },
    'a checkpoint of another log kept elsewhere, and demanded': {
      anchors: async () => {
        return [{ text: await anotherLogsCheckpoint(), source: 'elsewhere', required: true }];
      },
      finds: [[0, 'log-missing']],
      verdict: 'INVALID',
      completeTo: 16,
    },
    'a stranger’s checkpoint kept elsewhere: ignored': {
      anchors: (log) => [{ text: signedAs(log, stranger), source: 'elsewhere' }],
      verdict: 'CONSISTENT',
      completeTo: 16,
      more: { anchors: { matched: 0, ignored: 1, otherLogs: 0, absent: [] } },
    },
    'a stranger’s checkpoint kept elsewhere, and demanded': {
      anchors: (log) => [{ text: signedAs(log, stranger), source: 'elsewhere', required: true }],
      finds: [[0, 'checkpoint-unknown-key']],
      verdict: 'INVALID',
      completeTo: 16,
    },
    'no checkpoint kept elsewhere: ignored': {
      anchors: () => [{ text: 'no checkpoint', source: 'elsewhere' }],
      verdict: 'CONSISTENT',
      completeTo: 16,
      more: { anchors: { matched: 0, ignored: 1, otherLogs: 0, absent: [] } },
    },
    'no checkpoint kept elsewhere, and demanded': {
      anchors: () => [{ text: 'no checkpoint', source: 'elsewhere', required: true }],
      finds: [[0, 'checkpoint-invalid']],
      verdict: 'INVALID',
      completeTo: 16,
    },
  };

  test.each(Object.entries(attacks))('%s', async (_, attack) => {
    const log = await SealedLog.copy();
    const keyring = attack.keyring?.(log) ?? everybody();
    const anchors = (await attack.anchors?.(log)) ?? [];
    await attack.act?.(log);
    const report = await verifyLog(log.path, { keyring, anchors });
    const { verdict, completeTo } = report;
    const finds = report.findings.map(({ at, code }) => [at.line, code]);
    expect({ finds, verdict, completeTo }).toEqual({
      finds: attack.finds ?? [],
      verdict: attack.verdict,
      completeTo: attack.completeTo,
    });
    expect(report).toMatchObject(attack.more ?? {});
  });
});

describe('a sealed log of several files', () => {
  /** Writes five files, and returns them, with their checkpoints. */
  async function segments(): Promise<{ path: string; files: string[]; checkpoints: string[] }> {
    const path = join(temporaryFolder(), 'swarm.jsonl');
    const seal = { ...sealOptions(path, clerk), keyring: everybody() };
    await using log = await openLog(path, { key: planner, rotateBytes: 1_800, seal });
    for (let n = 0; closedSegments(path).length < 4; n += 1) await log.append(said(`number ${n}`));
    await log.seal();
    const files = [...closedSegments(path), path];
    const checkpoints = files.map((file) => readFileSync(join(treeFolderOf(file), 'checkpoint'), 'utf8'));
    return { path, files, checkpoints };
  }
  type Found = { code: FindingCode; file: string | undefined; line: number };
  interface Attack {
    act(files: string[]): void;
    /** Which checkpoints are kept elsewhere. */
    kept?: number[];
    finds(files: string[]): Found[];
    verdict: Verdict;
  }
  const remove = (file = ''): void => {
    rmSync(file);
    rmSync(treeFolderOf(file), { recursive: true });
  };
  const attacks: Record<string, Attack> = {
    'a whole segment dropped from its middle, with its tree': {
      act: (files) => remove(files[2]),
      finds: (files) => [{ code: 'segment-missing', file: files[3], line: 1 }],
      verdict: 'INVALID',
    },
    'a whole segment dropped from its middle, and its number given to the one before': {
      act: ([, second = '', third = '']) => {
        remove(third);
        renameSync(second, third);
        renameSync(treeFolderOf(second), treeFolderOf(third));
      },
      finds: (files) => [{ code: 'segment-missing', file: files[3], line: 1 }],
      verdict: 'INVALID',
    },
    'a closed segment’s last line dropped, with its tree': {
      act: ([, second = '']) => {
        writeFileSync(
          second,
          linesOf(second)
            .slice(0, -1)
            .map((line) => `${line}\n`)
            .join(''),
        );
        rmSync(treeFolderOf(second), { recursive: true });
      },
      finds: (files) => [{ code: 'segment-missing', file: files[2], line: 1 }],
      verdict: 'INVALID',
    },
    'two segments’ trees exchanged': {
      act: ([, second = '', third = '']) => {
        renameSync(treeFolderOf(second), `${second}.kept`);
        renameSync(treeFolderOf(third), treeFolderOf(second));
        renameSync(`${second}.kept`, treeFolderOf(third));
      },
      finds: (files) =>
        [1, 2].map((index) => ({
          code: 'checkpoint-invalid',
          file: join(treeFolderOf(files[index] ?? ''), 'checkpoint'),
          line: 0,
        })),
      verdict: 'INVALID',
    },
    'the last file emptied, its tree removed: nothing shows it': {
      act: (files) => {
        rmSync(treeFolderOf(files[4] ?? ''), { recursive: true });
        writeFileSync(files[4] ?? '', '');
      },
      finds: () => [],
      verdict: 'CONSISTENT',
    },
    'the last file removed, its tree left': {
      act: (files) => rmSync(files[4] ?? ''),
      finds: (files) => [
        { code: 'truncated', file: join(treeFolderOf(files[4] ?? ''), 'checkpoint'), line: 0 },
      ],
      verdict: 'TRUNCATED',
    },
    'the first file put away with its tree: not a finding, but counted': {
      act: (files) => remove(files[0]),
      finds: () => [],
      verdict: 'CONSISTENT',
    },
  };

  test.each(Object.entries(attacks))('%s', async (_, { act, finds, verdict }) => {
    const { path, files } = await segments();
    act(files);
    const report = await verifyLog(path, { keyring: everybody() });
    expect(report.findings.map(({ code, at: { file, line } }) => ({ code, file, line }))).toEqual(
      finds(files),
    );
    expect(report.verdict).toBe(verdict);
  });

  test('is anchored by one checkpoint of its last file, for each continues the one before', async () => {
    const { path, checkpoints } = await segments();
    const anchors = [{ text: checkpoints[4] ?? '', source: 'elsewhere' }];
    const report = await verifyLog(path, { keyring: everybody(), anchors });
    expect(report).toMatchObject({ verdict: 'ANCHORED', bad: 0, completeTo: report.records });
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
  });
});

function groupBy(lines: readonly string[], keyOf: (line: string) => string): Map<string, string[]> {
  const groups = new Map<string, string[]>();
  for (const line of lines) groups.set(keyOf(line), [...(groups.get(keyOf(line)) ?? []), line]);
  return groups;
}
