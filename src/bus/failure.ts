/**
 * Why a first connection failed, as one error that says what to do. Pure: what the client threw comes in,
 * a `SwarmError` goes out.
 */
import { errors } from '@nats-io/transport-node';
import { messageOf, SwarmError } from '../base/errors.ts';

/** What was tried, in words without secrets. */
export interface Attempt {
  /** The addresses, as `BrokerAddress.shown`. */
  readonly shown: string;
  /** What the client proved itself with: `the token in the url`. Empty if with nothing. */
  readonly loginWords: string;
  /** What to do where that is refused. @default correct the url, or name a credentials file */
  readonly wayOut?: string;
  readonly timeoutMs: number;
}

/** Returns what `thrown`, from the client's `connect`, means: `BUS_UNREACHABLE`, `BUS_AUTH` or `BUS_TLS`. */
export function connectFailure(thrown: unknown, attempt: Attempt): SwarmError {
  const { shown, loginWords, timeoutMs } = attempt;
  const { wayOut = 'correct the url (--url, NATS_URL), or name a credentials file (--creds, NATS_CREDS)' } =
    attempt;
  const cause = rootOf(thrown);
  if (
    thrown instanceof errors.AuthorizationError ||
    thrown instanceof errors.UserAuthenticationExpiredError
  ) {
    const message =
      loginWords === ''
        ? `${shown} asks for credentials and none were given; use the key of an agent in the keyring (--env, SWARM_ENV), put a login into the url (--url, NATS_URL), or name a credentials file (--creds, NATS_CREDS)`
        : `${shown} refused ${loginWords} (${thrown.message.toLowerCase()}); ${wayOut}`;
    return new SwarmError('BUS_AUTH', message, { cause });
  }
  if (isAboutTls(cause)) {
    return new SwarmError('BUS_TLS', `no TLS connection to ${shown}: ${messageOf(cause)}`, { cause });
  }
  const why = thrown instanceof errors.TimeoutError ? `no greeting within ${timeoutMs} ms` : messageOf(cause);
  return new SwarmError(
    'BUS_UNREACHABLE',
    `no NATS server answers at ${shown} (${why}); start one with \`swarm up\`, or set NATS_URL`,
    { cause },
  );
}

/** The client wraps what the socket said, sometimes with nothing inside. */
function rootOf(thrown: unknown): unknown {
  return thrown instanceof Error && thrown.cause instanceof Error ? thrown.cause : thrown;
}

const tlsCode =
  /^(?:ERR_(?:TLS|SSL|OSSL)_|CERT_|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|HOSTNAME_MISMATCH|EPROTO)/;

function isAboutTls(thrown: unknown): boolean {
  if (!(thrown instanceof Error)) return false;
  const code = 'code' in thrown && typeof thrown.code === 'string' ? thrown.code : '';
  return tlsCode.test(code) || /\b(?:tls|ssl|certificate)\b/i.test(thrown.message);
}
