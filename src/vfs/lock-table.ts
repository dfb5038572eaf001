/**
 * Which owners have locks in which files of this mount, and through which handles: so that a close without
 * locks costs no round trip, and the last close of an open file description lets go of what was locked by it.
 */
import type { LockSpace } from '../lease/locks.js';
import type { Ino, LockOwner } from '../proto/ids.js';
import { OwnerLocks } from './owner-locks.js';

const keyOf = (ino: Ino, space: LockSpace, owner: LockOwner): string => `${ino}/${space}/${owner}`;

export class MountLockTable {
  readonly #owners = new Map<string, OwnerLocks>();
  /** By handle: the owners that locked through it and are not idle. */
  readonly #handles = new Map<number, Set<OwnerLocks>>();

  find(ino: Ino, space: LockSpace, owner: LockOwner): OwnerLocks | undefined {
    return this.#owners.size === 0 ? undefined : this.#owners.get(keyOf(ino, space, owner));
  }

  /** The owner's locks, made when there are none, noted for the handle. End with `leave`. */
  enter(ino: Ino, fh: number, space: LockSpace, owner: LockOwner): OwnerLocks {
    const key = keyOf(ino, space, owner);
    const locks = this.#owners.get(key) ?? new OwnerLocks(ino, space, owner);
    this.#owners.set(key, locks);
    this.#handles.set(fh, (this.#handles.get(fh) ?? new Set()).add(locks));
    locks.users++;
    return locks;
  }

  leave(locks: OwnerLocks): void {
    locks.users--;
    if (!locks.isIdle) return;
    this.#owners.delete(keyOf(locks.ino, locks.space, locks.owner));
    for (const [fh, of] of this.#handles) if (of.delete(locks) && of.size === 0) this.#handles.delete(fh);
  }

  /** Whether something is locked that was got through this handle. */
  isLocked(fh: number): boolean {
    return [...(this.#handles.get(fh) ?? [])].some(({ ranges }) => ranges.length > 0);
  }

  /** The owners that locked through this handle, which is closed now. */
  closeHandle(fh: number): OwnerLocks[] {
    const locks = [...(this.#handles.get(fh) ?? [])];
    this.#handles.delete(fh);
    return locks;
  }

  /** The server holds nothing for this mount any more. The handles through which something was locked. */
  clear(): number[] {
    const handles = [...this.#handles.keys()].filter((fh) => this.isLocked(fh));
    for (const locks of [...this.#owners.values()]) {
      locks.ranges = [];
      locks.users++;
      this.leave(locks);
    }
    return handles;
  }

  /** Files and owners with locks, for tests. */
  get size(): number {
    return this.#owners.size;
  }
}
