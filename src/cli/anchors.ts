/**
 * Checkpoints that were kept elsewhere, for a verification: in files, and in the swarm's stream CHECKPOINTS.
 *
 * The client for the broker is loaded only where somebody asks for the stream, and the connection is closed before the
 * log is read.
 */
import type { Settings } from '../agent/settings.ts';
import type * as checkpoints from '../bus/checkpoints.ts';
import type * as connection from '../bus/connection.ts';
import type { Anchor } from '../verify/anchors.ts';
import { ownBusOptions } from './broker.ts';
import { readNamedFile } from './files.ts';
import type { Output } from './output.ts';

/** Returns the checkpoints in `files`, each of which must be of the log. Throws `FILE_FAILED`. */
export async function anchorsInFiles(files: readonly string[]): Promise<Anchor[]> {
  return await Promise.all(
    files.map(async (source) => ({
      text: (await readNamedFile(source)).toString('utf8'),
      source,
      required: true,
    })),
  );
}

/** Returns all checkpoints in the stream, of whatever log and whomever. Throws what `connectBus` and `readCheckpoints` throw. */
export async function anchorsInStream(settings: Settings, out: Output): Promise<Anchor[]> {
  const { connectBus, readCheckpoints } = await loadBus();
  await using bus = await connectBus(await ownBusOptions(settings));
  const anchors: Anchor[] = [];
  for await (const { subject, text } of readCheckpoints(bus)) {
    anchors.push({ text, source: `${subject} at ${bus.address}` });
  }
  out.note(`Read ${anchors.length} checkpoints at ${bus.address}`);
  return anchors;
}

// Apart from `await using`: where TypeScript lowers that, it leaves the extension of an import in the same function as it is.
async function loadBus(): Promise<
  Pick<typeof connection, 'connectBus'> & Pick<typeof checkpoints, 'readCheckpoints'>
> {
  const { connectBus } = await import('../bus/connection.ts');
  const { readCheckpoints } = await import('../bus/checkpoints.ts');
  return { connectBus, readCheckpoints };
}
