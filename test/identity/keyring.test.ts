import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { encodeBase64 } from '../../src/base/encoding.ts';
import { type PublicKey, SigningKey } from '../../src/identity/key.ts';
import { type Keyring, loadKeyring, parseKeyring, printKeyring } from '../../src/identity/keyring.ts';
import { printNkey } from '../../src/identity/nkey.ts';

const keyOf = (name: string): PublicKey =>
  SigningKey.fromSeed(createHash('sha256').update(name).digest()).publicKey;
const [k1, k2, k3, k4, k5] = ['1', '2', '3', '4', '5'].map(keyOf);
const planner = { name: 'planner', keys: [{ record: k1, checkpoint: k2, nkey: printNkey(keyOf('n')) }] };
const listener = {
  name: 'listener',
  publish: ['reports.*', 'audit.>'],
  keys: [{ record: k3 }, { record: k4 }],
};
const parse = (file: unknown): Keyring => parseKeyring(JSON.stringify(file), 'swarm.keys.json');

function refusalOf(text: string): string {
  try {
    parseKeyring(text, 'swarm.keys.json');
  } catch (thrown) {
    expect(thrown).toMatchObject({ name: 'SwarmError', code: 'KEYRING_INVALID' });
    return (thrown as Error).message;
  }
  throw new Error('the keyring was accepted');
}

describe('a keyring', () => {
  const keyring = parse({ version: 1, swarm: 'production', agents: [planner, listener] });

  test('finds the agent of each record key, and of no other key', () => {
    expect(keyring.swarm).toBe('production');
    for (const agent of keyring.agents) {
      for (const key of agent.keys) expect(keyring.find(key.record)).toEqual({ agent, key });
    }
    expect(keyring.find(k2 as PublicKey)).toBeUndefined();
    expect(keyring.find(k5 as PublicKey)).toBeUndefined();
    expect(keyring.find('toString' as PublicKey)).toBeUndefined();
  });

  test('finds a revoked key too, with the place from which it counts no more', () => {
    const leaf = 'ab'.repeat(32);
    const log = `logs/${'ab'.repeat(16)}`;
    for (const revoked of [{ leaf }, { log, size: 0 }]) {
      const one = parse({ version: 1, agents: [{ name: 'a', keys: [{ record: k1, revoked }] }] });
      expect(one.find(k1 as PublicKey)?.key.revoked).toEqual(revoked);
    }
  });

  test.each<[string, string, boolean]>([
    ['planner', 'thread.demo.planner', true],
    ['planner', 'thread.demo.planner.step', true],
    ['planner', 'thread.demo.planner.a.b.c', true],
    ['planner', 'thread.demo.plannerx', false],
    ['planner', 'thread.demo.listener', false],
    ['planner', 'thread.planner', false],
    ['planner', 'thread.demo.x.planner', false],
    ['planner', 'other.demo.planner', false],
    ['listener', 'reports.daily', true],
    ['listener', 'reports.daily.more', false],
    ['listener', 'audit.a.b', true],
    ['listener', 'audit', false],
    ['listener', 'thread.demo.listener', false],
  ])('says whether %s may publish on %s: %s, and says so again', (name, subject, expected) => {
    const agent = keyring.agents.find((one) => one.name === name);
    if (agent === undefined) throw new Error(name);
    for (const _ of [1, 2]) expect(keyring.mayPublish(agent, subject)).toBe(expected);
  });

  test('goes on answering rightly after more subjects than it remembers', () => {
    const [agent] = keyring.agents;
    if (agent === undefined) throw new Error('no agent');
    for (let n = 0; n < 3000; n++) {
      expect(keyring.mayPublish(agent, `thread.t${n}.planner`)).toBe(true);
      expect(keyring.mayPublish(agent, `thread.t${n}.other`)).toBe(false);
    }
    expect(keyring.mayPublish(agent, 'thread.t0.planner')).toBe(true);
  });

  test('lets an agent with an empty list publish nothing', () => {
    const silent = parse({ version: 1, agents: [{ ...planner, publish: [] }] });
    for (const agent of silent.agents) expect(silent.mayPublish(agent, 'thread.demo.planner')).toBe(false);
  });

  test('says the filters of each durable, one or several, shared or not', () => {
    const work = { work: 'thread.a.>', both: ['thread.a.>', 'thread.b.>'] };
    const file = [
      { name: 'a', durables: work, keys: [{ record: k1 }] },
      { name: 'b', durables: { work: ['thread.a.>'] }, keys: [{ record: k2 }] },
      { name: 'c', keys: [{ record: k3 }] },
    ];
    const { operator, agents } = parse({ version: 1, operator: 'b', agents: file });
    expect(operator).toBe('b');
    expect(agents.map(({ durables }) => durables)).toEqual([
      { work: ['thread.a.>'], both: ['thread.a.>', 'thread.b.>'] },
      { work: ['thread.a.>'] },
      {},
    ]);
  });

  test('without agents is a keyring, and knows nobody', () => {
    expect(parse({ version: 1, agents: [] }).find(k1 as PublicKey)).toBeUndefined();
  });

  test('prints as it was read, "$schema" and what was left out included', () => {
    const file = { $schema: './keys.schema.json', version: 1, swarm: 's', agents: [planner, listener] };
    const text = `${JSON.stringify(file, null, 2)}\n`;
    expect(printKeyring(parseKeyring(text, 'x'))).toBe(text);
  });
});

describe('refused, by place and in plain words, is', () => {
  const agents = (...list: unknown[]): string => JSON.stringify({ version: 1, agents: list });
  const keyed = (key: unknown): string => agents({ name: 'a', keys: [key] });
  const faults: Record<string, [text: string, says: string]> = {
    'no JSON': ['{', 'is not valid JSON'],
    nothing: ['', 'is not valid JSON'],
    'a byte order mark': ['\ufeff{"version":1,"agents":[]}', 'is not valid JSON'],
    'a comment': ['{"version":1,"agents":[]} // x', 'is not valid JSON'],
    'another thing than an object': ['[]', 'the file: expected object, found array'],
    null: ['null', 'the file: expected object, found null'],
    'no version': ['{"agents":[]}', 'version: must be 1'],
    'another version': ['{"version":2,"agents":[]}', 'version: must be 1'],
    'no agents': ['{"version":1}', 'agents: missing'],
    'an unknown member': ['{"version":1,"agents":[],"agnets":[]}', 'agnets: unknown member'],
    'an unknown member deep down': [
      keyed({ record: k1, chekpoint: k2 }),
      'agents[0].keys[0].chekpoint: unknown member',
    ],
    __proto__: ['{"version":1,"agents":[],"__proto__":{}}', '__proto__: unknown member'],
    'a swarm with a space': ['{"version":1,"agents":[],"swarm":"a b"}', 'swarm: not a swarm\'s name: "a b"'],
    'an operator who is nobody': [
      '{"version":1,"operator":"boss","agents":[]}',
      'operator: no agent "boss" is in this file',
    ],
    'a durable with a dot': [
      agents({ name: 'a', durables: { 'a.b': 'thread.>' }, keys: [{ record: k1 }] }),
      'not a durable\'s name: "a.b"',
    ],
    'a durable without a filter': [
      agents({ name: 'a', durables: { work: [] }, keys: [{ record: k1 }] }),
      'agents[0].durables.work: a durable has one filter at least',
    ],
    'a durable with a filter that is none': [
      agents({ name: 'a', durables: { work: 'thread..' }, keys: [{ record: k1 }] }),
      'agents[0].durables.work: not a subject pattern: "thread.."',
    ],
    'a durable of two filters for two agents': [
      agents(
        { name: 'a', durables: { work: 'thread.a.>' }, keys: [{ record: k1 }] },
        { name: 'b', durables: { work: ['thread.b.>'] }, keys: [{ record: k2 }] },
      ),
      'agents[1].durables.work: another filter than at agents[0].durables.work; a durable that agents share has one',
    ],
    'a name with a dot': [
      agents({ name: 'a.b', keys: [{ record: k1 }] }),
      'agents[0].name: not an agent\'s name: "a.b"',
    ],
    'a name that is a wildcard': [
      agents({ name: '>', keys: [{ record: k1 }] }),
      "agents[0].name: not an agent's name",
    ],
    'a name of 65 characters': [
      agents({ name: 'x'.repeat(65), keys: [{ record: k1 }] }),
      "agents[0].name: not an agent's name",
    ],
    'a name with a line end': [
      agents({ name: 'a\n', keys: [{ record: k1 }] }),
      "agents[0].name: not an agent's name",
    ],
    'an agent without keys': [agents({ name: 'a' }), 'agents[0].keys: missing'],
    'an agent with no key': [
      agents({ name: 'a', keys: [] }),
      'agents[0].keys: an agent has one key at least',
    ],
    'a key that is no object': [keyed(k1), 'agents[0].keys[0]: expected object, found string'],
    'a key that is no key': [keyed({ record: 'x' }), 'agents[0].keys[0].record: not a key: "x"'],
    'a key of another spelling': [
      keyed({ record: `${'A'.repeat(42)}B=` }),
      'agents[0].keys[0].record: not a key',
    ],
    'a key of 31 bytes': [
      keyed({ record: encodeBase64(Buffer.alloc(31)) }),
      'agents[0].keys[0].record: not a key',
    ],
    'a key with a line end': [keyed({ record: `${k1}\n` }), 'agents[0].keys[0].record: not a key'],
    'a checkpoint key that is none': [
      keyed({ record: k1, checkpoint: 7 }),
      'agents[0].keys[0].checkpoint: expected string, found number',
    ],
    'an NKey that is none': [
      keyed({ record: k1, nkey: 'UABC' }),
      'agents[0].keys[0].nkey: not a NATS user\'s NKey: "UABC"',
    ],
    'a pattern that is none': [
      agents({ name: 'a', publish: ['a..b'], keys: [{ record: k1 }] }),
      'agents[0].publish[0]: not a subject pattern: "a..b"',
    ],
    'a revocation by time': [
      keyed({ record: k1, revoked: { ts_ns: 1 } }),
      'agents[0].keys[0].revoked: neither',
    ],
    'a revocation without a place': [
      keyed({ record: k1, revoked: {} }),
      'agents[0].keys[0].revoked: neither',
    ],
    'a revocation of two places': [
      keyed({ record: k1, revoked: { leaf: 'ab'.repeat(32), log: `l/${'ab'.repeat(16)}`, size: 1 } }),
      'agents[0].keys[0].revoked',
    ],
    'a revocation from a leaf in capitals': [
      keyed({ record: k1, revoked: { leaf: 'AB'.repeat(32) } }),
      'agents[0].keys[0].revoked.leaf: not a leaf',
    ],
    'a revocation from no log’s origin': [
      keyed({ record: k1, revoked: { log: 'mine', size: 1 } }),
      "agents[0].keys[0].revoked.log: not a log's origin",
    ],
    'a revocation from a size below 0': [
      keyed({ record: k1, revoked: { log: `l/${'ab'.repeat(16)}`, size: -1 } }),
      'agents[0].keys[0].revoked.size: not a whole number',
    ],
    'a revocation from a broken size': [
      keyed({ record: k1, revoked: { log: `l/${'ab'.repeat(16)}`, size: 1.5 } }),
      'agents[0].keys[0].revoked: neither',
    ],
    'a name twice': [
      agents(planner, { name: 'planner', keys: [{ record: k5 }] }),
      'agents[1].name: "planner" is already agents[0].name',
    ],
    'a record key of two agents': [
      agents(planner, { name: 'b', keys: [{ record: k1 }] }),
      'agents[1].keys[0].record: the same key as agents[0].keys[0].record',
    ],
    'a record key twice': [
      agents({ name: 'b', keys: [{ record: k1 }, { record: k1 }] }),
      'agents[0].keys[1].record: the same key as agents[0].keys[0].record',
    ],
    'a record key as its own checkpoint key': [
      keyed({ record: k1, checkpoint: k1 }),
      'agents[0].keys[0].checkpoint: the same key as agents[0].keys[0].record',
    ],
    'a record key as another’s checkpoint key': [
      agents(planner, { name: 'b', keys: [{ record: k2 }] }),
      'agents[1].keys[0].record: the same key as agents[0].keys[0].checkpoint',
    ],
    'a record key as an NKey': [
      keyed({ record: k1, nkey: printNkey(k1 as PublicKey) }),
      'agents[0].keys[0].nkey: the same key as agents[0].keys[0].record',
    ],
    'a checkpoint key as an NKey': [
      keyed({ record: k1, checkpoint: k2, nkey: printNkey(k2 as PublicKey) }),
      'agents[0].keys[0].nkey: the same key as agents[0].keys[0].checkpoint',
    ],
    'a checkpoint key of two agents': [
      agents(planner, { name: 'b', keys: [{ record: k5, checkpoint: k2 }] }),
      'agents[1].keys[0].checkpoint: the same key as agents[0].keys[0].checkpoint',
    ],
    'a member twice': ['{"version":1,"version":2,"version":1,"agents":[]}', 'version: given twice'],
    'a member twice with equal values': ['{"version":1,"agents":[],"agents":[]}', 'agents: given twice'],
    'a member twice deep down': [
      agents({ name: 'a', keys: [{ record: k1 }] }).replace(
        '"record"',
        `"record":${JSON.stringify(k1)},"\\u0072ecord"`,
      ),
      'agents[0].keys[0].record: given twice',
    ],
  };

  test.each(Object.entries(faults))('%s', (_, [text, says]) => {
    const message = refusalOf(text);
    expect(message).toMatch(/^swarm\.keys\.json /);
    expect(message).toContain(says);
  });

  test('every fault of a file at once, whatever their kind', () => {
    const text = JSON.stringify({
      version: 1,
      extra: true,
      agents: [
        { name: 'a', keys: [{ record: 'x', more: 1 }, { record: k1 }] },
        { name: 'a', publish: ['..', 'ok.>', 5], keys: [{ record: k1, revoked: 'yesterday' }] },
        7,
        { keys: [{}] },
      ],
    }).replace('"version":1', '"version":1,"version":1');
    expect(
      refusalOf(text)
        .split('\n')
        .slice(1)
        .map((line) => line.trim().replace(/: .*/, ''))
        .sort(),
    ).toEqual(
      [
        'agents[0].keys[0].more',
        'agents[0].keys[0].record',
        'agents[1].keys[0].record',
        'agents[1].keys[0].revoked',
        'agents[1].name',
        'agents[1].publish[0]',
        'agents[1].publish[2]',
        'agents[2]',
        'agents[3].keys[0].record',
        'agents[3].name',
        'extra',
        'version',
      ].sort(),
    );
  });
});

describe('loading', () => {
  let folder = '';
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'swarm-keyring-'));
  });
  afterAll(async () => {
    await rm(folder, { recursive: true });
  });

  test('gives the keyring and the SHA-256 of the file’s bytes', async () => {
    const path = join(folder, 'good.json');
    const text = ` {"version":1,"agents":[${JSON.stringify(planner)}]}\r\n`;
    await writeFile(path, text);
    const { keyring, sha256 } = await loadKeyring(path);
    expect(keyring.agents.map(({ name }) => name)).toEqual(['planner']);
    expect(sha256).toBe(createHash('sha256').update(text).digest('hex'));
  });

  test('says that a file is missing, unreadable, not UTF-8 or faulty, each with its path', async () => {
    const latin1 = join(folder, 'latin1.json');
    await writeFile(latin1, Buffer.from('{"version":1,"agents":[],"$schema":"\xe4"}', 'latin1'));
    const faulty = join(folder, 'faulty.json');
    await writeFile(faulty, '{"version":1}');
    for (const [path, code] of [
      [join(folder, 'absent.json'), 'KEYRING_MISSING'],
      [folder, 'KEYRING_FILE'],
      [latin1, 'KEYRING_INVALID'],
      [faulty, 'KEYRING_INVALID'],
    ] as const) {
      await expect(loadKeyring(path)).rejects.toMatchObject({ code, message: expect.stringContaining(path) });
    }
  });
});
