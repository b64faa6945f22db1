/**
 * A verification as the state that the next one goes on from, and back.
 */
import type { Sha256Hex } from '../base/encoding.ts';
import type { PublicKey } from '../identity/key.ts';
import { HashSet } from './hash-set.ts';
import { emptyTally, type Tally } from './history.ts';
import { Sessions } from './sessions.ts';
import type { VerifyState } from './state.ts';

/** What a verification knows when it begins. */
export interface Beginning {
  readonly sessions: Sessions;
  readonly tally: Tally;
  readonly signers: Map<PublicKey, number>;
}

/** Returns where `state` ended, or the beginning of a log. */
export function beginningFrom(state: VerifyState | undefined): Beginning {
  if (state === undefined) {
    return { sessions: new Sessions(), tally: emptyTally(), signers: new Map() };
  }
  const { current, ended, cut } = state.sessions;
  const sessions = new Sessions(
    HashSet.fromBytes(Buffer.from(ended.kept, 'base64'), Buffer.from(ended.secret, 'base64')),
    current.map(({ session, tsNs, leaf, swarm, ...rest }) => [
      session,
      { ...rest, swarm, leaf: leaf as Sha256Hex, tsNs: BigInt(tsNs) },
    ]),
    cut,
  );
  return {
    sessions,
    tally: { ...emptyTally(), ...state.tally },
    signers: new Map(state.signers as [PublicKey, number][]),
  };
}

/** Returns the state of a verification that found nothing. */
export function stateOf(
  { sessions, tally, signers }: Beginning,
  more: Pick<VerifyState, 'terms' | 'files' | 'unresolved'>,
): VerifyState {
  const { current, ended, cut } = sessions.state;
  const { bad: _, firstBad: __, ...counts } = tally;
  return {
    version: 1,
    ...more,
    sessions: {
      current: current.map(([session, { swarm, tsNs, ...rest }]) => ({
        session,
        ...rest,
        tsNs: String(tsNs),
        ...(swarm !== undefined && { swarm }),
      })),
      ended: { secret: ended.secret.toString('base64'), kept: ended.toBytes().toString('base64') },
      cut,
    },
    tally: counts,
    signers: [...signers],
  };
}
