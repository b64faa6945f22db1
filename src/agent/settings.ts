/**
 * Where an agent's settings come from: what the caller says, else the env file that was named, else the
 * environment, else `.env`, else the default. An empty value (`NATS_URL=`) is none. Files are read without touching
 * `process.env`, so that several agents live in one folder.
 */
import { SwarmError } from '../base/errors.ts';
import { nameGrammar } from '../base/subject.ts';
import type { TlsFiles } from '../bus/credentials.ts';
import { type EnvValues, readEnvFile } from '../identity/envfile.ts';
import { readNatsContext } from './nats-context.ts';

export interface SettingSources {
  /** The env file. @default `SWARM_ENV`, else `.env` */
  readonly env?: string;
  /** @default `NATS_URL`, else that of the context that `NATS_CONTEXT` names, else `nats://127.0.0.1:4222` */
  readonly url?: string;
  /** The path of a creds file. @default `NATS_CREDS`, else none */
  readonly credentials?: string;
  /** Files for TLS, in PEM. @default `NATS_CA`, `NATS_CERT`, `NATS_KEY`, else none */
  readonly tls?: TlsFiles;
  /** @default `SWARM_LOG`, else `logs/swarm.jsonl` */
  readonly log?: string;
  /** @default `SWARM_KEYRING`, else `swarm.keys.json` */
  readonly keyring?: string;
  /** The folder in which we remember what we sealed. @default `SWARM_STATE`, else `.swarm/sealed` */
  readonly state?: string;
  /** @default `SWARM_STREAM`, else `THREADS` */
  readonly stream?: string;
  /** The swarm that is signed into every record and required of every message. @default `SWARM_NAME`, else the keyring's */
  readonly swarm?: string;
  /** Stands in for `process.env`. @default process.env */
  readonly environment?: EnvValues;
}

export interface Settings {
  readonly envFile: string;
  /** Whether somebody named the env file; then it, and not the environment, holds the key. */
  readonly envFileNamed: boolean;
  readonly url: string;
  readonly credentials: string | undefined;
  readonly tls: TlsFiles | undefined;
  readonly inboxPrefix: string | undefined;
  readonly log: string;
  readonly keyring: string;
  /** Whether somebody named the keyring; if so, it must be there. */
  readonly keyringNamed: boolean;
  readonly state: string;
  readonly stream: string;
  readonly swarm: string | undefined;
  readonly environment: EnvValues;
}

/** Returns the settings of an agent; throws `ENV_FILE` where an env file is there and cannot be read, `BUS_CONTEXT`, and `USAGE`. */
export async function readSettings(sources: SettingSources = {}): Promise<Settings> {
  const environment = sources.environment ?? process.env;
  const named = sources.env ?? (environment.SWARM_ENV || undefined);
  const envFile = named ?? '.env';
  const fromFile = filled((await readEnvFile(envFile)) ?? {});
  const present = filled(environment);
  const values: EnvValues = named === undefined ? { ...fromFile, ...present } : { ...present, ...fromFile };
  const keyring = sources.keyring ?? values.SWARM_KEYRING;
  const url = sources.url ?? values.NATS_URL;
  const context = values.NATS_CONTEXT ? await readNatsContext(values.NATS_CONTEXT, environment, url) : {};
  const tls = sources.tls ?? { ...context.tls, ...tlsOf(values) };
  const stream = sources.stream ?? values.SWARM_STREAM ?? 'THREADS';
  if (!nameGrammar.test(stream)) {
    throw new SwarmError(
      'USAGE',
      `not a stream name: ${JSON.stringify(stream)} (1 to 64 letters, digits, _ and -)`,
    );
  }
  return {
    envFile,
    envFileNamed: named !== undefined,
    url: context.url ?? url ?? 'nats://127.0.0.1:4222',
    credentials: sources.credentials ?? values.NATS_CREDS ?? context.credentials,
    tls: Object.keys(tls).length === 0 ? undefined : tls,
    inboxPrefix: context.inboxPrefix,
    log: sources.log ?? values.SWARM_LOG ?? 'logs/swarm.jsonl',
    keyring: keyring ?? 'swarm.keys.json',
    keyringNamed: keyring !== undefined,
    state: sources.state ?? values.SWARM_STATE ?? '.swarm/sealed',
    stream,
    swarm: sources.swarm ?? values.SWARM_NAME,
    environment,
  };
}

/** Returns the files for TLS that `values` name as the nats CLI has them. */
function tlsOf({ NATS_CA, NATS_CERT, NATS_KEY }: EnvValues): TlsFiles {
  return {
    ...(NATS_CA !== undefined && { caFile: NATS_CA }),
    ...(NATS_CERT !== undefined && { certFile: NATS_CERT }),
    ...(NATS_KEY !== undefined && { keyFile: NATS_KEY }),
  };
}

function filled(values: EnvValues): EnvValues {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value));
}
