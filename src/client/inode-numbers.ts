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
  #fetching: Promise<void> | undefined;
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
    void this.prepare();
    return this.#next < this.#end ? asIno(this.#next++) : undefined;
  }

  /** Some will be wanted soon. Ends when there are some, or none could be had; never fails. */
  prepare(): Promise<void> {
    const left = this.#end - this.#next;
    if (this.#following === undefined && left <= limits.inodesLow) this.#fetching ??= this.#fetch();
    return left > 0 || this.#following !== undefined
      ? Promise.resolve()
      : (this.#fetching ?? Promise.resolve());
  }

  async #fetch(): Promise<void> {
    const generation = this.#generation;
    // Who wants one asks again.
    const range = await this.#reserve(limits.inodesReserved).catch(() => undefined);
    if (generation !== this.#generation) return;
    this.#following = range;
    this.#fetching = undefined;
  }

  /** The session they belonged to is over. */
  clear(): void {
    this.#generation++;
    this.#following = undefined;
    this.#fetching = undefined;
    this.#next = this.#end;
  }
}
