/**
 * In which account of a store the streams are.
 *
 * A server that lets in anybody keeps them in its global account; one that knows its users keeps them apart from most of
 * these, in an account of their own. On disk an account is a folder, so that a server which stands alone takes its streams
 * along when it becomes the other sort. Servers of a cluster have also agreed on who has what, and stay what they were.
 */
import { readdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { syncFolder } from '../base/durable.ts';
import { SwarmError } from '../base/errors.ts';

/** The account of a server that lets in anybody. */
export const globalAccount = '$G';

/** The account of the streams at a server that knows its users. */
export const streamsAccount = 'STREAMS';

export type StoreAccount = typeof globalAccount | typeof streamsAccount;

/**
 * Sees to it that the streams in `storeDir`, in which no server is at work, are in `account`. Throws `SERVER_START` where they
 * are in the other and the server is one of a cluster.
 */
export async function settleStreams(
  storeDir: string,
  account: StoreAccount,
  { isClustered }: { readonly isClustered: boolean },
): Promise<void> {
  const folder = join(storeDir, 'jetstream');
  const other = account === globalAccount ? streamsAccount : globalAccount;
  const has = async (name: StoreAccount): Promise<boolean> =>
    (await readdir(join(folder, name, 'streams')).catch(() => [])).length > 0;
  if ((await has(account)) || !(await has(other))) return;
  if (isClustered) {
    const made = other === streamsAccount ? 'with' : 'without';
    throw new SwarmError(
      'SERVER_START',
      `the cluster in ${storeDir} was made ${made} --secure, and stays so; start it ${made} --secure, or choose another folder`,
    );
  }
  await rename(join(folder, other), join(folder, account));
  await syncFolder(folder);
}
