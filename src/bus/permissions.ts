/**
 * What each client may do at a broker that knows the agents, as NATS subjects. Pure.
 *
 * An agent publishes where the keyring says, keeps its checkpoints, reads its durables, acks what they hand out, and puts
 * what it cannot deal with among the dead letters. Everything else is an answer to a request of its own, and comes to an inbox that nobody else may hear. It reads streams
 * and durables and never creates, changes or deletes one: who may create a consumer may have it deliver to any subject.
 * That is for the operator, who may also replay into a stream of its own (`swarm replay --to`).
 *
 * Permissions are not enough for that. A client may name any subject for an answer, and a server does not ask whether it
 * may publish there: what a durable answers when it has nothing to hand out would delete a stream. So agents are in an
 * account without JetStream, and what they may ask of the account that has it are services, whose answers stay among the agents.
 */
import { checkpointsStream, deadStream, threadsStream } from './stream.ts';

/** A client, by what it is to do. */
export interface ClientRights {
  readonly name: string;
  /** Patterns of subjects. */
  readonly publish: readonly string[];
  /** The filters of each durable. */
  readonly durables: Readonly<Record<string, readonly string[]>>;
  readonly inboxPrefix: string;
  /** Whether it may create streams and consumers, and change and delete what can be. */
  readonly isOperator: boolean;
}

/** Subjects that a client may publish on, and subscribe to. */
export interface Permissions {
  readonly publish: readonly string[];
  readonly subscribe: readonly string[];
}

/** Something that agents may ask of the account with the streams. */
export interface Service {
  /** Wildcards allowed. */
  readonly subject: string;
  /** Whether one request may have many answers. */
  readonly answersOften: boolean;
}

/** Returns the services that agents of `stream` need, whichever of them each is permitted. */
export function servicesOf(stream: string): readonly Service[] {
  const said = [threadsStream, checkpointsStream, deadStream].flatMap(({ subjects }) => subjects);
  const once = [...said, ...readingOf(stream), `$JS.API.CONSUMER.INFO.${stream}.*`, ...acksOf(stream, '*')];
  return [
    ...once.map((subject) => ({ subject, answersOften: false })),
    { subject: `$JS.API.CONSUMER.MSG.NEXT.${stream}.*`, answersOften: true },
  ];
}

/** Returns what looks at streams and changes nothing. */
function readingOf(stream: string): string[] {
  const streams = [stream, checkpointsStream.name, deadStream.name];
  return [
    '$JS.API.INFO',
    ...streams.flatMap((each) => [`$JS.API.STREAM.INFO.${each}`, `$JS.API.STREAM.MSG.GET.${each}`]),
  ];
}

/**
 * Returns what acks what `consumer` hands out, as servers spell it, and as they will: with domain and account before the
 * stream, and perhaps more behind (NATS ADR-15). Token by token: with a `>` right behind the consumer, what is this one's in
 * one form would be another's in the other.
 */
function acksOf(stream: string, consumer: string): string[] {
  return [`$JS.ACK.${stream}.${consumer}.*.*.*.*.*`, `$JS.ACK.*.*.${stream}.${consumer}.*.*.*.*.>`];
}

/** Returns the permissions of a client of `stream`. */
export function permissionsOf(client: ClientRights, stream: string): Permissions {
  const { name, publish, inboxPrefix, isOperator } = client;
  const durables = Object.keys(client.durables);
  const heard = Object.values(client.durables).flat().flatMap(withinThreads);
  const administration = isOperator
    ? ['$JS.API.>', ...acksOf(stream, '*'), 'replay.>']
    : [
        ...readingOf(stream),
        ...durables.flatMap((durable) => [
          `$JS.API.CONSUMER.INFO.${stream}.${durable}`,
          `$JS.API.CONSUMER.MSG.NEXT.${stream}.${durable}`,
        ]),
      ];
  return {
    publish: [
      ...new Set(publish.flatMap(withinThreads)),
      ...new Set(heard.map((pattern) => `dead.${pattern}`)),
      `checkpoint.${name}`,
      ...administration,
      ...durables.flatMap((durable) => acksOf(stream, durable)),
    ],
    subscribe: [`${inboxPrefix}.>`],
  };
}

/** Returns `pattern` as far as it is about threads: `>` in a keyring is every thread, and never `$JS.API.>`. */
function withinThreads(pattern: string): string[] {
  if (pattern === '>') return ['thread.>'];
  const [first, ...rest] = pattern.split('.');
  return rest.length > 0 && (first === 'thread' || first === '*') ? [['thread', ...rest].join('.')] : [];
}
