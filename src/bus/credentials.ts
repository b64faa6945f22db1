/**
 * What a client proves itself with, as the client takes it and in words for people. Files are tried before
 * anything is connected, so that a wrong path is not mistaken for a wrong password.
 */
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { type Authenticator, credsAuthenticator, type TlsOptions } from '@nats-io/transport-node';
import { messageOf, SwarmError } from '../base/errors.ts';
import type { BrokerAddress } from './address.ts';

/** Files for TLS, in PEM. */
export interface TlsFiles {
  readonly caFile?: string;
  readonly certFile?: string;
  readonly keyFile?: string;
}

/** Returns `files` for the client, which reads them for each connection; throws `BUS_TLS` if one cannot be read. */
export async function tlsOf(files: TlsFiles): Promise<TlsOptions> {
  for (const path of Object.values(files)) {
    try {
      await readFile(path);
    } catch (cause) {
      throw new SwarmError('BUS_TLS', `cannot read the TLS file ${path}: ${messageOf(cause)}`, { cause });
    }
  }
  return { ...files };
}

/** A key of our own to prove ourselves with, at a server that knows it as a user's NKey. */
export interface NkeyLogin {
  /** The user, "U…". */
  readonly user: string;
  /** Returns the Ed25519 signature of what the server asks to have signed. */
  sign(nonce: Uint8Array): Uint8Array;
  /** Where replies come to for this user. */
  readonly inboxPrefix: string;
}

export interface Credentials {
  readonly authenticator?: Authenticator;
  readonly words: string;
  /** What to do should they be refused. @default what a person does about a url or a file */
  readonly wayOut?: string;
  readonly inboxPrefix?: string;
}

/** Returns what to connect with: the file if there is one, else what the address holds, else the key. Throws `BUS_CREDENTIALS`. */
export async function credentialsOf(
  address: BrokerAddress,
  { credentials, nkey }: { readonly credentials?: string; readonly nkey?: NkeyLogin },
): Promise<Credentials> {
  if (credentials !== undefined) return credentialsOfFile(credentials);
  const { login } = address;
  switch (login.by) {
    case 'nothing':
      return nkey === undefined ? { words: '' } : credentialsOfKey(nkey);
    case 'token':
      return { words: 'the token in the url', authenticator: () => ({ auth_token: login.token }) };
    case 'password':
      return {
        words: `the user ${JSON.stringify(login.user)} with the password in the url`,
        authenticator: () => ({ user: login.user, pass: login.password }),
      };
  }
}

/** A server that asks for no signature learns nothing of the key. */
function credentialsOfKey({ user, sign, inboxPrefix }: NkeyLogin): Credentials {
  const authenticator: Authenticator = (nonce) =>
    nonce ? { nkey: user, sig: Buffer.from(sign(Buffer.from(nonce))).toString('base64url') } : undefined;
  return {
    words: `this agent's key, as the NATS user ${user}`,
    wayOut:
      'add it to the keyring that the server goes by (`swarm keys show`, `swarm keys add`), or name a credentials file (--creds, NATS_CREDS)',
    authenticator,
    inboxPrefix,
  };
}

/** A credentials file that is renewed while we run is read again; one that cannot be is no reason to give up. */
async function credentialsOfFile(path: string): Promise<Credentials> {
  let latest: Uint8Array;
  try {
    latest = await readFile(path);
    credsAuthenticator(latest)('nonce');
  } catch (cause) {
    throw new SwarmError('BUS_CREDENTIALS', `cannot use the credentials file ${path}: ${messageOf(cause)}`, {
      cause,
    });
  }
  const authenticator: Authenticator = (nonce) => {
    try {
      const renewed = readFileSync(path);
      const auth = credsAuthenticator(renewed)(nonce);
      latest = renewed;
      return auth;
    } catch {
      // An exception here would close the connection for good.
      return credsAuthenticator(latest)(nonce);
    }
  };
  return { words: `the credentials file ${path} (NATS_CREDS)`, authenticator };
}
