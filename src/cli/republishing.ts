/**
 * `swarm replay --to`: recorded messages, sent into a stream of their own.
 *
 * Loaded only where somebody asks for it, for with it comes the client for the broker.
 */
import type { Settings } from '../agent/settings.ts';
import { busStatus } from '../base/events.ts';
import { connectBus } from '../bus/connection.ts';
import { type Republished, republish } from '../replay/republish.ts';
import type { Selection } from '../replay/selection.ts';
import type { Timeline } from '../replay/timeline.ts';
import { ownBusOptions } from './broker.ts';
import type { Invocation } from './invocation.ts';
import { countOf } from './progress.ts';
import { openReplayStream } from './replay-stream.ts';

export interface RepublishingOptions {
  /** Whose broker, and who we are there. */
  readonly settings: Settings;
  readonly stream: string;
  readonly prefix: string;
  readonly speed: number;
}

/** Sends what is selected. Throws what `connectBus`, `openReplayStream` and `republish` throw. */
export async function republishInto(
  { settings, stream, prefix, speed }: RepublishingOptions,
  timeline: Timeline,
  { kind: _, ...selection }: Selection,
  { out, interruption }: Invocation,
): Promise<Republished> {
  const signal = interruption.take();
  const stopTelling = busStatus.subscribe(({ status, detail }) => {
    if (status === 'warning') out.warn(detail);
    else if (status !== 'connected') out.note(detail);
  });
  let [there, all] = [0, 0];
  try {
    await using bus = await connectBus(await ownBusOptions(settings));
    await using sink = await openReplayStream(bus, { stream, prefix });
    using bar = await countOf('messages', out);
    let isFirst = true;
    return await republish(timeline, sink, {
      ...selection,
      speed,
      signal,
      onProgress: ({ messages, total }) => {
        if (isFirst) out.note(`Stream ${stream} at ${bus.address} holds ${messages} of ${total} messages`);
        isFirst = false;
        [there, all] = [messages, total];
        bar.update(messages, total);
      },
    });
  } catch (thrown) {
    if (interruption.is(thrown)) out.note(`${there} of ${all} messages are there; the same command goes on.`);
    throw thrown;
  } finally {
    stopTelling();
  }
}
