/**
 * A log that holds every kind of line there is, and attacks on each of its bytes.
 *
 * Single records and flushes, deliveries and refusals with the messages that they keep, payloads as JSON, in base64
 * and withheld, a torn line and its recovery.
 */
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SigningKey } from '../../src/identity/key.ts';
import { openLog } from '../../src/log/writer.ts';
import type { Draft } from '../../src/record/draft.ts';
import { receivedHash, receivedHashKey } from '../../src/record/received.ts';
import { signRecord } from '../../src/record/sign.ts';
import type { SignedRecord } from '../../src/record/signed.ts';
import { verifyLog } from '../../src/verify/verify.ts';
import { said } from './log.ts';

const planner = SigningKey.generate();
const listener = SigningKey.generate();
const stranger = SigningKey.generate();
const delivery = { stream: 'THREADS', seq: 1, consumer: 'listener', attempt: 1 };

function delivered(received: SignedRecord, payload: Uint8Array): Draft {
  return { ...said(''), kind: 'BUS.DELIVER', payload, cause: received.leaf, received, delivery };
}

function refused(received: SignedRecord, reason: string): Draft {
  const meta = { [receivedHashKey]: receivedHash(received) };
  const payloadHash = received.header.payloadHash;
  const { subject } = received.header;
  return { subject, kind: 'BUS.REJECT', payloadHash, cause: received.leaf, received, delivery, reason, meta };
}

/** Writes the log under attack to `path`. */
async function writeEveryKindOfLine(path: string): Promise<void> {
  const one = await openLog(path, { key: planner, swarm: 'acme' });
  const message = said('hello');
  const alone = await one.append(message);
  const [inFlush] = await Promise.all([one.append(said('a')), one.append(said('b')), one.append(said('c'))]);
  await one.append({
    ...said(''),
    payload: Buffer.from([0, 1, 2, 0xff]),
    meta: { model: 'm-1', tenant: 'a' },
  });
  await one.close();
  appendFileSync(path, '{"ts_ns":1730216238594927800,"thread_id":"t","subj');
  await using other = await openLog(path, { key: listener, swarm: 'acme' });
  await other.append(delivered(alone, message.payload));
  await other.append(delivered(inFlush, said('a').payload));
  const forged = { ...signRecord(said('lies'), stranger), signature: alone.signature };
  await other.append(refused(forged, 'bad-signature'));
  await other.append({ ...said('step', 'agent.step'), kind: 'AGENT.STEP', step: 'llm:plan' });
}

/** The log, in a file of its own that is attacked again and again. */
export class AttackedLog implements Disposable {
  readonly #folder = mkdtempSync(join(tmpdir(), 'can-swarm-test-'));
  readonly path = join(this.#folder, 'swarm.jsonl');
  #original: Buffer = Buffer.alloc(0);

  static async write(): Promise<AttackedLog> {
    const log = new AttackedLog();
    await writeEveryKindOfLine(log.path);
    log.#original = readFileSync(log.path);
    return log;
  }

  get original(): Buffer {
    return this.#original;
  }

  /** Returns the lines at which a verifier finds something in `bytes`. */
  async linesFound(bytes: Buffer, lane = 0): Promise<number[]> {
    const path = `${this.path}-${lane}.jsonl`;
    writeFileSync(path, bytes);
    return (await verifyLog(path)).findings.map(({ at }) => at.line);
  }

  /** Replaces each byte in turn and returns where a verifier did not name its line. */
  async missed(replace: (byte: number, at: number) => number): Promise<string[]> {
    const original = this.#original;
    const missed: string[] = [];
    let next = 0;
    let line = 1;
    const work = async (lane: number): Promise<void> => {
      while (next < original.length) {
        const at = next;
        const here = line;
        next += 1;
        if (original[at] === LF) line += 1;
        const bytes = Buffer.from(original);
        bytes[at] = replace(original[at] ?? 0, at);
        // A line feed for a line's first byte makes that line blank, and the line after it the changed one.
        const isFirst = at === 0 || original[at - 1] === LF;
        const changed = isFirst && bytes[at] === LF ? here + 1 : here;
        const found = await this.linesFound(bytes, lane);
        if (!found.includes(changed))
          missed.push(`byte ${at} of line ${here}; found: ${found.join(', ') || 'nothing'}`);
      }
    };
    await Promise.all([0, 1, 2, 3].map(work));
    return missed;
  }

  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true });
  }
}

const LF = 0x0a;

/** Replacements that are likelier than others to mean the same, or to be taken for another structure. */
export const replacements: Readonly<Record<string, (byte: number) => number>> = {
  'its lowest bit flipped': (byte) => byte ^ 0x01,
  'its case flipped': (byte) => byte ^ 0x20,
  'a line feed in its place': (byte) => (byte === LF ? 0x20 : LF),
};
