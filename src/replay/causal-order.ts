/**
 * One total order of records from any number of files: cause before effect, then session order, then time, then leaf.
 *
 * It is the order of Kahn's algorithm over the edges from a record's session, cause and refs, which takes of those that
 * may come next the one with the least (ts_ns, leaf). It depends on the records alone, not on the files that they are in.
 * There are no circles: an edge is a hash of what it comes from.
 *
 * Nodes are sorted by time and leaf, and numbered: a rank. Each edge is joined with the rank that it comes from, by
 * sorting both by leaf, so it is known exactly which causes there are. Then the nodes go by once more, in the order of
 * their ranks. One whose causes have all gone by is next; any other waits until they have. Only what waits is in memory:
 * as much as clocks disagree about. So are 4 bytes for each record: its place in the order, for those that name it.
 */
import { SwarmError } from '../base/errors.ts';
import { Heap } from './heap.ts';
import { edge, edgesOf, identityBytes, isSame, leafBytes, leafOf } from './node.ts';
import { Sorter } from './sorter.ts';

/** A node in its place. */
export interface Placed {
  readonly node: Buffer;
  /** Counted from 0. */
  readonly index: number;
  /** The index of its cause, if that is among the records. */
  readonly cause: number | undefined;
  /** The indices of those of its refs that are among the records, in their order. */
  readonly refs: readonly number[];
}

const rankBytes = 6;

/** An edge whose beginning is there. */
interface Edge {
  readonly type: number;
  readonly from: number;
}

interface Waiting {
  readonly node: Buffer;
  readonly edges: readonly Edge[];
  missing: number;
}

export class CausalOrder implements Disposable {
  readonly #nodes: Sorter;
  readonly #edges: Sorter;
  /** How many records there are, each counted once. */
  readonly size: number;

  /** Orders what is in `nodes`, which stays its owner's. `memoryBytes` is how much of what is sorted is in memory. */
  constructor(nodes: Sorter, memoryBytes: number) {
    this.#nodes = nodes;
    using byLeaf = new Sorter(memoryBytes);
    this.size = this.#addByLeaf(byLeaf);
    this.#edges = joined(byLeaf, memoryBytes);
  }

  [Symbol.dispose](): void {
    this.#edges[Symbol.dispose]();
  }

  /** Yields all records in order. A node is a view that holds until the next. Can be called again. */
  *placed(): Generator<Placed> {
    const indexOf = new Uint32Array(this.size); // by rank
    const waiting = new Map<number, Waiting>();
    const awaitedBy = new Map<number, number[]>();
    const ready = new Heap<number>((one, other) => one < other);
    let index = 0;
    const place = (rank: number, node: Buffer, edges: readonly Edge[]): Placed => {
      indexOf[rank] = index;
      for (const effect of awaitedBy.get(rank) ?? []) {
        const its = waiting.get(effect) as Waiting;
        its.missing -= 1;
        if (its.missing === 0) ready.push(effect);
      }
      awaitedBy.delete(rank);
      const cause = edges.find(({ type }) => type === edge.cause);
      const refs = edges.filter(({ type }) => type === edge.ref);
      const placed = {
        node,
        index,
        cause: cause && indexOf[cause.from],
        refs: refs.map(({ from }) => indexOf[from] as number),
      };
      index += 1;
      return placed;
    };
    function* placeReady(): Generator<Placed> {
      for (let rank = ready.pop(); rank !== undefined; rank = ready.pop()) {
        const { node, edges } = waiting.get(rank) as Waiting;
        waiting.delete(rank);
        yield place(rank, node, edges);
      }
    }
    for (const { rank, node, edges } of this.#ranked()) {
      // Whatever is ready has waited, so its time is before this one's.
      yield* placeReady();
      const missing = new Set(
        edges.map(({ from }) => from).filter((from) => from > rank || waiting.has(from)),
      );
      if (missing.size === 0) {
        yield place(rank, node, edges);
        continue;
      }
      waiting.set(rank, { node: Buffer.from(node), edges, missing: missing.size });
      for (const cause of missing) {
        const effects = awaitedBy.get(cause);
        if (effects === undefined) awaitedBy.set(cause, [rank]);
        else effects.push(rank);
      }
    }
    yield* placeReady();
    if (waiting.size > 0) throw new SwarmError('LOG_OPEN', `${waiting.size} records cause each other`);
  }

  /** Yields each record once. */
  *#distinct(): Generator<Buffer> {
    const last = Buffer.alloc(identityBytes);
    let isFirst = true;
    for (const node of this.#nodes.sorted()) {
      if (!isFirst && isSame(last, node)) continue;
      isFirst = false;
      node.copy(last, 0, 0, identityBytes);
      yield node;
    }
  }

  /** Adds a row for each record and for each edge, under the leaf that it is or comes from; returns how many records. */
  #addByLeaf(byLeaf: Sorter): number {
    const row = Buffer.alloc(leafBytes + 1 + 1 + rankBytes);
    let rank = 0;
    for (const node of this.#distinct()) {
      leafOf(node).copy(row);
      row[leafBytes] = 0; // before its edges
      row.writeUIntBE(rank, leafBytes + 1, rankBytes);
      byLeaf.add(row, leafBytes + 1 + rankBytes);
      for (const [number, { leafAt }] of edgesOf(node).entries()) {
        node.copy(row, 0, leafAt, leafAt + leafBytes);
        row[leafBytes] = 1;
        row[leafBytes + 1 + rankBytes] = number;
        byLeaf.add(row);
      }
      rank += 1;
    }
    return rank;
  }

  /** Yields the records by rank, each with its edges that come from somewhere. */
  *#ranked(): Generator<{ readonly rank: number; readonly node: Buffer; readonly edges: readonly Edge[] }> {
    const rows = this.#edges.sorted();
    let row = rows.next();
    let rank = 0;
    for (const node of this.#distinct()) {
      const all = edgesOf(node);
      const edges: Edge[] = [];
      while (row.done !== true && row.value.readUIntBE(0, rankBytes) === rank) {
        const type = all[row.value[rankBytes] as number]?.type as number;
        edges.push({ type, from: row.value.readUIntBE(rankBytes + 1, rankBytes) });
        row = rows.next();
      }
      yield { rank, node, edges };
      rank += 1;
    }
  }
}

/** Returns the edges whose beginnings there are, by the rank that they lead to: that rank, which edge of it, and from where. */
function joined(byLeaf: Sorter, memoryBytes: number): Sorter {
  const edges = new Sorter(memoryBytes);
  try {
    for (const row of joinedRows(byLeaf)) edges.add(row);
    return edges;
  } catch (thrown) {
    edges[Symbol.dispose]();
    throw thrown;
  }
}

/** Yields the rows of `joined`, in the order of leaves; each a view that holds until the next. */
function* joinedRows(byLeaf: Sorter): Generator<Buffer> {
  const row = Buffer.alloc(2 * rankBytes + 1);
  const leaf = Buffer.alloc(leafBytes);
  let from: number | undefined;
  for (const found of byLeaf.sorted()) {
    const rank = found.readUIntBE(leafBytes + 1, rankBytes);
    if (found[leafBytes] === 0) {
      found.copy(leaf, 0, 0, leafBytes);
      from = rank;
    } else if (from !== undefined && found.compare(leaf, 0, leafBytes, 0, leafBytes) === 0) {
      row.writeUIntBE(rank, 0, rankBytes);
      row[rankBytes] = found[leafBytes + 1 + rankBytes] as number;
      row.writeUIntBE(from, rankBytes + 1, rankBytes);
      yield row;
    }
  }
}
