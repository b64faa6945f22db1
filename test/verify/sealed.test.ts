/** What was sealed, held against the lines: tiles, the checkpoint beside a file, and those that were kept elsewhere. */
import { readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Sha256Hex } from '../../src/base/encoding.ts';
import { SigningKey } from '../../src/identity/key.ts';
import { Keyring, type Revocation } from '../../src/identity/keyring.ts';
import { closedSegments, treeFolderOf } from '../../src/log/files.ts';
import { sealLog } from '../../src/log/sealer.ts';
import { openLog } from '../../src/log/writer.ts';
import { type Checkpoint, parseCheckpoint, signCheckpoint } from '../../src/merkle/checkpoint.ts';
import { parseNote } from '../../src/merkle/note.ts';
import { leafOfLine } from '../../src/record/entry.ts';
import type { Anchor } from '../../src/verify/anchors.ts';
import type { LogReport } from '../../src/verify/report.ts';
import { verifyLog } from '../../src/verify/verify.ts';
import { checkpointKey, keyringOf, rootOfLines, sealOptions, writeSealed } from '../log/sealed.ts';
import { linesOf, said, temporaryFolder } from '../support/log.ts';

const planner = SigningKey.generate();
const stranger = SigningKey.generate();
const keyring = keyringOf({ planner });
const elsewhere = 'kept/checkpoint';

/** Writes and seals a log of 600 records, with tiles of three levels' edges, and returns its path. */
async function sealedLog(count = 600): Promise<string> {
  const path = join(temporaryFolder(), 'swarm.jsonl');
  await writeSealed(path, count, planner);
  return path;
}

function checkpointOf(path: string): string {
  return readFileSync(join(treeFolderOf(path), 'checkpoint'), 'utf8');
}

/** Returns a checkpoint of the tree that `text` is of, with another size or root, signed by `key`. */
function resigned(text: string, changes: Partial<Checkpoint>, key = planner): string {
  const note = parseNote(text);
  const parsed = parseCheckpoint(note.ok ? note.note.text : '');
  if (!parsed.ok) throw new Error(parsed.detail);
  return signCheckpoint({ ...parsed.checkpoint, ...changes }, checkpointKey(key));
}

function kept(text: string, required = false): Anchor {
  return { text, source: elsewhere, required };
}

function cutTo(path: string, count: number): void {
  writeFileSync(path, `${linesOf(path).slice(0, count).join('\n')}\n`);
}

function codesOf({ findings }: LogReport): string[] {
  return findings.map(({ code }) => code);
}

describe('a log whose seal holds', () => {
  test('is consistent and complete to its last sealed record, whatever was appended later', async () => {
    const path = await sealedLog();
    await using log = await openLog(path, { key: planner });
    await log.append(said('later'));
    expect(await verifyLog(path, { keyring })).toMatchObject({
      verdict: 'CONSISTENT',
      completeTo: 600,
      records: 601,
      findings: [],
      trees: [{ size: 601, sealed: 600 }],
    });
  });

  test('is anchored as far as a checkpoint that was kept elsewhere', async () => {
    const path = await sealedLog(300);
    const anchor = checkpointOf(path);
    await writeSealed(path, 300, planner);
    const report = await verifyLog(path, { keyring, anchors: [kept(anchor), kept(anchor, true)] });
    expect(report).toMatchObject({
      verdict: 'ANCHORED',
      completeTo: 300,
      records: 600,
      anchors: { matched: 2 },
    });
  });

  test('is not sealed at all where its tree is away, and that is no finding', async () => {
    const path = await sealedLog();
    rmSync(treeFolderOf(path), { recursive: true });
    expect(await verifyLog(path, { keyring })).toMatchObject({
      verdict: 'CONSISTENT',
      completeTo: 0,
      findings: [],
    });
  });

  test('counts checkpoints of other logs, and of nobody whom we know, without a finding', async () => {
    const path = await sealedLog(10);
    const other = checkpointOf(await sealedLog(10));
    const anchors = [kept(other), kept(resigned(checkpointOf(path), {}, stranger)), kept('no checkpoint')];
    expect(await verifyLog(path, { keyring, anchors })).toMatchObject({
      verdict: 'CONSISTENT',
      findings: [],
      anchors: { matched: 0, ignored: 2, otherLogs: 1 },
    });
  });

  test('is told of logs under its name of which no file is here, each by its largest checkpoint, without a finding', async () => {
    const path = await sealedLog(10);
    const moved = await sealedLog(10);
    const [early, foreign] = [checkpointOf(moved), checkpointOf(await sealedLog(3))];
    await writeSealed(moved, 5, planner);
    const late = checkpointOf(moved);
    const anchors = [kept(late), kept(early), kept(resigned(foreign, { origin: `other/${'0'.repeat(32)}` }))];
    const report = await verifyLog(path, { keyring, anchors });
    expect(report).toMatchObject({ verdict: 'CONSISTENT', findings: [], anchors: { otherLogs: 3 } });
    const [origin = ''] = late.split('\n');
    expect(report.anchors.absent).toEqual([{ origin, size: 15, source: kept(late).source }]);
    const demanded = await verifyLog(path, { keyring, anchors: [kept(late, true)] });
    expect(demanded.findings.map(({ code }) => code)).toEqual(['log-missing']);
    expect(demanded.anchors.absent).toEqual([]);
  });

  test('needs no keyring to be compared', async () => {
    const path = await sealedLog(10);
    expect(await verifyLog(path)).toMatchObject({ verdict: 'CONSISTENT', completeTo: 10 });
    const anchors = [kept(checkpointOf(path))];
    expect(await verifyLog(path, { anchors })).toMatchObject({ verdict: 'ANCHORED', completeTo: 10 });
  });
});

describe('a finding on what was sealed', () => {
  type Attack = (path: string, text: string) => Anchor[] | undefined;
  const rewrite =
    (edit: (text: string) => string): Attack =>
    (path, text) => {
      writeFileSync(join(treeFolderOf(path), 'checkpoint'), edit(text));
      return undefined;
    };
  const tile = (path: string): string => join(treeFolderOf(path), 'tile/0/001');
  const attacks: Record<string, { attack: Attack; finds: string[]; verdict: string; completeTo?: number }> = {
    'a checkpoint that is none': {
      attack: rewrite(() => 'no checkpoint\n'),
      finds: ['checkpoint-invalid'],
      verdict: 'INVALID',
    },
    'a checkpoint whose size was changed': {
      attack: rewrite((text) => text.replace('\n600\n', '\n500\n')),
      finds: ['checkpoint-invalid'],
      verdict: 'INVALID',
    },
    "another log's checkpoint": {
      attack: rewrite((text) => {
        const origin = `swarm/${'0'.repeat(32)}`;
        const parsed = parseNote(text);
        const checkpoint = parseCheckpoint(parsed.ok ? parsed.note.text : '');
        if (!checkpoint.ok) throw new Error(checkpoint.detail);
        return signCheckpoint({ ...checkpoint.checkpoint, origin }, checkpointKey(planner));
      }),
      finds: ['checkpoint-invalid'],
      verdict: 'INVALID',
    },
    "a stranger's checkpoint": {
      attack: rewrite((text) => resigned(text, {}, stranger)),
      finds: ['checkpoint-unknown-key'],
      verdict: 'INVALID',
    },
    'a tile that is away': {
      attack: (path) => void rmSync(tile(path)),
      finds: ['tile-missing'],
      verdict: 'INVALID',
    },
    'a byte of a tile': {
      attack: (path) => {
        const bytes = readFileSync(tile(path));
        writeFileSync(tile(path), bytes.with(7, (bytes[7] ?? 0) ^ 1));
        return undefined;
      },
      finds: ['tile-mismatch'],
      verdict: 'INVALID',
    },
    'a byte of the partial tile at the edge': {
      attack: (path) => {
        const edge = join(treeFolderOf(path), 'tile/0/002.p/88');
        writeFileSync(edge, readFileSync(edge).fill(0));
        return undefined;
      },
      finds: ['tile-mismatch'],
      verdict: 'INVALID',
    },
    'a checkpoint of another root': {
      attack: rewrite((text) => resigned(text, { root: Buffer.alloc(32, 1) })),
      finds: ['forked'],
      verdict: 'FORKED',
      completeTo: 0,
    },
    'a checkpoint kept elsewhere of another root': {
      attack: (_, text) => [kept(resigned(text, { size: 400, root: Buffer.alloc(32, 1) }))],
      finds: ['forked'],
      verdict: 'FORKED',
      completeTo: 0,
    },
    'two checkpoints of one size beyond the end': {
      attack: (_, text) =>
        [1, 2].map((byte) => kept(resigned(text, { size: 700, root: Buffer.alloc(32, byte) }))),
      finds: ['truncated', 'truncated', 'forked'],
      verdict: 'FORKED',
      completeTo: 600,
    },
    'a cut off end': {
      attack: (path) => void cutTo(path, 599),
      finds: ['truncated'],
      verdict: 'TRUNCATED',
      completeTo: 0,
    },
    'an end cut off with its checkpoint rolled back, but for the one kept elsewhere': {
      attack: (path, text) => {
        rmSync(treeFolderOf(path), { recursive: true });
        cutTo(path, 500);
        return [
          kept(text),
          kept(resigned(text, { size: 450, root: Buffer.from(rootOfLines(path, 450), 'hex') })),
        ];
      },
      finds: ['truncated'],
      verdict: 'TRUNCATED',
      completeTo: 450,
    },
    "another log's checkpoint that was named": {
      attack: (_, text) => {
        const note = parseNote(text);
        const parsed = parseCheckpoint(note.ok ? note.note.text : '');
        if (!parsed.ok) throw new Error(parsed.detail);
        const other = { ...parsed.checkpoint, origin: `swarm/${'0'.repeat(32)}` };
        return [kept(signCheckpoint(other, checkpointKey(planner)), true)];
      },
      finds: ['log-missing'],
      verdict: 'INVALID',
    },
    "a stranger's checkpoint that was named": {
      attack: (_, text) => [kept(resigned(text, {}, stranger), true)],
      finds: ['checkpoint-unknown-key'],
      verdict: 'INVALID',
    },
    'what is no checkpoint and was named': {
      attack: () => [kept('no checkpoint', true)],
      finds: ['checkpoint-invalid'],
      verdict: 'INVALID',
    },
  };

  test.each(Object.entries(attacks))('is made of %s', async (_, { attack, finds, verdict, completeTo }) => {
    const path = await sealedLog();
    const anchors = attack(path, checkpointOf(path)) ?? [];
    for (const options of [{}, { quick: true }]) {
      const report = await verifyLog(path, { keyring, anchors, ...options });
      expect(codesOf(report)).toEqual(finds);
      expect(report.findings.every(({ at }) => at.line === 0)).toBe(true);
      expect(report.verdict).toBe(verdict);
      if (completeTo !== undefined) expect(report.completeTo).toBe(completeTo);
    }
  });
});

test('of a fork both checkpoints are evidence', async () => {
  const path = await sealedLog(20);
  const ours = checkpointOf(path);
  const theirs = resigned(ours, { root: Buffer.alloc(32, 1) });
  const { forks } = await verifyLog(path, { keyring, anchors: [kept(theirs)] });
  expect(forks).toEqual([{ origin: ours.split('\n')[0], ours, theirs, source: elsewhere }]);
});

test('a line changed under a seal is named, and the log is complete to the one before', async () => {
  const path = await sealedLog(20);
  const lines = linesOf(path);
  writeFileSync(path, `${lines.with(7, (lines[7] ?? '').replace('"text":"', '"text":"x')).join('\n')}\n`);
  expect(await verifyLog(path, { keyring })).toMatchObject({
    verdict: 'INVALID',
    completeTo: 7,
    findings: [{ code: 'payload-mismatch', at: { line: 8 } }], // the payload is not in the tree
  });
});

describe('over several files', () => {
  async function sealedSegments(): Promise<{ path: string; files: string[] }> {
    const path = join(temporaryFolder(), 'swarm.jsonl');
    await writeSealed(path, 40, planner, { rotateBytes: 6_000 });
    return { path, files: [...closedSegments(path), path] };
  }

  test('a log is complete to the end of the last file where each is sealed', async () => {
    const { path, files } = await sealedSegments();
    expect(files.length).toBeGreaterThan(3);
    const report = await verifyLog(path, { keyring });
    expect(report).toMatchObject({ verdict: 'CONSISTENT', completeTo: 40, records: 40 });
    const last = [kept(checkpointOf(path), true)];
    expect(await verifyLog(path, { keyring, anchors: last })).toMatchObject({
      verdict: 'ANCHORED',
      completeTo: 40,
    });
  });

  test('nothing counts as complete behind a file that is not sealed', async () => {
    const { path, files } = await sealedSegments();
    rmSync(treeFolderOf(files[1] ?? ''), { recursive: true });
    const { trees, completeTo } = await verifyLog(path, { keyring });
    expect(completeTo).toBe(trees[0]?.size);
    const anchors = [kept(checkpointOf(path))];
    expect(await verifyLog(path, { keyring, anchors })).toMatchObject({ verdict: 'ANCHORED', completeTo: 0 });
  });

  test('a checkpoint of a file that was taken away, named, says that it is missing', async () => {
    const { path } = await sealedSegments();
    const anchors = [kept(checkpointOf(path), true)];
    rmSync(path);
    rmSync(treeFolderOf(path), { recursive: true });
    const report = await verifyLog(path, { keyring, anchors });
    expect([report.verdict, codesOf(report)]).toEqual(['INVALID', ['log-missing']]);
  });

  test('a log may be renamed as a whole', async () => {
    const { path } = await sealedSegments();
    const folder = dirname(path);
    for (const name of readdirSync(folder).filter((entry) => entry.startsWith('swarm.'))) {
      renameSync(join(folder, name), join(folder, name.replace('swarm', 'other')));
    }
    const report = await verifyLog(join(folder, 'other.jsonl'), { keyring });
    expect(report).toMatchObject({ verdict: 'CONSISTENT', completeTo: 40 });
  });
});

describe('a checkpoint key that was revoked', () => {
  function revoked(revocation: Revocation): Keyring {
    const keys = [
      { record: planner.publicKey, checkpoint: checkpointKey(planner).publicKey, revoked: revocation },
    ];
    const listener = SigningKey.generate();
    return Keyring.from(
      {
        version: 1,
        agents: [
          { name: 'planner', publish: ['>'], keys },
          { name: 'listener', publish: ['>'], keys: [{ record: listener.publicKey }] },
        ],
      },
      'test',
    );
  }
  const leafAt = (path: string, index: number): Sha256Hex =>
    leafOfLine(Buffer.from(linesOf(path)[index] ?? ''));

  test('counts for checkpoints up to the size at which it was revoked, and not beyond', async () => {
    const path = await sealedLog(20);
    const log = `any-name/${leafAt(path, 0).slice(0, 32)}`;
    expect(codesOf(await verifyLog(path, { keyring: revoked({ log, size: 20 }) }))).toEqual([]);
    const codes = codesOf(await verifyLog(path, { keyring: revoked({ log, size: 19 }) }));
    expect(codes).toEqual(['revoked-key', 'checkpoint-revoked-key']);
  });

  test('counts for checkpoints up to the leaf from which it was revoked, and in other logs', async () => {
    const path = await sealedLog(20);
    const from = revoked({ leaf: leafAt(path, 19) });
    expect(codesOf(await verifyLog(path, { keyring: from }))).toEqual([
      'revoked-key',
      'checkpoint-revoked-key',
    ]);
    expect(codesOf(await verifyLog(await sealedLog(20), { keyring: from }))).toEqual([]);
    const earlier = resigned(checkpointOf(path), {
      size: 19,
      root: Buffer.from(rootOfLines(path, 19), 'hex'),
    });
    rmSync(treeFolderOf(path), { recursive: true });
    const { anchors } = await verifyLog(path, { keyring: from, anchors: [kept(earlier)] });
    expect(anchors.matched).toBe(1);
  });

  test('cannot claim that lines are missing from where it was revoked on', async () => {
    const path = await sealedLog(20);
    const log = `swarm/${leafAt(path, 0).slice(0, 32)}`;
    const claim = resigned(checkpointOf(path), { size: 100, root: Buffer.alloc(32, 1) });
    const options = { keyring: revoked({ log, size: 50 }), anchors: [kept(claim)] };
    expect(await verifyLog(path, options)).toMatchObject({
      verdict: 'CONSISTENT',
      findings: [],
      anchors: { ignored: 1 },
    });
  });
});

test('a seal by hand makes up for lines that were not sealed', async () => {
  const path = join(temporaryFolder(), 'swarm.jsonl');
  await using log = await openLog(path, { key: planner });
  await log.append(said('x'));
  expect(await verifyLog(path, { keyring })).toMatchObject({ completeTo: 0 });
  await sealLog(path, sealOptions(path, planner));
  expect(await verifyLog(path, { keyring })).toMatchObject({ completeTo: 1 });
});
