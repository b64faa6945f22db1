/**
 * The lines that a verification read, read again: as many of each file, and only if they are the same.
 *
 * A log may have grown since, and its growing segment may have been closed under another name: what is new is left out. It
 * may also have been tampered with since: the lines of a file have the root that was verified, or `LOG_OPEN` is thrown
 * after the last of them.
 */
import { closeSync, read } from 'node:fs';
import { promisify } from 'node:util';
import { messageOf, SwarmError } from '../base/errors.ts';
import { linesFrom } from '../log/file-tree.ts';
import { TileTree } from '../merkle/tile-tree.ts';
import { leafOfLine } from '../record/entry.ts';
import { openNext } from './open-next.ts';
import type { FileTree } from './report.ts';

const readAsync = promisify(read);
const leavesAtOnce = 4_096;

/** A file of a log that stays the same whatever its name becomes, open until `[Symbol.dispose]`. */
export interface VerifiedFile {
  readonly file: string;
  readonly fd: number;
}

/** A line that is not blank. */
export interface VerifiedLine extends VerifiedFile {
  /** Counted from 1, blank lines included. */
  readonly line: number;
  readonly offset: number;
  /** Without the LF. */
  readonly bytes: Buffer;
  /** 32 bytes: docs/format.md, section 8. */
  readonly leaf: Buffer;
}

/** The files of one log, as they were verified. */
export class VerifiedFiles implements Disposable {
  readonly path: string;
  readonly #trees: readonly FileTree[];
  readonly #open: number[] = [];

  /** `trees` is what the verification of the log at `path` reported. */
  constructor(path: string, trees: readonly FileTree[]) {
    this.path = path;
    this.#trees = trees;
  }

  /** Yields the lines in the order of the files. Their files stay open. Throws `LOG_OPEN`. */
  async *lines(): AsyncGenerator<VerifiedLine> {
    const done = new Set<bigint>();
    for (const [index, tree] of this.#trees.entries()) {
      for (let found = false; !found; ) {
        const opened = openNext(this.path, done);
        if (opened === undefined) {
          const gone = `${this.path}: ${this.#trees.length - index} of its files are gone`;
          throw changed(gone);
        }
        done.add(opened.inode);
        this.#open.push(opened.fd);
        for await (const line of linesOf(opened, tree)) {
          found = true; // a file without lines has no tree
          yield line;
        }
      }
    }
  }

  [Symbol.dispose](): void {
    for (const fd of this.#open.splice(0)) closeSync(fd);
  }
}

async function* linesOf({ file, fd }: VerifiedFile, { size, root }: FileTree): AsyncGenerator<VerifiedLine> {
  const tree = new TileTree();
  let [line, offset] = [0, 0];
  try {
    for await (const { line: bytes, end } of linesFrom({ read: readFrom(fd) }, 0)) {
      line += 1;
      if (bytes.length > 0) {
        const leaf = Buffer.from(leafOfLine(bytes), 'hex');
        tree.append(leaf);
        if (tree.size % leavesAtOnce === 0) tree.takeTiles();
        yield { file, fd, line, offset, bytes, leaf };
      }
      offset = end;
      if (tree.size === size) break;
    }
  } catch (cause) {
    if (cause instanceof SwarmError) throw cause;
    throw new SwarmError('LOG_OPEN', `cannot read ${file}: ${messageOf(cause)}`, { cause });
  }
  if (tree.size === 0) return;
  if (tree.size < size || tree.root().toString('hex') !== root) throw changed(`${file} is not what it was`);
}

function readFrom(fd: number) {
  return (into: Buffer, at: number, length: number, position: number): Promise<{ bytesRead: number }> =>
    readAsync(fd, into, at, length, position);
}

/** Returns the error for a log that was changed while it was read. */
export function changed(what: string): SwarmError {
  return new SwarmError('LOG_OPEN', `${what}: the log was changed after it was verified; verify it again`);
}
