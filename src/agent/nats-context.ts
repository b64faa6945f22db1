/**
 * A context of the nats CLI, `~/.config/nats/context/NAME.json`, as far as it says how to connect.
 *
 * Only the one that NATS_CONTEXT names is read, never the one that is selected. A member that asks for something that is
 * not supported here, or that nobody knows here, is an error: left out, it would connect otherwise than a person said.
 */
import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { messageOf, SwarmError } from '../base/errors.ts';
import type { TlsFiles } from '../bus/credentials.ts';
import type { EnvValues } from '../identity/envfile.ts';

export interface NatsContext {
  readonly url?: string;
  readonly credentials?: string;
  readonly tls?: TlsFiles;
  readonly inboxPrefix?: string;
}

const supported = new Set(['url', 'user', 'password', 'token', 'creds', 'ca', 'cert', 'key', 'inbox_prefix']);
const withoutEffect = new Set(['description', 'color_scheme']);

/**
 * Returns the context of that name, or in the file of that path; its login goes with `url`, where that is said elsewhere.
 * Throws `BUS_CONTEXT`.
 */
export async function readNatsContext(
  name: string,
  environment: EnvValues,
  url?: string,
): Promise<NatsContext> {
  const config = environment.XDG_CONFIG_HOME || join(environment.HOME || homedir(), '.config');
  const path = isAbsolute(name) ? name : join(config, 'nats', 'context', `${name}.json`);
  let content: unknown;
  try {
    content = JSON.parse(await readFile(path, 'utf8'));
  } catch (cause) {
    const why = messageOf(cause); // of a file with secrets: what JSON.parse quotes is not for repeating
    throw new SwarmError(
      'BUS_CONTEXT',
      `cannot read the context ${path} (NATS_CONTEXT): ${cause instanceof SyntaxError ? 'it is not JSON' : why}`,
    );
  }
  return contextOf(content, { path, environment, url });
}

interface ContextPlace {
  readonly path: string;
  readonly environment: EnvValues;
  readonly url: string | undefined;
}

function contextOf(content: unknown, { path, environment, url: elsewhere }: ContextPlace): NatsContext {
  const members = Object.entries(Object(content)).filter(
    ([, value]) => value !== '' && value !== false && value !== null,
  );
  const said = new Map<string, string>();
  for (const [member, value] of members) {
    if (withoutEffect.has(member)) continue;
    if (!supported.has(member) || typeof value !== 'string') {
      throw new SwarmError(
        'BUS_CONTEXT',
        `the context ${path} (NATS_CONTEXT) has ${JSON.stringify(member)}, which is not supported here; say how to connect with NATS_URL, NATS_CREDS, NATS_CA, NATS_CERT and NATS_KEY instead`,
      );
    }
    said.set(member, value);
  }
  const file = (member: string, as: string): Record<string, string> => {
    const named = said.get(member);
    return named === undefined ? {} : { [as]: named.replace(/^~(?=\/)/, environment.HOME || homedir()) };
  };
  const tls: TlsFiles = { ...file('ca', 'caFile'), ...file('cert', 'certFile'), ...file('key', 'keyFile') };
  const url = urlOf(said, path, elsewhere);
  const inboxPrefix = said.get('inbox_prefix');
  return {
    ...(url !== undefined && { url }),
    ...file('creds', 'credentials'),
    ...(Object.keys(tls).length > 0 && { tls }),
    ...(inboxPrefix !== undefined && { inboxPrefix }),
  };
}

/** Returns the url with the login that stands beside it; one that is said elsewhere may have its own. */
function urlOf(
  said: ReadonlyMap<string, string>,
  path: string,
  elsewhere: string | undefined,
): string | undefined {
  const isIncomplete = said.has('password') && !said.has('user');
  if (isIncomplete || (said.has('token') && said.has('user'))) {
    const what = isIncomplete ? 'a password without a user' : 'a token and a user';
    throw new SwarmError(
      'BUS_CONTEXT',
      `the context ${path} (NATS_CONTEXT) has ${what}; it must say one login`,
    );
  }
  if (elsewhere?.includes('@')) return elsewhere;
  const url = elsewhere ?? said.get('url');
  const names = said.has('user') ? [said.get('user'), said.get('password')] : [said.get('token')];
  const login = names.flatMap((name) => (name === undefined ? [] : encodeURIComponent(name))).join(':');
  if (login === '') return url;
  const [scheme, rest] = url?.includes('://') ? url.split(/:\/\/(.*)/s) : ['nats', url ?? '127.0.0.1:4222'];
  if (rest?.includes('@')) {
    throw new SwarmError(
      'BUS_CONTEXT',
      `the context ${path} (NATS_CONTEXT) has a login in its url and another`,
    );
  }
  return `${scheme}://${login}@${rest}`;
}
