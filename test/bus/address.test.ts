import { describe, expect, test } from 'vitest';
import { SwarmError } from '../../src/base/errors.ts';
import { parseAddress } from '../../src/bus/address.ts';

const addresses: Record<string, ReturnType<typeof parseAddress>> = {
  'nats://127.0.0.1:4222': {
    servers: ['127.0.0.1:4222'],
    login: { by: 'nothing' },
    tls: false,
    shown: 'nats://127.0.0.1:4222',
  },
  'demo.example': {
    servers: ['demo.example:4222'],
    login: { by: 'nothing' },
    tls: false,
    shown: 'nats://demo.example:4222',
  },
  'tls://[::1]:14222': {
    servers: ['[::1]:14222'],
    login: { by: 'nothing' },
    tls: true,
    shown: 'tls://[::1]:14222',
  },
  'nats://ann:12345@host:4223': {
    servers: ['host:4223'],
    login: { by: 'password', user: 'ann', password: '12345' },
    tls: false,
    shown: 'nats://host:4223',
  },
  'nats://ann:p%40ss%3A@host': {
    servers: ['host:4222'],
    login: { by: 'password', user: 'ann', password: 'p@ss:' },
    tls: false,
    shown: 'nats://host:4222',
  },
  'nats://s3cret@host': {
    servers: ['host:4222'],
    login: { by: 'token', token: 's3cret' },
    tls: false,
    shown: 'nats://host:4222',
  },
  ' nats://ann:pw@a:1 , b:2,': {
    servers: ['a:1', 'b:2'],
    login: { by: 'password', user: 'ann', password: 'pw' },
    tls: false,
    shown: 'nats://a:1,nats://b:2',
  },
};

test.each(Object.entries(addresses))('%s is read as the nats CLI reads it', (text, address) => {
  expect(parseAddress(text)).toEqual(address);
});

describe('what is no address is refused, and no secret of it is repeated', () => {
  test.each([
    '',
    ' , ',
    'nats://',
    'nats://ann:s3cret@',
    'ws://ann:s3cret@host',
    'http://ann:s3cret@host:80',
    'nats://ann:s3cret@host:notaport',
    'ann:s3cret@host:99999999',
    'nats://ann:s3cret@a,nats://bob:s3cret@b',
    'nats://ann:s3cret,pw@host',
    'nats://ann:12,s3cret@host',
    'ann:s3cret,pw@host:4222',
    'nats://ann:12/s3cret@host',
    'nats://ann:12#s3cret@host',
    'nats://ann:12?s3cret@host',
    'nats://a,nats://b:s3cret,nats://pw@c',
  ])('%j', (text) => {
    let thrown: unknown;
    try {
      parseAddress(text);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(SwarmError);
    expect(thrown).toMatchObject({ code: 'USAGE' });
    expect(String(thrown)).not.toContain('s3cret');
  });
});

test.each(['nats://host/path', 'nats://host:4222/?a=b', 'nats://host#part', 'nats://ann:12/pw@host'])(
  '%s holds what no NATS url has, and the way to write it is said',
  (text) => {
    expect(() => parseAddress(text)).toThrow(/percent-encoded/);
  },
);

test('a last slash is nothing', () => {
  expect(parseAddress('nats://host:4223/').servers).toEqual(['host:4223']);
});
