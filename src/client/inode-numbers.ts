/**
 * Inode numbers of this session, reserved ahead of need so that making an inode costs no round trip.
 * INVARIANT: a number is given out at most once.
 */
import { asIno, type Ino } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import type { ReserveIds } from './id-ranges.js';

export class InodeNumbers {
  readonly #reserve: ReserveIds;
  #next = 0;
  #end = 0;
  /** The range after this one. */
  #following: { readonly first: number; readonly count: number } | undefined;
  #isFetching = false;
  /** Rises when the session changes: an answer for an earlier one is void. */
  #generation = 0;

  constructor(reserve: ReserveIds) {
    this.#reserve = reserve;
  }

  /** Undefined when there is none now; it is asked for. */
  take(): Ino | undefined {
    if (this.#next === this.#end && this.#following !== undefined) {
      const { first, count } = this.#following;
      [this.#next, this.#end, this.#following] = [first, first + count, undefined];
    }
    this.prepare();
    return this.#next < this.#end ? asIno(this.#next++) : undefined;
  }

  /** Some will be wanted soon. */
  prepare(): void {
    if (this.#isFetching || this.#following !== undefined || this.#end - this.#next > limits.inodesLow)
      return;
    this.#isFetching = true;
    const generation = this.#generation;
    this.#reserve(limits.inodesReserved)
      .then((range) => {
        if (generation === this.#generation) this.#following = range;
      })
      // Who wants one asks again.
      .catch(() => {})
      .finally(() => {
        if (generation === this.#generation) this.#isFetching = false;
      });
  }

  /** The session they belonged to is over. */
  clear(): void {
    this.#generation++;
    this.#following = undefined;
    this.#isFetching = false;
    this.#next = this.#end;
  }
}
