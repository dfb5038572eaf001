/**
 * Which inodes the kernel refers to: every entry that a reply gives it counts once, until it says FORGET.
 * What loses its last name through this mount while the kernel refers to it stays: a working directory that
 * was removed, a file between its lookup and its open that a rename replaces. The server holds it for the
 * session (a mark that is put with the removal itself) and is told when the kernel has forgotten it.
 *
 * It does not: hold what another mount removes; that is gone at once, and using it gives ENOENT or ESTALE.
 *
 * **Source:** fuse_iget, fuse_evict_inode (fs/fuse/inode.c); libfuse's fuse_lowlevel.h on forget.
 */
import { chain, type MaybePromise } from '../base/maybe-promise.js';
import type { Filesystem } from '../client/filesystem.js';
import type { Ino } from '../proto/ids.js';
import type { FileState } from './file-state.js';
import type { FileTable } from './file-table.js';
import type { OpenInodes } from './open-inodes.js';

interface Removal {
  readonly held?: Ino;
}

export class KernelReferences {
  readonly #fs: Filesystem;
  readonly #files: FileTable;
  readonly #opens: OpenInodes;
  /** INVARIANT: counts are > 0. As many as the kernel has inodes. */
  readonly #counts = new Map<Ino, number>();

  constructor(fs: Filesystem, files: FileTable, opens: OpenInodes) {
    this.#fs = fs;
    this.#files = files;
    this.#opens = opens;
  }

  has(ino: Ino): boolean {
    return this.#counts.has(ino);
  }

  /** A reply gives the kernel one more reference. */
  add(ino: Ino): void {
    this.#counts.set(ino, (this.#counts.get(ino) ?? 0) + 1);
  }

  forget(ino: Ino, count: number): void {
    const left = (this.#counts.get(ino) ?? 0) - count;
    if (left > 0) {
      this.#counts.set(ino, left);
      return;
    }
    this.#counts.delete(ino);
    const state = this.#files.get(ino);
    if (state?.isHeld !== true) return;
    state.isHeld = false;
    this.#unreachable(state);
  }

  /** Runs a removal that lets the session hold what loses its last name. **Errors:** `call`'s. */
  removing(call: (holds: true, late: (reply: Removal) => void) => MaybePromise<Removal>): MaybePromise<void> {
    const { generation } = this.#fs;
    const late = (reply: Removal): void => this.#removed(reply, generation);
    return this.#opens.removing(() => chain(call(true, late), late));
  }

  #removed({ held }: Removal, generation: number): void {
    if (held === undefined) return;
    const state = this.#files.use(held);
    state.markedIn = generation;
    state.isHeld = this.#counts.has(held);
    if (!state.isHeld) this.#unreachable(state);
  }

  /** It has no name, and the kernel does not refer to it: what is open of it is all that is left. */
  #unreachable(state: FileState): void {
    if (state.opens > 0) return;
    // Nobody can read what is pending any more, and a commit of what is gone would go to the server.
    if (state.opening === 0 && !state.pending.isClean) this.#fs.cutPending(state.pending, 0);
    this.#opens.close(state);
  }
}
