import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { globalAccount, settleStreams, streamsAccount } from '../../src/server/store.ts';
import { temporaryFolder } from '../support/log.ts';

/** Returns a store with a stream in each of these accounts. */
function storeOf(...accounts: string[]): string {
  const folder = temporaryFolder();
  for (const account of accounts) {
    mkdirSync(join(folder, 'jetstream', account, 'streams', 'THREADS'), { recursive: true });
  }
  return folder;
}

const accountsIn = (folder: string): string[] => readdirSync(join(folder, 'jetstream'));
const alone = { isClustered: false };

test('streams go along to the account of a server that stands alone, and back', async () => {
  const folder = storeOf(globalAccount);
  await settleStreams(folder, streamsAccount, alone);
  await settleStreams(folder, streamsAccount, alone);
  expect(accountsIn(folder)).toEqual([streamsAccount]);
  await settleStreams(folder, globalAccount, alone);
  expect(accountsIn(folder)).toEqual([globalAccount]);
  await settleStreams(temporaryFolder(), globalAccount, alone); // a new one has none
});

test('streams of an account that has some already are left where they are', async () => {
  const folder = storeOf(globalAccount, streamsAccount);
  await settleStreams(folder, streamsAccount, alone);
  expect(accountsIn(folder)).toEqual([globalAccount, streamsAccount]);
});

test.each([
  [globalAccount, streamsAccount, 'was made without --secure'],
  [streamsAccount, globalAccount, 'was made with --secure'],
] as const)('a cluster with streams in %s does not start with %s', async (is, wanted, message) => {
  const folder = storeOf(is);
  const settling = settleStreams(folder, wanted, { isClustered: true });
  await expect(settling).rejects.toMatchObject({
    code: 'SERVER_START',
    message: expect.stringContaining(message),
  });
  expect(accountsIn(folder)).toEqual([is]);
  await settleStreams(folder, is, { isClustered: true });
});
