/** A verification that remembers reads only what is new, and says what one of everything says. */
import { appendFileSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { SigningKey } from '../../src/identity/key.ts';
import { Keyring } from '../../src/identity/keyring.ts';
import type { Revocation } from '../../src/identity/keyring-file.ts';
import { closedSegments, nextClosedPath, treeFolderOf } from '../../src/log/files.ts';
import { sealLog } from '../../src/log/sealer.ts';
import { openLog } from '../../src/log/writer.ts';
import { leafOfLine } from '../../src/record/entry.ts';
import { signRecord } from '../../src/record/sign.ts';
import type { SignedRecord } from '../../src/record/signed.ts';
import { knownOf } from '../../src/verify/resume.ts';
import { readState } from '../../src/verify/state.ts';
import { type LogReport, type VerifyOptions, verifyLog } from '../../src/verify/verify.ts';
import { checkpointKey, keyringOf, sealOptions, writeSealed } from '../log/sealed.ts';
import { linesOf, said, temporaryFolder } from '../support/log.ts';

const planner = SigningKey.generate();
const listener = SigningKey.generate();
const everybody = keyringOf({ planner, listener });

/** A log, and the state beside it. */
class Verified {
  readonly path = join(temporaryFolder(), 'swarm.jsonl');
  readonly state = join(this.path, '../verified.json');

  /** Writes 300 records, seals and verifies them. */
  static async write(more: { rotateBytes?: number } = {}): Promise<Verified> {
    const log = new Verified();
    await writeSealed(log.path, 300, planner, { keyring: everybody, ...more });
    expect(await log.verify()).toMatchObject({ verdict: 'CONSISTENT', resumed: { records: 0 } });
    return log;
  }

  verify(more: VerifyOptions = {}): Promise<LogReport> {
    return verifyLog(this.path, { keyring: everybody, state: this.state, ...more });
  }

  async seal(): Promise<void> {
    await sealLog(this.path, { ...sealOptions(this.path, planner), keyring: everybody });
  }

  async append(count: number, key = planner): Promise<void> {
    await using log = await openLog(this.path, { key });
    for (let n = 0; n < count; n += 1) await log.append(said(`later ${n}`));
  }

  /** Verifies what is new, expects of it what a verification of everything says, and returns it. */
  async verifyBoth(): Promise<LogReport> {
    const { resumed: _, ...whole } = await verifyLog(this.path, { keyring: everybody });
    const report = await this.verify();
    const { resumed: __, ...resumed } = report;
    expect(resumed).toEqual(whole);
    return report;
  }
}

describe('the second run', () => {
  test('reads nothing where nothing is new, and says the same', async () => {
    const log = await Verified.write();
    const before = readFileSync(log.state);
    expect((await log.verifyBoth()).resumed).toEqual({ records: 300 });
    expect(JSON.parse(String(readFileSync(log.state)))).toEqual(JSON.parse(String(before)));
    expect(statSync(log.state).mode & 0o777).toBe(0o600);
  });

  test('reads only what is new: it does not see a byte changed in the old part, one of everything does', async () => {
    const log = await Verified.write();
    await log.append(20);
    const bytes = readFileSync(log.path);
    const at = bytes.indexOf('number 5');
    bytes[at] = 0x4e;
    writeFileSync(log.path, bytes);
    const progress: number[] = [];
    const second = await log.verify({ onProgress: ({ bytes }) => progress.push(bytes) });
    expect(second).toMatchObject({
      bad: 0,
      records: 320,
      verified: 320,
      completeTo: 300,
      resumed: { records: 300 },
    });
    expect(progress[0]).toBe(bytes.length);
    const { findings } = await verifyLog(log.path, { keyring: everybody });
    expect(findings.map(({ at: { line }, code }) => [line, code])).toEqual([[6, 'payload-mismatch']]);
  });

  test('goes on with sessions, segments and seals as they grow', async () => {
    const log = new Verified();
    const seal = { ...sealOptions(log.path, planner), keyring: everybody, everyMs: 1e6, everyRecords: 1e6 };
    await using one = await openLog(log.path, { key: planner, rotateBytes: 30_000, seal });
    for (let turn = 0; turn < 6; turn += 1) {
      for (let n = 0; n < 5; n += 1) {
        await Promise.all([1, 2, 3, 4, 5].map((m) => one.append(said(`turn ${turn} ${n} ${m}`))));
      }
      if (turn % 2 === 0) await log.append(3, listener);
      await one.seal();
      const { resumed, records } = await log.verifyBoth();
      expect(resumed?.reason).toBeUndefined();
      expect(resumed?.records).toBe(turn === 0 ? 0 : records - 25 - (turn % 2 === 0 ? 3 : 0));
    }
    expect(closedSegments(log.path).length).toBeGreaterThan(1);
  });

  test('finds a session that goes on wrongly across the border', async () => {
    const log = await Verified.write();
    appendFileSync(log.path, `${linesOf(log.path)[7]}\n`);
    const { findings, resumed } = await log.verifyBoth();
    expect(findings.map(({ at: { line }, code }) => [line, code])).toEqual([[301, 'chain-broken']]);
    expect(resumed).toEqual({ records: 0, reason: 'something is wrong with what is new, or with its tiles' });
  });

  test('takes a session that begins after an old line, and finds one that begins after none', async () => {
    const log = new Verified();
    await writeSealed(log.path, 100, planner, { keyring: everybody });
    await using late = await openLog(log.path, { key: listener }); // names line 100
    await writeSealed(log.path, 200, planner, { keyring: everybody });
    await log.verify();
    await late.append(said('late'));
    expect(await log.verifyBoth()).toMatchObject({ bad: 0, resumed: { records: 300 } });
    const other = new Verified();
    await other.append(3, listener);
    await other.append(2, listener);
    appendFileSync(log.path, `${linesOf(other.path)[3]}\n`);
    const { findings } = await log.verifyBoth();
    expect(findings.map(({ at: { line }, code }) => [line, code])).toEqual([[302, 'prev-unknown']]);
  });

  test('remembers nothing of a log with a finding', async () => {
    const log = await Verified.write();
    const before = readFileSync(log.state, 'utf8');
    appendFileSync(log.path, 'no record\n');
    for (let turn = 0; turn < 2; turn += 1) {
      expect((await log.verify()).findings.map(({ code }) => code)).toEqual(['malformed']);
      expect(readFileSync(log.state, 'utf8')).toBe(before);
    }
  });
});

describe('the cause of a delivery', () => {
  const heard = (received: SignedRecord, seq: number) => ({
    ...said('x'),
    kind: 'BUS.DELIVER',
    cause: received.leaf,
    received,
    delivery: { stream: 'THREADS', seq, consumer: 'listener', attempt: 1 },
  });

  test('that is an old line is resolved by it, and one that is none is counted once', async () => {
    const log = new Verified();
    const speaking = await openLog(log.path, { key: planner });
    const message = await speaking.append(said('x'));
    await speaking.close();
    const hearing = await openLog(log.path, { key: listener });
    await hearing.append(heard(signRecord(said('x'), planner), 1));
    await log.seal();
    expect((await log.verifyBoth()).counted.unresolved).toBe(1);
    await hearing.append(heard(message, 2));
    await hearing.append(heard(signRecord(said('x'), planner), 3));
    await hearing.close();
    await log.seal();
    const report = await log.verifyBoth();
    expect(report.counted.unresolved).toBe(2);
    expect(report.resumed).toEqual({ records: 2 });
    expect((await log.verifyBoth()).counted.unresolved).toBe(2);
  });

  test('that comes in a later run than the delivery stays counted, until all is read again', async () => {
    const [log, elsewhere] = [new Verified(), new Verified()];
    const speaking = await openLog(elsewhere.path, { key: planner });
    const message = await speaking.append(said('x'));
    await speaking.close();
    const hearing = await openLog(log.path, { key: listener });
    await hearing.append(heard(message, 1));
    await hearing.close();
    await log.seal();
    expect((await log.verifyBoth()).counted.unresolved).toBe(1);
    appendFileSync(log.path, `${linesOf(elsewhere.path)[0]}\n`);
    expect(await log.verify()).toMatchObject({ counted: { unresolved: 1 }, resumed: { records: 1 }, bad: 0 });
    expect((await verifyLog(log.path, { keyring: everybody })).counted.unresolved).toBe(0);
  });
});

describe('all is read again, and why is told, where', () => {
  const again: Record<string, { change(log: Verified): unknown; options?: VerifyOptions; reason: RegExp }> = {
    'the file is shorter': {
      change: (log) => writeFileSync(log.path, `${linesOf(log.path).slice(0, 290).join('\n')}\n`),
      reason: /became shorter$/,
    },
    'a tile of the right edge is another': {
      change: (log) => {
        const tile = join(treeFolderOf(log.path), 'tile/0/001.p/44');
        const bytes = readFileSync(tile);
        bytes[3] = (bytes[3] ?? 0) ^ 1;
        writeFileSync(tile, bytes);
      },
      reason: /has tiles that are not over the lines/,
    },
    'its tree is gone': {
      change: (log) => rmSync(treeFolderOf(log.path), { recursive: true }),
      reason: /is not sealed as far as it was verified before$/,
    },
    'its first line is another': {
      change: (log) => {
        const lines = linesOf(log.path);
        const [first = '', second = ''] = lines;
        writeFileSync(log.path, `${[second, first, ...lines.slice(2)].join('\n')}\n`);
      },
      reason: /has another first line$/,
    },
    'the last line that was verified is another': {
      change: (log) => {
        const lines = linesOf(log.path);
        const [last = ''] = lines.splice(-1);
        const changed = last.replace('"subject":"thread.t.planner"', '"subject":"thread.t.plannex"');
        writeFileSync(log.path, `${[...lines, changed].join('\n')}\n`);
      },
      reason: /has another line where it ended/,
    },
    'the keyring is another': {
      change: () => undefined,
      options: { keyring: keyringOf({ planner, listener, another: SigningKey.generate() }) },
      reason: /^the keyring or what is demanded is another one than before$/,
    },
    'payloads are demanded': {
      change: () => undefined,
      options: { requirePayloads: true },
      reason: /^the keyring or what is demanded is another one than before$/,
    },
  };

  test.each(Object.entries(again))('%s', async (_, { change, options = {}, reason }) => {
    const log = await Verified.write();
    await change(log);
    const report = await log.verify(options);
    expect(report.resumed).toEqual({ records: 0, reason: expect.stringMatching(reason) });
    const { resumed: __, ...whole } = await verifyLog(log.path, { keyring: everybody, ...options });
    expect(report).toMatchObject(whole);
  });

  test.each(['flipped', 'gone'])(
    'a tile that an older checkpoint from elsewhere needs is %s',
    async (what) => {
      const log = new Verified();
      await writeSealed(log.path, 100, planner);
      const text = readFileSync(join(treeFolderOf(log.path), 'checkpoint'), 'utf8');
      await writeSealed(log.path, 200, planner);
      const anchors = [{ text, source: 'elsewhere' }];
      expect(await log.verify({ anchors })).toMatchObject({ verdict: 'ANCHORED', completeTo: 100 });
      const again = await log.verify({ anchors });
      expect(again).toMatchObject({ verdict: 'ANCHORED', completeTo: 100, resumed: { records: 300 } });
      const tile = join(treeFolderOf(log.path), 'tile/0/000');
      const bytes = readFileSync(tile);
      bytes[5] = (bytes[5] ?? 0) ^ 1;
      if (what === 'gone') rmSync(tile);
      else writeFileSync(tile, bytes);
      const report = await log.verify({ anchors });
      expect(report.resumed?.reason).toMatch(/its tiles/);
      expect(report).toMatchObject({ verdict: 'INVALID', anchors: { matched: 1 }, forks: [] });
      expect(report.findings.map(({ code }) => code)).toEqual([
        what === 'gone' ? 'tile-missing' : 'tile-mismatch',
      ]);
    },
  );

  test('an older checkpoint from elsewhere is of another history', async () => {
    const log = await Verified.write();
    const other = new Verified();
    writeFileSync(other.path, `${linesOf(log.path)[0]}\n`);
    await other.append(9);
    await other.seal();
    const text = readFileSync(join(treeFolderOf(other.path), 'checkpoint'), 'utf8');
    const report = await log.verify({ anchors: [{ text, source: 'elsewhere' }] });
    expect(report).toMatchObject({ verdict: 'FORKED', resumed: { records: 0 }, forks: [{ theirs: text }] });
  });

  test('a closed segment grew, or is gone', async () => {
    const log = await Verified.write({ rotateBytes: 60_000 });
    const [first = '', second = ''] = closedSegments(log.path);
    const bytes = readFileSync(first);
    appendFileSync(first, `${linesOf(second)[1]}\n`);
    expect((await log.verify()).resumed?.reason).toMatch(/was closed when it was verified before, and grew$/);
    writeFileSync(first, bytes);
    expect((await log.verify()).resumed?.reason).toBeUndefined();
    for (const file of [...closedSegments(log.path), log.path].slice(1)) rmSync(file);
    rmSync(treeFolderOf(log.path), { recursive: true });
    expect((await log.verify()).resumed?.reason).toBe('a file that was verified before is gone');
  });

  test('a key was revoked in the old part', async () => {
    const log = await Verified.write();
    const leaf = leafOfLine(Buffer.from(linesOf(log.path)[199] ?? ''));
    const revoked: Revocation = { leaf };
    const agents = [
      {
        name: 'planner',
        publish: ['>'],
        keys: [{ record: planner.publicKey, checkpoint: checkpointKey(planner).publicKey, revoked }],
      },
    ];
    const keyring = Keyring.from({ version: 1, agents }, 'the keyring of the test');
    for (let turn = 0; turn < 2; turn += 1) {
      const report = await log.verify({ keyring });
      expect(report.resumed).toMatchObject({ records: 0, reason: expect.any(String) });
      expect(report.findingCounts.get('revoked-key')).toBe(101);
    }
  });
});

test('a file that was closed since is known under its new name', async () => {
  const log = await Verified.write();
  const closed = log.path.replace('.jsonl', '.000001.jsonl');
  renameSync(treeFolderOf(log.path), treeFolderOf(closed));
  renameSync(log.path, closed);
  await log.append(4);
  expect((await log.verifyBoth()).resumed).toEqual({ records: 300 });
});

test('a file that is closed while the files are looked at is found under its new name', async () => {
  const log = await Verified.write({ rotateBytes: 60_000 });
  const state = await readState(log.state);
  if (state === undefined) throw new Error('nothing is remembered');
  const looking = knownOf(log.path, state); // it has the names, and is at the first file
  const closed = nextClosedPath(log.path);
  renameSync(treeFolderOf(log.path), treeFolderOf(closed));
  renameSync(log.path, closed);
  writeFileSync(log.path, '');
  const { known, reason } = await looking;
  expect(reason).toBeUndefined();
  expect(known.reduce((sum, { size }) => sum + size, 0)).toBe(300);
});

test('a session that began before the first line of a log whose beginning was put away is taken later, too', async () => {
  const log = new Verified();
  await log.append(3);
  renameSync(log.path, log.path.replace('.jsonl', '.000001.jsonl'));
  await using one = await openLog(log.path, { key: planner });
  await using other = await openLog(log.path, { key: listener });
  await one.append(said('one'));
  rmSync(log.path.replace('.jsonl', '.000001.jsonl'));
  await log.seal();
  await log.verifyBoth();
  await other.append(said('other'));
  expect(await log.verifyBoth()).toMatchObject({
    bad: 0,
    counted: { continues: 1 },
    resumed: { records: 1 },
  });
});

test('a state that cannot be written costs the report nothing, and is told', async () => {
  const log = await Verified.write();
  const state = join(log.path, `../${'x'.repeat(250)}`); // the name of the temporary file beside it is too long
  for (let turn = 0; turn < 2; turn += 1) {
    expect(await log.verify({ state })).toMatchObject({
      verdict: 'CONSISTENT',
      verified: 300,
      resumed: { records: 0, notRemembered: expect.stringMatching(/ENAMETOOLONG/) },
    });
  }
});

test('a state cannot be had together with a quick verification', async () => {
  const log = await Verified.write();
  await expect(log.verify({ quick: true })).rejects.toMatchObject({ code: 'USAGE' });
});

test('a state that is not one is refused, and left as it is', async () => {
  const log = await Verified.write();
  const state = JSON.parse(readFileSync(log.state, 'utf8'));
  const not = [
    '',
    '{',
    '[]',
    'null',
    JSON.stringify({ ...state, version: 2 }),
    JSON.stringify({ ...state, more: 1 }),
  ];
  not.push(JSON.stringify({ ...state, unresolved: -1 }), JSON.stringify({ ...state, terms: 'x' }));
  for (const text of not) {
    writeFileSync(log.state, text);
    await expect(log.verify(), text).rejects.toMatchObject({ code: 'STATE_INVALID' });
    expect(readFileSync(log.state, 'utf8')).toBe(text);
  }
});
