/**
 * A nats-server's configuration file, for a person to read as much as for the server. Pure.
 *
 * It says who may connect and what each may do. Ports, store and names are arguments of the process, so that this file
 * can be written anew and read again while it runs.
 */

/** A user whom the server knows by an NKey. */
export interface ServerUser {
  /** Who that is, in a line. */
  readonly comment: string;
  /** "U…" */
  readonly nkey: string;
  /** Subjects that it may publish on, wildcards allowed; nothing else. */
  readonly publish: readonly string[];
  /** Subjects that it may subscribe to; nothing else. */
  readonly subscribe: readonly string[];
}

/**
 * Returns a configuration in which `users` may connect and nobody else, under `heading`, lines of comment. Throws a
 * `RangeError` without users: nats-server would let everybody in.
 */
export function printConfiguration(heading: readonly string[], users: readonly ServerUser[]): string {
  if (users.length === 0) throw new RangeError('a configuration without users lets everybody in');
  return `${heading.map((line) => `# ${line}`.trimEnd()).join('\n')}

authorization {
  timeout: 10 # seconds that a client may take to prove itself

  users: [
${users.map(printUser).join('\n\n')}
  ]
}
`;
}

function printUser({ comment, nkey, publish, subscribe }: ServerUser): string {
  return `    # ${comment}
    {
      nkey: ${nkey}
      permissions: {
        publish: { allow: ${printList(publish)} }
        subscribe: { allow: ${printList(subscribe)} }
      }
    }`;
}

function printList(subjects: readonly string[]): string {
  return `[\n${subjects.map((subject) => `          "${subject}"\n`).join('')}        ]`;
}
