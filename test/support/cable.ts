/** A connection to a port of this machine that can be muted, cut, and mended. */
import { connect, createServer, type Socket } from 'node:net';
import { onTestFinished } from 'vitest';

export interface Cable {
  readonly port: number;
  /** What comes back is lost from now on, until it is cut. */
  mute(): void;
  /** Ends all connections, and takes none. */
  cut(): void;
  /** Takes connections again. */
  mend(): Promise<void>;
}

/** Returns a cable to `port`, which is cut when the test is over. */
export async function cableTo(port: number): Promise<Cable> {
  const sockets = new Set<Socket>();
  let isMute = false;
  const server = createServer((near) => {
    const far = connect(port, '127.0.0.1');
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => {
        near.destroy();
        far.destroy();
      });
    }
    near.pipe(far);
    far.on('data', (bytes) => {
      if (!isMute) near.write(bytes);
    });
  });
  const listen = (at: number): Promise<void> =>
    new Promise((resolve) => void server.listen(at, '127.0.0.1', resolve));
  await listen(0);
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  const cut = (): void => {
    server.close();
    for (const socket of sockets) socket.destroy();
    sockets.clear();
    isMute = false;
  };
  onTestFinished(cut);
  return {
    port: address.port,
    mute: () => {
      isMute = true;
    },
    cut,
    mend: () => listen(address.port),
  };
}
