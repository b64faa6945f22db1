import { expect, test } from 'vitest';
import { matchesPattern, type SubjectPattern } from '../../src/base/subject.ts';
import { permissionsOf, servicesOf } from '../../src/bus/permissions.ts';

const listener = {
  name: 'listener',
  publish: ['thread.*.listener'],
  durables: { work: ['thread.a.>'] },
  inboxPrefix: '_INBOX_listener',
  isOperator: false,
};

test('an agent may do what it must, and nothing that creates, changes or deletes', () => {
  expect(permissionsOf(listener, 'THREADS')).toEqual({
    publish: [
      'thread.*.listener',
      'dead.thread.a.>',
      'checkpoint.listener',
      '$JS.API.INFO',
      '$JS.API.STREAM.INFO.THREADS',
      '$JS.API.STREAM.MSG.GET.THREADS',
      '$JS.API.STREAM.INFO.CHECKPOINTS',
      '$JS.API.STREAM.MSG.GET.CHECKPOINTS',
      '$JS.API.STREAM.INFO.DEAD',
      '$JS.API.STREAM.MSG.GET.DEAD',
      '$JS.API.CONSUMER.INFO.THREADS.work',
      '$JS.API.CONSUMER.MSG.NEXT.THREADS.work',
      '$JS.ACK.THREADS.work.*.*.*.*.*',
      '$JS.ACK.*.*.THREADS.work.*.*.*.*.>',
    ],
    subscribe: ['_INBOX_listener.>'],
  });
  expect(permissionsOf({ ...listener, isOperator: true }, 'THREADS').publish).toContain('$JS.API.>');
});

test('whatever an agent may ask is a service of the streams, and nothing that creates, changes or deletes is', () => {
  const services = servicesOf('OTHER').map(({ subject }) => subject as SubjectPattern);
  const { publish } = permissionsOf({ ...listener, publish: ['>'] }, 'OTHER');
  const covered = (subject: string): boolean =>
    services.some((service) =>
      matchesPattern(service, subject.replace(/>$/, 'any.thing').replaceAll('*', 'any')),
    );
  expect(publish.filter((subject) => !covered(subject))).toEqual([]);
  const verbs = [
    'CREATE',
    'UPDATE',
    'DELETE',
    'PURGE',
    'RESTORE',
    'SNAPSHOT',
    'STEPDOWN',
    'PEER',
    'PAUSE',
    'LIST',
    'NAMES',
  ];
  expect(
    services.filter((subject) => subject === '>' || verbs.some((verb) => subject.includes(verb))),
  ).toEqual([]);
  expect(covered('$JS.API.STREAM.DELETE.OTHER')).toBe(false);
});

test.each([
  ['>', ['thread.>']],
  ['*.x.y', ['thread.x.y']],
  ['*.>', ['thread.>']],
  ['thread.>', ['thread.>']],
  ['$JS.API.>', []],
  ['reports.daily', []],
  ['*', []],
])('a keyring that says %s lets the server be told of threads alone', (pattern, told) => {
  const { publish } = permissionsOf({ ...listener, publish: [pattern], durables: {} }, 'THREADS');
  expect(publish.slice(0, publish.indexOf('checkpoint.listener'))).toEqual(told);
});
