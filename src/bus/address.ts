/**
 * Where the broker is, read from one text as the nats CLI reads `NATS_URL`: `nats://127.0.0.1:4222`,
 * `tls://user:password@host`, `nats://token@host`, a bare `host:port`, or several of them with commas.
 *
 * The client itself ignores what stands before the `@`, and takes a port for granted where a password
 * begins with digits; so the text is taken apart here, once. `shown` never holds a secret: it is the only
 * form that a message may contain. Where a login is written so that it reads as something else (a comma, a slash
 * in the password), the text is refused, and nothing of it is shown.
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
const howToEncode = 'in a user or password , / ? # @ : are percent-encoded: %2C %2F %3F %23 %40 %3A';

/** Returns the servers and the login that `text` names; throws `USAGE`, never naming a secret. */
export function parseAddress(text: string): BrokerAddress {
  const urls = text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')
    .map((part, index) => parseOne(part, { isFirst: index === 0, hasLogin: text.includes('@') }));
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

/** `hasLogin`: an `@` stands somewhere in the whole text, so that any part of it may be of a secret. */
function parseOne(text: string, place: { isFirst: boolean; hasLogin: boolean }): OneAddress {
  const refuse = (what: string): SwarmError =>
    new SwarmError('USAGE', `not a NATS url${place.hasLogin ? '' : `: ${text}`} (${what})`);
  const whole = text.includes('://') ? text : `nats://${text}`;
  const url = URL.canParse(whole) ? new URL(whole) : undefined;
  if (url === undefined || url.hostname === '') {
    throw refuse(`nats://host:port, several with commas${place.hasLogin ? `; ${howToEncode}` : ''}`);
  }
  if (url.protocol !== 'nats:' && url.protocol !== 'tls:') {
    throw refuse('nats:// or tls://; websockets are not supported');
  }
  if ((url.pathname !== '' && url.pathname !== '/') || url.search !== '' || url.hash !== '') {
    throw refuse(`nothing follows the port; ${howToEncode}`);
  }
  if (!place.isFirst && text.includes('@') && !text.includes('://')) {
    // The end of a password with a comma in it would look the same.
    throw refuse(
      `a login behind a comma stands in a url of its own, nats://user:password@host; ${howToEncode}`,
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

/** Undoes percent-encoding; what is not encoded properly stays as it is. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
