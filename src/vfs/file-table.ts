/**
 * The states of files that this mount has to do with. A state stays while the file is open or has anything
 * uncommitted, and for a while afterwards, so that a reply that was overtaken still meets what replaced it
 * and a file opened again finds its extents.
 *
 * INVARIANT: at most limits.inodesRemembered states are idle.
 */
import { assert } from '../base/assert.js';
import type { Timespec } from '../base/clock.js';
import type { Ino } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import { FileState } from './file-state.js';

/** How many states are looked at for an idle one when there are too many. */
const SEARCHED = 32;

export class FileTable {
  /** Least recently used first. */
  readonly #states = new Map<Ino, FileState>();
  #busy = 0;
  readonly #now: () => Timespec;

  /** `now`: the time on the server. */
  constructor(now: () => Timespec) {
    this.#now = now;
  }

  get(ino: Ino): FileState | undefined {
    return this.#states.get(ino);
  }

  /** The state, made when there is none, and now the most recently used. */
  use(ino: Ino): FileState {
    let state = this.#states.get(ino);
    if (state === undefined) state = new FileState(ino, this.#now);
    else this.#states.delete(ino);
    this.#states.set(ino, state);
    this.#forgetOldest();
    return state;
  }

  states(): IterableIterator<FileState> {
    return this.#states.values();
  }

  #forgetOldest(): void {
    if (this.#states.size - this.#busy <= limits.inodesRemembered) return;
    let searched = 0;
    for (const [ino, state] of this.#states) {
      if (state.isIdle) {
        this.#states.delete(ino);
        return;
      }
      // In use: it goes to the end, so that the next search does not meet it again.
      this.#states.delete(ino);
      this.#states.set(ino, state);
      if (++searched === SEARCHED) break;
    }
    this.#busy = [...this.#states.values()].filter((state) => !state.isIdle).length;
  }

  checkInvariants(): void {
    for (const state of this.#states.values()) state.checkInvariants();
    const idle = [...this.#states.values()].filter((state) => state.isIdle).length;
    assert(idle <= limits.inodesRemembered + SEARCHED, 'idle states are bounded');
  }
}
