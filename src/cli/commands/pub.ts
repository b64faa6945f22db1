/**
 * `swarm pub`: says one thing, signed and logged before it is sent.
 */
import { buffer } from 'node:stream/consumers';
import type { Command } from '@commander-js/extra-typings';
import { SwarmError } from '../../base/errors.ts';
import { parseSubject } from '../../base/subject.ts';
import { isJsonText } from '../../record/payload.ts';
import type { Invocation } from '../invocation.ts';
import { joined } from '../joining.ts';
import { takingSettings } from '../options.ts';

export function define(command: Command, invocation: Invocation): void {
  takingSettings(command)
    .description(
      `Sign a message, put it on the log, and publish it. The command ends once the stream has the message. PAYLOAD is JSON
and is sent byte for byte as it is typed, only line breaks between its parts become spaces.`,
    )
    .argument('<subject>', 'as in thread.THREAD.NAME')
    .argument('<payload>', 'JSON; or - for stdin')
    .option('--text', 'the payload is text: send it as a JSON string')
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      `
Examples:
  $ swarm pub thread.t1.planner '{"hello":"world","n":1}'
  $ swarm pub thread.t1.planner --text 'hello, world'
  $ jq -n '{n: 1}' | swarm pub thread.t1.planner -`,
    )
    .action(async (subjectText, payloadText, { text, json, ...options }) => {
      const subject = parseSubject(subjectText);
      const payload = payloadOf(payloadText === '-' ? await readStdin() : payloadText, text === true);
      const { seq, record } = await joined(options, invocation, (swarm, interrupted) => {
        interrupted.addEventListener('abort', () => void swarm.close(), { once: true }); // `publish` hears of it
        return swarm.publish(subject, payload);
      });
      const { out } = invocation;
      if (json === true) out.json({ seq, subject, leaf: record.leaf });
      else out.data(`${subject}  seq ${seq}  leaf ${record.leaf}`);
    });
}

/** Returns what is on stdin, without the line break that ends a text; throws `USAGE` unless it is UTF-8. */
async function readStdin(): Promise<string> {
  const bytes = await buffer(process.stdin);
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes).replace(/\r?\n$/, '');
  } catch (cause) {
    throw new SwarmError('USAGE', 'what is on stdin is not UTF-8', { cause });
  }
}

/** Returns the bytes to send; throws `USAGE` if they are to be JSON and are not. */
function payloadOf(typed: string, isText: boolean): Buffer {
  if (isText) return Buffer.from(JSON.stringify(typed));
  const bytes = Buffer.from(typed.replace(/[\r\n]/g, ' ')); // in JSON these stand only between its parts
  if (isJsonText(bytes)) return bytes;
  const shown = typed.length > 60 ? `${typed.slice(0, 60)}…` : typed;
  throw new SwarmError(
    'USAGE',
    `the payload is not JSON: ${shown}\nto send it as text:  swarm pub SUBJECT --text 'hello'\nto send JSON:        swarm pub SUBJECT '{"hello":"world"}'   (quoted, so that the shell leaves it alone)`,
  );
}
