/**
 * The one error class, and the table of its codes.
 *
 * A `SwarmError` has a `code` to match on, a `message` that names the thing and the way out, and a
 * `cause` to dig into. The table is the source of docs/errors.md; a test holds the two together in both
 * directions. What a verifier finds in a log is a value (`verify/finding.ts`), never one of these.
 */

/** Every code a `SwarmError` can carry, with what it means. */
export const errorCodes = {
  USAGE: 'A command or function was called with arguments it does not take.',
  SUBJECT_INVALID: 'A subject or subject pattern does not fit the grammar of docs/format.md, section 2.',
  PAYLOAD_INVALID: 'A payload cannot be sent: it is not JSON-serialisable, or over 64 MiB.',
  RECORD_INVALID: 'A record was asked for that the format does not allow.',
  RECORD_MISSING: 'The record that was named is not in the log.',
  FILE_FAILED: 'A file that was named cannot be read or written.',

  KEY_MISSING: 'No signing key was found where one is needed.',
  KEY_MALFORMED: 'A key is not 32 bytes in canonical base64.',
  KEY_MISMATCH: 'The public key of a pair does not belong to its secret key.',
  KEY_IS_SECRET: 'A secret key stands where public keys belong.',
  KEY_EXISTS: 'A key pair is already there, and was not overwritten.',
  ENV_FILE: 'The file with the keys cannot be read or written.',
  KEYRING_MISSING: 'No keyring was found where one is needed.',
  KEYRING_FILE: 'The keyring cannot be read or written.',
  KEYRING_INVALID: 'The keyring is not valid JSON, or not a valid keyring.',
  KEYRING_CONFLICT: 'The keyring already has that name or key.',

  LOG_OPEN: 'A log cannot be opened or read.',
  LOG_REFUSED: 'A log does not verify, so that nothing is made of it: no replay, no reconciliation.',
  REPLAY_UNSENDABLE:
    'A recorded message cannot be sent again: its payload is withheld, or it is of version 1.',
  REPLAY_DIFFERS: 'What is replayed into holds something else than this replay.',
  LOG_WRITE_FAILED: 'A write or fsync failed; the log accepts nothing more until it is reopened.',
  SEAL_REFUSED: 'The log does not extend what was sealed of it, or its checkpoint is of nobody whom we know.',
  SEAL_STATE: 'What we remember of a log is not a checkpoint of it that we signed.',
  SEAL_FAILED: 'A tree or checkpoint could not be read or written; what was sealed before stays sealed.',
  NOT_SEALED: 'No checkpoint covers the record yet.',
  PROOF_FAILED: 'A record cannot be proved: log, tiles and checkpoint contradict each other.',
  STATE_INVALID: 'The state of an incremental verification cannot be read.',
  REPLAY_DIVERGED: 'An agent that was to go on from its history does not do again what it did.',
  LOG_CLOSED: 'The log was closed before the record could be written.',
  TILE_INVALID: "A tile of a log's tree is not as long as its place says.",

  SERVER_NOT_FOUND: 'No nats-server 2.10 or newer was found, and none could be fetched.',
  SERVER_START: 'The local nats-server did not start.',
  SERVER_EXITED: 'The local nats-server ended by itself.',

  BUS_UNREACHABLE: 'No NATS server answers at the address given.',
  BUS_AUTH: 'The NATS server refused the credentials.',
  BUS_CREDENTIALS: 'The NATS credentials file cannot be read.',
  BUS_CONTEXT: 'The context of the nats CLI cannot be read, or asks for what is not supported.',
  BUS_TLS: 'The TLS connection to the NATS server failed.',
  BUS_TOO_OLD: 'The NATS server is older than 2.10.',
  BUS_NO_JETSTREAM: 'The NATS server or account has JetStream switched off, or it does not answer.',
  BUS_STREAM: 'The stream cannot be created or read.',
  BUS_STREAM_DIFFERS: 'The stream exists with another configuration than the swarm needs.',
  BUS_CLOCK: "This machine's clock is too far from the broker's: every message would be stale.",
  BUS_PAYLOAD_TOO_LARGE: 'The message is larger than the NATS server accepts.',
  BUS_PERMISSION: 'The NATS server does not permit this client that subject.',
  BUS_REFUSED: 'The stream refused the message.',
  BUS_UNCONFIRMED: 'The broker did not confirm a message in time; it may or may not have it.',
  BUS_CONSUMER: 'The durable consumer cannot be created or read.',
  BUS_CLOSED: 'The connection was closed.',
  NOT_QUIET: 'Agents were still at work when the time was up.',

  PUBLISH_NOT_PERMITTED: 'The keyring does not let this agent publish on that subject.',
} as const;

export type ErrorCode = keyof typeof errorCodes;

export class SwarmError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'SwarmError';
    this.code = code;
  }
}

/** Returns the message of anything thrown, for use inside another message. */
export function messageOf(thrown: unknown): string {
  // The system's own words for a folder that is read as a file, `illegal operation`, frighten and do not tell.
  if ((thrown as NodeJS.ErrnoException | undefined)?.code === 'EISDIR') return 'it is a folder, not a file';
  return thrown instanceof Error ? thrown.message : String(thrown);
}
