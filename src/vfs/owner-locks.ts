/**
 * What one owner has locked in one file, as this mount knows it, and its exchanges with the server about it,
 * one after another: an answer that comes late is dealt with before the owner's next request is sent.
 *
 * INVARIANT: while no exchange is under way, `ranges` is what the server has for this owner and file.
 */
import type { LockedRange } from '../lease/lock-ranges.js';
import type { LockSpace } from '../lease/locks.js';
import type { Ino, LockOwner } from '../proto/ids.js';

export class OwnerLocks {
  readonly ino: Ino;
  readonly space: LockSpace;
  readonly owner: LockOwner;
  ranges: readonly LockedRange[] = [];
  /** Exchanges under way or waiting for their turn, and requests that wait for the lock. */
  users = 0;
  #last: Promise<void> | undefined;

  constructor(ino: Ino, space: LockSpace, owner: LockOwner) {
    this.ino = ino;
    this.space = space;
    this.owner = owner;
  }

  /** Nothing is held and nobody is about to. */
  get isIdle(): boolean {
    return this.users === 0 && this.ranges.length === 0;
  }

  /** Runs an exchange when those before are over; in this very turn when there is none. */
  inTurn(exchange: () => Promise<void>): Promise<void> {
    const result = this.#last === undefined ? exchange() : this.#last.then(exchange);
    const over = result.then(
      () => {},
      // Its caller gets the error; the next exchange only needs to know that it is over.
      () => {},
    );
    this.#last = over;
    void over.then(() => {
      if (this.#last === over) this.#last = undefined;
    });
    return result;
  }
}
