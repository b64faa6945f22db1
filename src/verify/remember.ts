/**
 * A verification as the state that the next one goes on from, and back.
 */
import type { PublicKey } from '../identity/key.ts';
import { HashSet } from './hash-set.ts';
import { emptyTally, type Tally } from './history.ts';
import { SessionTable } from './session-table.ts';
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
  const sessions = new Sessions({
    current: SessionTable.from({ texts: current.texts, entries: bytesOf(current.packed) }),
    ended: HashSet.fromBytes(bytesOf(ended.packed), bytesOf(ended.secret)),
    cut,
  });
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
  const { texts, entries } = current.packed;
  const { bad: _, firstBad: __, ...counts } = tally;
  return {
    version: 1,
    ...more,
    sessions: {
      current: { texts: [...texts], packed: entries.toString('base64') },
      ended: { secret: ended.secret.toString('base64'), packed: ended.toBytes().toString('base64') },
      cut,
    },
    tally: counts,
    signers: [...signers],
  };
}

function bytesOf(base64: string): Buffer {
  return Buffer.from(base64, 'base64');
}
