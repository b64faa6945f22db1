/** What is known of the broker's clock, with clocks that step. */
import { expect, test } from 'vitest';
import { BrokerClock } from '../../src/bus/broker-clock.ts';
import type { Bus } from '../../src/bus/connection.ts';

const second = 1_000_000_000n;
const real = (): bigint => process.hrtime.bigint();

/** A connection as far as the clock asks: whether there is one, and which. */
function connection(): Bus & { session: number; isConnected: boolean } {
  return { session: 1, isConnected: true } as Bus & { session: number; isConnected: boolean };
}

const moment = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 5));

test('is sure of what was measured on this connection, and holds it against our own clock', async () => {
  const offset = { offsetNs: 3n * second, uncertaintyNs: 1_000n };
  const clock = new BrokerClock(connection(), { clock: real, ask: async () => real(), offset });
  const { earliestNs, latestNs, isSure } = clock.now();
  expect(isSure).toBe(true);
  expect(latestNs - real()).toBeGreaterThan((29n * second) / 10n);
  expect(latestNs - earliestNs).toBeLessThan(second / 10n);
  const behind = new BrokerClock(connection(), {
    clock: real,
    ask: async () => real(),
    offset: { offsetNs: -3n * second, uncertaintyNs: 0n },
  });
  expect(behind.now().latestNs - behind.now().earliestNs).toBeGreaterThan((29n * second) / 10n);
});

test.each([
  ['forward', 40n],
  ['back', -40n],
])('is not sure once our clock steps %s, spans both, and is sure again once measured', async (_, step) => {
  let stepped = 0n;
  const clock = new BrokerClock(connection(), {
    clock: () => real() + stepped,
    ask: async () => real(),
    offset: { offsetNs: 0n, uncertaintyNs: 0n },
  });
  stepped = step * second;
  const doubtful = clock.now();
  expect(doubtful.isSure).toBe(false);
  expect(doubtful.latestNs - doubtful.earliestNs).toBeGreaterThan(39n * second);
  await moment();
  expect(clock.now().isSure).toBe(true);
  const offset = await clock.measure();
  expect(Number(offset.offsetNs / 1_000_000n)).toBeCloseTo(Number(-step) * 1_000, -2);
});

test('is not sure on a new connection until measured there', async () => {
  const bus = connection();
  const clock = new BrokerClock(bus, {
    clock: real,
    ask: async () => real(),
    offset: { offsetNs: 0n, uncertaintyNs: 0n },
  });
  bus.session = 2;
  expect(clock.now().isSure).toBe(false);
  await moment();
  expect(clock.now().isSure).toBe(true);
});

test('is not sure before anything was measured, and asks nothing while disconnected', async () => {
  const bus = connection();
  bus.isConnected = false;
  let asked = 0;
  const ask = async (): Promise<bigint> => {
    asked += 1;
    return real();
  };
  const clock = new BrokerClock(bus, { clock: real, ask });
  expect(clock.now().isSure).toBe(false);
  await moment();
  expect([clock.now().isSure, asked]).toEqual([false, 0]);
});
