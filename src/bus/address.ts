/**
 * Where the broker is, read from one text as the nats CLI reads `NATS_URL`: `nats://127.0.0.1:4222`,
 * `tls://user:password@host`, `nats://token@host`, a bare `host:port`, or several of them with commas.
 *
 * The client itself ignores what stands before the `@`, and takes a port for granted where a password
 * begins with digits; so the text is taken apart here, once. `shown` never holds a secret: it is the only
 * form that a message may contain.
 */
import { SwarmError } from '../base/errors.ts';

/** What a client proves itself with: nothing, a token, or a user and a password. */
export type Login =
  | { readonly by: 'nothing' }
  | { readonly by: 'token'; readonly token: string }
  | { readonly by: 'password'; readonly user: string; readonly password: string };

export interface BrokerAddress {
  /** `host:port` of each server. */
  readonly servers: readonly string[];
  readonly login: Login;
  /** A `tls://` address: TLS is required, not just taken where offered. */
  readonly tls: boolean;
  /** The addresses without login, for people. */
  readonly shown: string;
}

const defaultPort = '4222';

/** Returns the servers and the login that `text` names; throws `USAGE`, never naming a secret. */
export function parseAddress(text: string): BrokerAddress {
  const urls = text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')
    .map(parseOne);
  const first = urls[0];
  if (first === undefined) throw new SwarmError('USAGE', 'the NATS url is empty');
  const logins = new Map(
    urls.filter(({ login }) => login.by !== 'nothing').map(({ login }) => [JSON.stringify(login), login]),
  );
  if (logins.size > 1) {
    throw new SwarmError('USAGE', 'the NATS urls carry different logins; one client has one');
  }
  return {
    servers: urls.map(({ server }) => server),
    login: [...logins.values()][0] ?? { by: 'nothing' },
    tls: urls.some(({ tls }) => tls),
    shown: urls.map(({ tls, server }) => `${tls ? 'tls' : 'nats'}://${server}`).join(','),
  };
}

interface OneAddress {
  readonly server: string;
  readonly tls: boolean;
  readonly login: Login;
}

function parseOne(text: string): OneAddress {
  const whole = text.includes('://') ? text : `nats://${text}`;
  const url = URL.canParse(whole) ? new URL(whole) : undefined;
  if (url === undefined || url.hostname === '') {
    throw new SwarmError(
      'USAGE',
      `not a NATS url: ${withoutLogin(text)} (nats://host:port, several with commas)`,
    );
  }
  if (url.protocol !== 'nats:' && url.protocol !== 'tls:') {
    throw new SwarmError(
      'USAGE',
      `not a NATS url: ${withoutLogin(text)} (nats:// or tls://; websockets are not supported)`,
    );
  }
  const user = decoded(url.username);
  const password = decoded(url.password);
  let login: Login = { by: 'nothing' };
  if (password !== '') login = { by: 'password', user, password };
  else if (user !== '') login = { by: 'token', token: user };
  return {
    server: `${url.hostname}:${url.port === '' ? defaultPort : url.port}`,
    tls: url.protocol === 'tls:',
    login,
  };
}

/** Returns `text` without whatever stands before its last `@`. */
function withoutLogin(text: string): string {
  return text.replace(/^([a-z+]+:\/\/)?.*@/is, '$1');
}

/** Undoes percent-encoding; what is not encoded properly stays as it is. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
