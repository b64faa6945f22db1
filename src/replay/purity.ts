/**
 * Notices a handler that is run again and asks the clock, chance or the network past its context: what it is told then
 * is not on the record, and another time it will be told something else.
 *
 * The functions are wrapped while handlers run, and answer as ever. Whoever else calls them is not noticed.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { createRequire, syncBuiltinESMExports } from 'node:module';

/** A call past the context. */
export interface ImpureCall {
  /** `Date.now()`, `Math.random()`, … */
  readonly call: string;
  /** Where it stands: `file:line:column`, as the stack has it. */
  readonly at: string;
  readonly times: number;
  /** What to call in its place. */
  readonly instead: string;
}

const instead = {
  'new Date()': 'new Date(context.now())',
  'Date()': 'new Date(context.now()).toString()',
  'Date.now()': 'context.now()',
  'performance.now()': 'context.now()',
  'process.hrtime()': 'context.now()',
  'process.hrtime.bigint()': 'context.now()',
  'Math.random()': 'context.random()',
  'crypto.randomUUID()': 'context.uuid()',
  'crypto.getRandomValues()': 'context.random()',
  'crypto.randomBytes()': 'context.random()',
  'crypto.randomInt()': 'context.random()',
  'fetch()': "context.step('fetch', …)",
} as const;

type Name = keyof typeof instead;

/** The calls that were noticed in one run. */
export class ImpureCalls {
  readonly #calls = new Map<string, ImpureCall>();

  add(call: Name, at: string): void {
    const times = this.#calls.get(`${call} ${at}`)?.times ?? 0;
    this.#calls.set(`${call} ${at}`, { call, at, times: times + 1, instead: instead[call] });
  }

  get list(): readonly ImpureCall[] {
    return [...this.#calls.values()];
  }
}

const noticing = new AsyncLocalStorage<ImpureCalls | undefined>();
let watchers = 0;
let unwrap: () => void = () => undefined;

/** Runs `handler`; what it calls past its context is added to `calls`. */
export function noticed<Result>(calls: ImpureCalls, handler: () => Result): Result {
  return noticing.run(calls, handler);
}

/** Runs what is done live, and may call what it likes. */
export function unnoticed<Result>(act: () => Result): Result {
  return noticing.run(undefined, act);
}

/** Wraps the functions until the returned function is called. */
export function watchPurity(): () => void {
  watchers += 1;
  if (watchers === 1) unwrap = wrapAll();
  return () => {
    watchers -= 1;
    if (watchers === 0) unwrap();
  };
}

function notice(call: Name): void {
  const calls = noticing.getStore();
  if (calls === undefined) return;
  const own = import.meta.filename;
  const frames = new Error('where').stack?.split('\n').slice(1) ?? [];
  const frame = frames.find((text) => !text.includes(own) && !text.includes('node:')) ?? '';
  calls.add(
    call,
    /\(?((?:file:\/\/)?\/?[^()\s]+:\d+:\d+)\)?$/.exec(frame)?.[1]?.replace('file://', '') ?? '?',
  );
}

function wrapAll(): () => void {
  const nodeCrypto = createRequire(import.meta.url)('node:crypto') as Record<string, unknown>;
  const undo = [
    wrap(Math, 'random', 'Math.random()'),
    wrap(performance, 'now', 'performance.now()'),
    wrap(process.hrtime, 'bigint', 'process.hrtime.bigint()'),
    wrap(process, 'hrtime', 'process.hrtime()'),
    wrap(globalThis, 'fetch', 'fetch()'),
    wrap(globalThis.crypto, 'randomUUID', 'crypto.randomUUID()'),
    wrap(globalThis.crypto, 'getRandomValues', 'crypto.getRandomValues()'),
    wrap(nodeCrypto, 'randomUUID', 'crypto.randomUUID()'),
    wrap(nodeCrypto, 'randomBytes', 'crypto.randomBytes()'),
    wrap(nodeCrypto, 'randomInt', 'crypto.randomInt()'),
    wrapDate(),
  ];
  syncBuiltinESMExports();
  return () => {
    for (const one of undo) one();
    syncBuiltinESMExports();
  };
}

function wrap(owner: object, name: string, call: Name): () => void {
  const before = Object.getOwnPropertyDescriptor(owner, name);
  const original = (owner as Record<string, unknown>)[name];
  if (typeof original !== 'function') return () => undefined;
  const wrapped = new Proxy(original, {
    apply(target, self, args) {
      notice(call);
      return Reflect.apply(target, self === undefined ? owner : self, args) as unknown;
    },
  });
  Object.defineProperty(owner, name, {
    value: wrapped,
    configurable: true,
    writable: true,
    enumerable: true,
  });
  return () => {
    if (before === undefined) delete (owner as Record<string, unknown>)[name];
    else Object.defineProperty(owner, name, before);
  };
}

function wrapDate(): () => void {
  const original = globalThis.Date;
  globalThis.Date = new Proxy(original, {
    construct(target, args, newTarget) {
      if (args.length === 0) notice('new Date()');
      return Reflect.construct(target, args, newTarget) as object;
    },
    apply(target, self, args) {
      notice('Date()');
      return Reflect.apply(target, self, args) as unknown;
    },
    get(target, name, receiver) {
      if (name === 'now') notice('Date.now()');
      return Reflect.get(target, name, receiver) as unknown;
    },
  });
  return () => {
    globalThis.Date = original;
  };
}
